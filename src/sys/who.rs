//! Who gives an order.

use std::env::var;

use crate::sys::text::printable;

/// The variable in which pkexec names the user who has started it.
const PKEXEC: &str = "PKEXEC_UID";

/// As in `me`, `uid 1000` or `root`: whoever used sudo or pkexec, else the user that this process runs as.
pub fn orders() -> String {
    name(
        of("SUDO_USER"),
        of(PKEXEC),
        rustix::process::getuid().as_raw(),
    )
}

/// Whether pkexec has started this, or the shell that did.
pub fn uses_pkexec() -> bool {
    of(PKEXEC).is_some()
}

/// Whether a shell has started this, by a variable that pkexec takes from nobody.
pub fn is_in_shell() -> bool {
    of("SHLVL").is_some()
}

fn of(name: &str) -> Option<String> {
    var(name).ok().filter(|value| !value.is_empty())
}

fn name(sudo: Option<String>, pkexec: Option<String>, uid: u32) -> String {
    match (sudo, pkexec, uid) {
        (Some(user), _, _) => printable(&user).into_owned(),
        (None, Some(uid), _) => format!("uid {}", printable(&uid)),
        (None, None, 0) => "root".to_string(),
        (None, None, uid) => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_used_sudo_or_pkexec_gives_the_order() {
        let text = |text: &str| Some(text.to_string());
        assert_eq!(name(text("me"), None, 0), "me");
        assert_eq!(name(text("m\ne\u{1b}[2J"), None, 0), "m e\u{fffd}[2J");
        assert_eq!(name(None, text("1000"), 0), "uid 1000");
        assert_eq!(name(None, None, 0), "root");
        assert_eq!(name(None, None, 30000), "uid 30000");
    }
}
