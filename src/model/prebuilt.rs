//! Systems that CI has built: where they are named, and what ties one to a commit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};
use serde::{Deserialize, Serialize};

use crate::model::{commit::Commit, schedule::Delay, store_path, target::Target};
use crate::sys::text::{printable, shortened};

/// What stays as it is in an address.
const SAFE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// How much of a wrong text is shown.
const SHOWN: usize = 80;

/// Where CI names the systems that it has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prebuilt {
    /// In the notes of that name.
    pub notes: Option<String>,
    /// In the answer of a server at this address, in which `{hostname}`, `{commit}` and `{branch}` are replaced.
    pub url: Option<String>,
    /// How long a machine waits until it evaluates the commit by itself; `None` is for ever.
    pub patience: Option<SignedDuration>,
}

/// What was found when the system of a commit was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// The commit.
    pub commit: Commit,
    /// Since when its system has been looked for.
    pub since: Timestamp,
    /// When the commit is evaluated instead, if it is.
    pub patience: Option<Delay>,
    /// Its system, if there is one.
    pub system: Option<PathBuf>,
    /// Why there is none, if that is not only because CI has not named it yet.
    pub problem: Option<String>,
}

impl Lookup {
    /// Whether a target waits for its system.
    pub fn is_awaited(&self, target: &Target, now: Timestamp) -> bool {
        let is_over = self.patience.is_some_and(|wait| wait.has_elapsed(now));
        self.commit == target.commit && self.system.is_none() && !is_over
    }

    /// The word for a target that waits for its system.
    pub const WORD: &str = "waits for CI";

    /// As in " until it is evaluated here in 4 min".
    pub fn until(&self, when: &dyn Fn(Timestamp) -> String) -> String {
        let wait = self.patience.map(|wait| when(wait.until));
        wait.map_or(String::new(), |when| {
            format!(" until it is evaluated here {when}")
        })
    }

    /// The system of a target.
    pub fn system_of(&self, target: &Target) -> Option<&Path> {
        self.system
            .as_deref()
            .filter(|_| self.commit == target.commit)
    }
}

/// What the module writes into a system as `comin.json`. Keys of a later version are passed over.
#[derive(Debug, Deserialize)]
pub struct Identity {
    /// `services.comin.hostname`.
    pub hostname: String,
    /// `services.comin.machineId`.
    pub machine_id: Option<String>,
    /// `system.configurationRevision`.
    pub revision: Option<String>,
}

impl Identity {
    /// Why the system is not that of a host and a commit, as a sentence with the cure.
    pub fn mismatch(
        &self,
        hostname: &str,
        commit: &Commit,
        needs_revision: bool,
    ) -> Option<String> {
        let shown = |text| shortened(text, SHOWN);
        if self.hostname != hostname {
            return Some(format!(
                "the system is that of another host: {:?}, and this one is {hostname:?}",
                shown(&self.hostname)
            ));
        }
        match self.revision.as_deref() {
            Some(revision) if revision != commit.as_str() => Some(format!(
                "the system is that of another commit: {:?}",
                shown(revision)
            )),
            None if needs_revision => Some(
                "the system does not tell its commit: set system.configurationRevision = self.rev in the configuration of this host".to_string(),
            ),
            Some(_) | None => None,
        }
    }
}

/// The system of a host in a note: that of the last line that begins with the host's name.
///
/// # Errors
/// The line names no system.
pub fn in_note(note: &[u8], hostname: &str) -> Result<Option<PathBuf>, String> {
    let lines = note.split(|byte| *byte == b'\n').rev();
    let mut systems = lines.filter_map(|line| {
        let rest = line.trim_ascii().strip_prefix(hostname.as_bytes())?;
        let is_separate = rest.first().is_some_and(u8::is_ascii_whitespace);
        is_separate.then(|| rest.trim_ascii())
    });
    systems.next().map(checked).transpose()
}

/// The system in a server's answer, which holds one, in whatever form. Derivations do not count.
///
/// # Errors
/// The answer names none, or several.
pub fn in_answer(answer: &[u8]) -> Result<PathBuf, String> {
    let text = String::from_utf8_lossy(answer);
    let is_part = |c: char| c == '/' || store_path::is_safe(c);
    let paths = text.match_indices(store_path::STORE).map(|(start, _)| {
        let rest = &text[start..];
        &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())]
    });
    let is_derivation = |path: &&str| store_path::is_derivation(Path::new(path));
    let paths: BTreeSet<&str> = paths.filter(|path| !is_derivation(path)).collect();
    let mut paths = paths.into_iter();
    match (paths.next(), paths.next()) {
        (Some(path), None) => checked(path.as_bytes()),
        (None, _) => Err("it names no store path".to_string()),
        (Some(_), Some(_)) => Err("it names several store paths".to_string()),
    }
}

