//! What is in the way of a target, when that ends, and what a person can do about it.

use super::page::Page;
use crate::model::decision::Action;
use crate::model::schedule::either;
use crate::sys::text::printable;

/// As a clause about the target, as in "it is tried again in 4 min, or at once with comin retry"; `None` where
/// nothing is in the way. `why` is whether a person has not been told yet what was wrong with it.
pub(super) fn clause(action: &Action, why: bool, page: &Page) -> Option<String> {
    const MEND: &str = "push a commit that mends it, or try this one again with comin retry";
    match action {
        Action::Deploy | Action::Nothing => None,
        Action::Retry(wait) => {
            let when = page.until(wait.until);
            let failed = if why {
                "it failed before, and is"
            } else {
                "it is"
            };
            Some(format!(
                "{failed} tried again {when}, or at once with comin retry"
            ))
        }
        Action::AwaitRemotes(remotes) => {
            let outage = if why {
                "it was rolled back in an outage, and is"
            } else {
                "it is"
            };
            let remotes = either(remotes);
            Some(format!(
                "{outage} tried again when {remotes} is back, or at once with comin retry"
            ))
        }
        Action::AwaitConfirmation(step, until) => {
            let what = step.participle();
            Some(match until {
                Some(wait) => {
                    let when = page.until(wait.until);
                    format!("it waits to be {what} {when}, or at once with comin confirm {step}")
                }
                None => {
                    format!("it waits for your confirmation to be {what}: comin confirm {step}")
                }
            })
        }
        Action::Quarantined(quarantine) => {
            let reason = if why {
                format!("\nreason: {}", printable(&quarantine.reason))
            } else {
                String::new()
            };
            Some(format!(
                "it is in quarantine until a head moves: {MEND}{reason}"
            ))
        }
        Action::Suspended(suspension) => {
            let until = suspension.until;
            let until = until.map_or(String::new(), |at| format!(" until {}", page.at(at)));
            let reason = suspension.reason.as_deref();
            let reason = reason.map_or(String::new(), |text| format!(" ({})", printable(text)));
            Some(format!(
                "comin is suspended{until}{reason}: comin resume ends that"
            ))
        }
        Action::GivenUp => {
            let failed = if why {
                "its activation failed, and it is"
            } else {
                "it is"
            };
            Some(format!("{failed} not tried again by itself: {MEND}"))
        }
    }
}
