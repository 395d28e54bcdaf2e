//! What an operator orders: to deploy nothing for a while, and to try again what failed.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use crate::config::paths::Paths;
use crate::deploy::accepted_main;
use crate::deploy::confirm;
use crate::deploy::cycle::{Ending, Machine};
use crate::git::Mirror;
use crate::model::state::State;
use crate::model::suspension::Suspension;
use crate::state::requests;
use crate::state::requests::Rewrite;
use crate::sys::fs;

/// The state by which the next deploy decides: with the accepted main that it is going to find, and what has been
/// ordered meanwhile. Nothing is changed, and an order that cannot be understood is that deploy's to tell.
pub fn foreseen(paths: &Paths, mirror: Option<&Mirror>) -> Result<State> {
    let mut state = accepted_main::presumed(paths, mirror)?;
    if paths.retry().exists() {
        state.forgive();
    }
    if let Ok(Some(rewrite)) = Rewrite::read(paths) {
        state.accepted_main = Some(rewrite.commit);
    }
    confirm::foresee(&mut state, paths);
    Ok(state)
}

impl Machine {
    /// Suspends deployments.
    pub fn suspend(&self, reason: Option<String>, time: Option<SignedDuration>) -> Result<Ending> {
        let until = time.and_then(|time| Timestamp::now().checked_add(time).ok());
        let reason = reason.filter(|reason| !reason.trim().is_empty());
        let suspension = Suspension::new(Timestamp::now(), until, reason);
        requests::write_suspension(&suspension, &self.paths)?;
        log::info!("{suspension}");
        // What is evaluated or built at the moment notices.
        requests::request_for_order(&self.paths);
        Ok(Ending::Done)
    }

    /// Ends a suspension, and asks for a deploy.
    pub fn resume(&self) -> Result<Ending> {
        if requests::end_suspension(&self.paths)? {
            log::info!("comin deploys again");
        } else {
            log::info!("comin was not suspended");
        }
        requests::request_for_order(&self.paths);
        Ok(Ending::Done)
    }

    /// Orders that what failed or is in quarantine be tried again, and what is deployed but was not
    /// booted, and asks for a deploy.
    pub fn retry(&self) -> Result<Ending> {
        fs::replace_durably(&self.paths.retry(), b"")?;
        log::info!("The next deploy tries again what failed or is in quarantine");
        requests::request_for_order(&self.paths);
        Ok(Ending::Done)
    }
}
