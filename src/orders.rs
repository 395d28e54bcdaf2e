//! What an operator orders: to deploy nothing for a while, and to try again what failed.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use crate::cycle::{Ending, Machine};
use crate::decided;
use crate::fs;
use crate::suspension::Suspension;

impl Machine {
    /// Suspends deployments.
    ///
    /// # Errors
    /// The order cannot be written.
    pub fn suspend(&self, reason: Option<String>, time: Option<SignedDuration>) -> Result<Ending> {
        let until = time.and_then(|time| Timestamp::now().checked_add(time).ok());
        let reason = reason.filter(|reason| !reason.trim().is_empty());
        let suspension = Suspension::now(until, reason);
        suspension.write(&self.paths)?;
        // What is evaluated or built at the moment notices.
        decided::request(&self.paths)?;
        log::info!("{suspension}");
        Ok(Ending::Done)
    }

    /// Ends a suspension, and asks for a deploy.
    ///
    /// # Errors
    /// The order cannot be taken back.
    pub fn resume(&self) -> Result<Ending> {
        if Suspension::end(&self.paths)? {
            log::info!("comin deploys again");
        } else {
            log::info!("comin was not suspended");
        }
        decided::request(&self.paths)?;
        Ok(Ending::Done)
    }

    /// Orders that what failed or is in quarantine be tried again, and what is deployed but was not
    /// booted, and asks for a deploy.
    ///
    /// # Errors
    /// The order cannot be written.
    pub fn retry(&self) -> Result<Ending> {
        fs::replace_durably(&self.paths.retry(), b"")?;
        decided::request(&self.paths)?;
        log::info!("The next deploy tries again what failed or is in quarantine");
        Ok(Ending::Done)
    }
}
