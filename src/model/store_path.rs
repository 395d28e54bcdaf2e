//! Paths in the Nix store.

use std::ffi::OsStr;
use std::path::Path;

/// Where Nix keeps what it builds.
pub const STORE: &str = "/nix/store";
/// More than a path in it can have: the folder, a hash and a name.
pub const LONGEST: usize = 300;

/// Whether a path can be one in the store. A name there begins with a hash, and has no other letters than these: it
/// moves no cursor, is no option, and leads nowhere else.
pub fn is_valid(path: &Path) -> bool {
    let name = path.to_str().and_then(|path| path.strip_prefix(STORE));
    let name = name.and_then(|name| name.strip_prefix('/'));
    path.as_os_str().len() <= LONGEST
        && name.is_some_and(|name| {
            name.chars().all(is_safe) && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        })
}

/// Whether a letter can be in a name.
pub fn is_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+-._?=".contains(c)
}

/// Whether Nix takes it for a derivation.
pub fn is_derivation(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("drv"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_in_the_store_is_a_path_of_it() {
        let is_valid = |path: &str| super::is_valid(Path::new(path));
        assert!(is_valid("/nix/store/0a-nixos-system-m-26.05+x_y?z=.drv"));
        let long = format!("/nix/store/{}", "a".repeat(LONGEST));
        for path in [
            "",
            "--help",
            "/nix/store",
            "/nix/store/",
            "/nix/store/..",
            "/nix/store/.a",
            "/nix/store/-a",
            "/nix/store/a/b",
            "/nix/store/a/",
            "/nix/store/a/.",
            "/nix/storea",
            "/nix/store/\u{1b}[31m",
            "/nix/store/a b",
            "/nix/store/$HOME",
            "/nix/store/ä",
            "/tmp/a",
            &long,
        ] {
            assert!(!is_valid(path), "{path}");
        }
    }
}
