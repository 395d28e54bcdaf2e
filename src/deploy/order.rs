//! The trace that an order leaves.

use crate::deploy::context::Context;
use crate::sys::{journal, journald::JournalSocket, who};

/// Says that an order was given: to whoever gave it, and to the journal, which does not read a terminal, by whom.
pub fn log_order(ctx: &Context, text: &str) {
    let entry = format!("{text} (ordered by {})", who::orders());
    if journal::reads_us() {
        log::info!("{entry}");
        return;
    }
    log::info!("{text}");
    if ctx.paths.is_machine() {
        let told = JournalSocket::about("comin.service").and_then(|socket| socket.send(5, &entry));
        if let Err(error) = told {
            log::debug!("The journal does not hear of the order: {error}");
        }
    }
}
