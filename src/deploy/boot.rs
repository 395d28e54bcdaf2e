//! The boot that the machine is in, and whether it booted what was deployed.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::paths::Paths;
use crate::deploy::context::Context;
use crate::model::state::State;
use crate::sys::fs;
use crate::system;

/// The system that the machine booted instead of the one that was deployed last to stay.
pub fn booted_instead(ctx: &Context, state: &State) -> Result<Option<PathBuf>> {
    let booted = fs::read_link_optional(&ctx.paths.booted_system())?;
    let boots = system::of_profile(&ctx.profile());
    let boot = id(&ctx.paths)?;
    let deployed = state.last_permanent();
    let deployed =
        deployed.and_then(|attempt| Some((attempt.out.as_deref()?, attempt.boot.as_deref())));
    let is_another = is_another(
        deployed,
        boots.as_deref(),
        booted.as_deref(),
        boot.as_deref(),
    );
    Ok(booted.filter(|_| is_another))
}

/// The kernel's name for this boot, `None` where it has none.
pub fn id(paths: &Paths) -> Result<Option<String>> {
    let id = fs::read_optional(&paths.boot_id())?;
    Ok(id.map(|id| String::from_utf8_lossy(&id).trim().to_string()))
}

/// Whether another system booted than the one that was deployed: somebody chose it in the boot loader, or
/// the boot fell back. A profile that is elsewhere was moved by somebody, and what booted is theirs.
///
/// `deployed` is the latest system that was deployed to stay, and the boot in which that was; `boots` is the system
/// that the profile is at, `booted` the one that booted, and `boot` is this boot.
fn is_another(
    deployed: Option<(&Path, Option<&str>)>,
    boots: Option<&Path>,
    booted: Option<&Path>,
    boot: Option<&str>,
) -> bool {
    let Some((deployed, in_boot)) = deployed else {
        return false;
    };
    let has_booted_since = in_boot.is_some() && boot.is_some() && in_boot != boot;
    let should_have = boots == Some(deployed);
    has_booted_since && should_have && booted.is_some_and(|booted| booted != deployed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_system_booted() {
        let path = |name: &'static str| Some(Path::new(name));
        let in_boot_1 = Some((Path::new("b"), Some("1")));
        for (deployed, boots, booted, boot, wanted) in [
            (in_boot_1, path("b"), path("a"), Some("2"), true),
            // Not booted since, or nobody knows.
            (in_boot_1, path("b"), path("a"), Some("1"), false),
            (in_boot_1, path("b"), path("a"), None, false),
            (
                Some((Path::new("b"), None)),
                path("b"),
                path("a"),
                Some("2"),
                false,
            ),
            // As it should be.
            (in_boot_1, path("b"), path("b"), Some("2"), false),
            // Rolled back by hand, or rebuilt.
            (in_boot_1, path("a"), path("a"), Some("2"), false),
            (in_boot_1, None, path("a"), Some("2"), false),
            // Nothing deployed, nothing booted.
            (None, path("b"), path("a"), Some("2"), false),
            (in_boot_1, path("b"), None, Some("2"), false),
        ] {
            let case = (deployed, boots, booted, boot);
            assert_eq!(
                is_another(deployed, boots, booted, boot),
                wanted,
                "{case:?}"
            );
        }
    }
}
