//! The trace that an order leaves.

use jiff::Timestamp;

use crate::deploy::context::Context;
use crate::state::requests;
use crate::sys::{journal, journald::JournalSocket, who};

/// Says that an order was given, and asks for the deploy that takes it up. If comin is suspended, that deploy waits.
pub fn order_deploy(ctx: &Context, text: &str) {
    log_order(ctx, text);
    requests::request_for_order(&ctx.paths);
    // A suspension that cannot be read is the deploy's to report.
    if let Ok(Some(suspension)) = requests::read_suspension(&ctx.paths, Timestamp::now()) {
        log::warn!("The deployment still waits: {suspension}");
    }
}

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