fn checked(path: &[u8]) -> Result<PathBuf, String> {
    let path = String::from_utf8_lossy(path);
    let system = Path::new(&*path);
    if !store_path::is_valid(system) || store_path::is_derivation(system) {
        let path = shortened(&path, SHOWN);
        return Err(format!(
            "{} is not the store path of a system",
            printable(&path)
        ));
    }
    Ok(system.to_path_buf())
}

/// The address for the system of a target. What is put into it has no brace that would be replaced next.
pub fn address(template: &str, hostname: &str, target: &Target) -> String {
    let encoded = |text| utf8_percent_encode(text, SAFE).to_string();
    template
        .replace("{hostname}", &encoded(hostname))
        .replace("{branch}", &encoded(&target.branch))
        .replace("{commit}", target.commit.as_str())
}

/// Checks the template of an address.
pub fn check_template(template: &str) -> Result<(), String> {
    let (scheme, address) = template.split_once("://").unwrap_or_default();
    if !matches!(scheme, "http" | "https") {
        return Err("it is not the address of a server: begin it with https://".to_string());
    }
    if address.split('/').next().is_some_and(|it| it.contains('@')) {
        return Err("it contains credentials, and everybody can read the Nix store".to_string());
    }
    if !template.contains("{commit}") {
        return Err("it does not name the commit: put {commit} into it".to_string());
    }
    let names = template.split('{').skip(1);
    let names = names.filter_map(|rest| rest.split_once('}'));
    for (name, _) in names {
        if !matches!(name, "hostname" | "commit" | "branch") {
            return Err(format!(
                "{{{name}}} stands for nothing: use {{hostname}}, {{commit}} and {{branch}}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{attempt::Attempt, names::Operation};

    const A: &str = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-nixos-system-m";
    const B: &str = "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-nixos-system-m";

    #[test]
    fn last_line_of_the_host_names_its_system() {
        let found = |note: &str| in_note(note.as_bytes(), "m").unwrap();
        for (note, system) in [
            (format!("m {A}"), Some(A)),
            (format!("m {A}\nm {B}\n"), Some(B)),
            (format!("m {A}\n\nother {B}\n"), Some(A)),
            (format!("  m\t {A} \r\n"), Some(A)),
            (format!("m2 {A}\n"), None),
            (format!("am {A}\n"), None),
            (format!("see m {A}\n"), None),
            (format!("m{A}\n"), None),
            (format!("M {A}\n"), None),
            ("Built by CI\n".to_string(), None),
            ("m".to_string(), None),
            (String::new(), None),
        ] {
            assert_eq!(found(&note), system.map(PathBuf::from), "{note}");
        }
        assert_eq!(
            in_note(b"\xff\xfe\nm /nix/store/a-b\n\xff", "m")
                .unwrap()
                .unwrap(),
            Path::new("/nix/store/a-b")
        );
    }

    #[test]
    fn last_line_that_names_no_system_is_refused_whatever_came_before_it() {
        for path in [
            "/etc",
            "/nix/store",
            "/nix/store/..",
            "/nix/store/a-b/../../../etc",
            "/nix/store/a-b/bin",
            "--help",
            "--option substituters x",
            "/nix/store/a-b.drv",
            "/nix/store/a-b /nix/store/c-d",
            "/nix/store/a-b\u{1b}[2J",
            "/nix/store/a-b\u{0}",
            "/nix/store/ä-b",
            "https://example.org",
            &format!("/nix/store/{}", "a".repeat(1000)),
        ] {
            let error = in_note(format!("m {A}\nm {path}\n").as_bytes(), "m").unwrap_err();
            assert!(
                error.ends_with(" is not the store path of a system"),
                "{error}"
            );
            assert!(
                error.chars().all(|c| !c.is_control()) && error.len() < 200,
                "{error}"
            );
        }
        assert!(in_note(b"m /nix/store/a-\xff", "m").is_err());
    }

    #[test]
    fn answer_holds_exactly_one_system() {
        let drv = "/nix/store/dddddddddddddddddddddddddddddddd-nixos-system-m.drv";
        for answer in [
            A.to_string(),
            format!("{A}\n"),
            format!(r#"{{"path":"{A}"}}"#),
            format!(r#"{{"drvpath":"{drv}","buildoutputs":{{"out":{{"path":"{A}"}}}},"id":1}}"#),
            format!(r#"["{A}", "{A}"]"#),
        ] {
            assert_eq!(
                in_answer(answer.as_bytes()).as_deref(),
                Ok(Path::new(A)),
                "{answer}"
            );
        }
        for (answer, error) in [
            (String::new(), "no store path"),
            ("<html>".to_string(), "no store path"),
            (drv.to_string(), "no store path"),
            (format!("{A} {B}"), "several"),
            (format!("{A}/bin/sh"), "is not the store path"),
            (format!("{A}/../x"), "is not the store path"),
            ("/nix/store/".to_string(), "is not the store path"),
            ("/nix/storea".to_string(), "is not the store path"),
        ] {
            let said = in_answer(answer.as_bytes()).unwrap_err();
            assert!(said.contains(error), "{answer}: {said}");
        }
    }

    #[test]
    fn values_in_an_address_are_encoded_and_not_replaced_again() {
        let mut target = Attempt::for_tests(1, Operation::Switch).target;
        target.branch = "a/../b?x={commit}".to_string();
        let commit = target.commit.as_str();
        let template = "https://ci.example/{branch}/{hostname}?rev={commit}&x={";
        assert_eq!(
            address(template, "m.a", &target),
            format!("https://ci.example/a%2F..%2Fb%3Fx%3D%7Bcommit%7D/m.a?rev={commit}&x={{")
        );
    }

    #[test]
    fn template_that_is_no_address_of_a_commit_is_refused() {
        check_template("https://ci/{hostname}/{commit}").unwrap();
        check_template("https://ci/{commit}/{branch}/{").unwrap();
        for (template, error) in [
            ("", "https://"),
            ("file:///systems/{commit}", "https://"),
            ("ci/{commit}", "https://"),
            ("https://me:secret@ci/{commit}", "credentials"),
            ("https://ci/latest", "{commit}"),
            ("https://ci/{hostname}", "{commit}"),
            ("https://ci/{commit}/{rev}", "{rev}"),
            ("https://ci/{commit}/{}", "{}"),
        ] {
            let said = check_template(template).unwrap_err();
            assert!(said.contains(error), "{template}: {said}");
        }
    }

    #[test]
    fn system_of_another_host_or_commit_is_refused() {
        let commit: Commit = "a".repeat(40).parse().unwrap();
        let dirty = format!("{commit}-dirty");
        let short = &commit.as_str()[..12];
        for (hostname, revision, needs_revision, refused) in [
            ("m", None, false, None),
            ("m", Some(commit.as_str()), false, None),
            ("m", Some(commit.as_str()), true, None),
            ("m", None, true, Some("does not tell its commit")),
            ("n", Some(commit.as_str()), true, Some("another host")),
            ("", None, false, Some("another host")),
            ("m", Some(&*dirty), false, Some("another commit")),
            ("m", Some(short), false, Some("another commit")),
            ("m", Some(""), false, Some("another commit")),
        ] {
            let identity = Identity {
                hostname: hostname.to_string(),
                machine_id: None,
                revision: revision.map(str::to_string),
            };
            let said = identity.mismatch("m", &commit, needs_revision);
            match refused {
                Some(words) => assert!(
                    said.clone().is_some_and(|it| it.contains(words)),
                    "{said:?}"
                ),
                None => assert_eq!(said, None),
            }
        }
    }

    #[test]
    fn target_waits_until_its_system_is_named_or_patience_is_over() {
        let target = Attempt::for_tests(1, Operation::Switch).target;
        let (since, hour) = (Timestamp::UNIX_EPOCH, SignedDuration::from_hours(1));
        let lookup = |patience, system: Option<&str>| Lookup {
            commit: target.commit.clone(),
            since,
            patience,
            system: system.map(PathBuf::from),
            problem: None,
        };
        let hour_long = Some(Delay::new(since, hour));
        for (lookup, after, is_awaited) in [
            (lookup(None, None), hour * 1000, true),
            (lookup(None, Some(A)), hour, false),
            (lookup(hour_long, None), hour / 2, true),
            (lookup(hour_long, None), hour, false),
            (lookup(hour_long, Some(A)), hour / 2, false),
        ] {
            assert_eq!(
                lookup.is_awaited(&target, since + after),
                is_awaited,
                "{lookup:?}"
            );
        }
        let other = Attempt::for_tests(2, Operation::Switch).target;
        assert!(!lookup(None, None).is_awaited(&other, since));
        assert_eq!(lookup(None, Some(A)).system_of(&other), None);
        assert_eq!(lookup(None, Some(A)).system_of(&target), Some(Path::new(A)));
    }
}
