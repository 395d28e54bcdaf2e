//! Signatures by gpg, with a keyring of our own. Only its status lines are believed: the exit code
//! of a signature by an expired or revoked key is 0.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{anyhow, ensure, Context, Result};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::commit::SignedCommit;
use super::tool::{isolated, private_folder, read, LoadError};
use crate::model::{signature::Key, Signer, Unverified};
use crate::sys::command::{self, Answer};
use crate::sys::{temp_dir::TempDir, text::printable};

/// Nothing is looked up elsewhere, and no daemon is started, whatever `/etc/gnupg` says.
/// Keys are trusted because the owner named their files, so there is no trust database.
const OPTIONS: [&str; 19] = [
    "--batch",
    "--no-tty",
    "--no-options",
    "--no-autostart",
    "--disable-dirmngr",
    "--no-auto-key-locate",
    "--no-auto-key-retrieve",
    "--no-auto-key-import",
    "--no-auto-check-trustdb",
    "--trust-model=always",
    "--no-permission-warning",
    "--no-random-seed-file",
    "--exit-on-status-write-error",
    "--status-fd=1",
    // Also those by which a key binds its user ids and subkeys.
    "--weak-digest=MD5",
    "--weak-digest=SHA1",
    "--weak-digest=RIPEMD160",
    "--no-allow-non-selfsigned-uid",
    "--display-charset=utf-8",
];

/// Status lines with gpg's judgement of one signature (doc/DETAILS of gpg).
const VERDICTS: [&str; 6] = [
    "GOODSIG",
    "EXPSIG",
    "EXPKEYSIG",
    "REVKEYSIG",
    "BADSIG",
    "ERRSIG",
];
/// Status lines about what is no detached signature.
const FOREIGN: [&str; 4] = ["NODATA", "UNEXPECTED", "PLAINTEXT", "FAILURE"];

/// The keys that the owner trusts.
#[derive(Debug)]
pub struct Keyring {
    home: TempDir,
    /// Of the primary keys. From version 2.4, gpg reads `/etc/gnupg/gpg.conf` whatever its options are,
    /// and that may name a further keyring.
    fingerprints: BTreeSet<String>,
}

impl Keyring {
    /// Reads the files, each with at least one public key.
    pub fn load(keys: &[PathBuf], private: &Path) -> Result<Self, LoadError> {
        let mut keyring = Self {
            home: private_folder(private)?,
            fingerprints: BTreeSet::new(),
        };
        for path in keys {
            keyring
                .add(path)
                .map_err(|error| error.named("gpg_public_key_paths", path))?;
        }
        Ok(keyring)
    }

    fn add(&mut self, path: &Path) -> Result<(), LoadError> {
        let content = read(path).map_err(LoadError::Misconfigured)?;
        let answer = self.import(&content)?;
        if answer
            .stderr_lines()
            .any(|line| line.contains("no keyboxd running"))
        {
            return Err(LoadError::Broken(anyhow!(
                "gpg needs a daemon that comin does not start: remove use-keyboxd from /etc/gnupg/common.conf"
            )));
        }
        let fingerprints = imported(&answer).map_err(LoadError::Misconfigured)?;
        self.fingerprints.extend(fingerprints);
        Ok(())
    }

    fn import(&self, content: &[u8]) -> Result<Answer> {
        let file = self.home.path().join("import");
        fs::write(&file, content).context("Failed to write a key into a temporary directory")?;
        let mut gpg = self.gpg();
        gpg.arg("--import").arg(&file);
        command::ask(&mut gpg, "gpg", Stdio::null(), command::PATIENCE)
    }

    fn gpg(&self) -> Command {
        let mut gpg = isolated("gpg", self.home.path());
        gpg.arg("--homedir").arg(self.home.path()).args(OPTIONS);
        gpg
    }

    /// Verifies what gpg's own armor says to be a detached signature.
    pub fn verify(&self, signed: &SignedCommit) -> Result<Signer, Unverified> {
        let files = signed.files(self.home.path())?;
        let mut gpg = self.gpg();
        gpg.arg("--verify").arg(files.signature()).arg("-");
        let answer = command::ask(&mut gpg, "gpg", files.payload()?, command::PATIENCE)?;
        self.judge(&answer)
    }

    fn judge(&self, answer: &Answer) -> Result<Signer, Unverified> {
        let text = String::from_utf8_lossy(&answer.output);
        let lines = || status(&text);
        match lines().filter(|(keyword, _)| *keyword == "NEWSIG").count() {
            0 => return Err(no_verdict(answer)),
            1 => {}
            _ => return Err(Unverified::SeveralSignatures),
        }
        let mut verdicts = lines().filter(|(keyword, _)| VERDICTS.contains(keyword));
        let (Some((verdict, rest)), None) = (verdicts.next(), verdicts.next()) else {
            return Err(no_verdict(answer));
        };
        let (id, name) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut valid = lines().filter(|(keyword, _)| *keyword == "VALIDSIG");
        let valid = match (valid.next(), valid.next()) {
            (Some((_, rest)), None) => Valid::parse(rest),
            (_, _) => None,
        };
        let key = |otherwise: &str| {
            let primary = valid.as_ref().map(|valid| valid.primary.to_string());
            Key::Gpg(primary.unwrap_or_else(|| printable(otherwise).into_owned()))
        };
        match verdict {
            "GOODSIG" => {
                let Some(valid) = valid else {
                    return Err(no_verdict(answer));
                };
                // Beside the signature there was something else; the exit code tells the same.
                if answer.code != 0 || lines().any(|(keyword, _)| FOREIGN.contains(&keyword)) {
                    return Err(no_verdict(answer));
                }
                let key = Key::Gpg(valid.primary.to_string());
                if !self.fingerprints.contains(valid.primary) {
                    return Err(Unverified::Untrusted(key));
                }
                if !is_strong(valid.digest) {
                    return Err(Unverified::Weak(key, digest(valid.digest)));
                }
                // Of a document, or of a text; others are of keys and user ids.
                if !matches!(valid.class, "00" | "01") {
                    let why = format!("it is of class {}, not of a document", valid.class);
                    return Err(Unverified::Objected(key, why));
                }
                let name = percent_decode_str(name).decode_utf8_lossy();
                let name = printable(&name).into_owned();
                Ok(Signer { name, key })
            }
            "EXPSIG" => {
                let at = valid.as_ref().and_then(|valid| time(valid.expires));
                Err(Unverified::Expired(key(id), at))
            }
            "EXPKEYSIG" => {
                let at = lines().filter(|(keyword, _)| *keyword == "KEYEXPIRED");
                let at = at.last().and_then(|(_, rest)| time(rest));
                Err(Unverified::KeyExpired(key(id), at))
            }
            "REVKEYSIG" => Err(Unverified::KeyRevoked(key(id))),
            "BADSIG" => Err(Unverified::Forged(Some(key(id)))),
            // ERRSIG: it could not be verified; by a number of libgpg-error.
            _ => {
                let fields: Vec<&str> = rest.split(' ').collect();
                let (Some(number), Some(reason)) = (fields.get(2), fields.get(5)) else {
                    return Err(no_verdict(answer));
                };
                let fingerprint = fields.get(6).filter(|fingerprint| **fingerprint != "-");
                let key = key(fingerprint.unwrap_or(&id));
                Err(match *reason {
                    "9" => Unverified::Untrusted(key),
                    "5" => Unverified::Weak(key, digest(number)),
                    _ => Unverified::Objected(key, last_words(answer)),
                })
            }
        }
    }
}

/// What gpg says of a signature that fits.
struct Valid<'a> {
    expires: &'a str,
    digest: &'a str,
    class: &'a str,
    primary: &'a str,
}

impl<'a> Valid<'a> {
    fn parse(rest: &'a str) -> Option<Self> {
        let fields: Vec<&str> = rest.split(' ').collect();
        let [_, _, _, expires, _, _, _, digest, class, primary] = fields[..] else {
            return None;
        };
        Some(Self {
            expires,
            digest,
            class,
            primary,
        })
    }
}

/// The status lines: keyword and what follows. gpg escapes line ends in whatever it quotes.
fn status(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let line = line.strip_prefix("[GNUPG:] ")?;
        Some(line.split_once(' ').unwrap_or((line, "")))
    })
}

/// The fingerprints of the keys that an import brought: all that the file holds, or none.
fn imported(answer: &Answer) -> Result<Vec<String>> {
    let text = String::from_utf8_lossy(&answer.output);
    let counts = status(&text).find(|(keyword, _)| *keyword == "IMPORT_RES");
    let counts: Vec<u32> = counts.map_or(Vec::new(), |(_, rest)| {
        rest.split(' ')
            .map_while(|count| count.parse().ok())
            .collect()
    });
    let count = |field: usize| counts.get(field).copied().unwrap_or_default();
    ensure!(
        count(9) == 0,
        "it holds a secret key: replace it by the output of gpg --armor --export KEY"
    );
    let fingerprints: Vec<String> = status(&text)
        .filter(|(keyword, _)| *keyword == "IMPORT_OK")
        .filter_map(|(_, rest)| rest.split(' ').nth(1))
        .map(str::to_string)
        .collect();
    ensure!(
        count(1) == 0,
        "gpg accepts no user id of it. It may rest on SHA-1: renew it, e.g. with a new expiry date, and export it again. Or it is newer than this machine's clock"
    );
    ensure!(
        answer.code == 0 && !fingerprints.is_empty() && count(0) as usize == fingerprints.len(),
        "{}; replace it by the output of gpg --armor --export KEY",
        last_words(answer)
    );
    Ok(fingerprints)
}

/// The last thing that gpg said, apart from sums and advice.
fn last_words(answer: &Answer) -> String {
    let is_notable = |line: &&str| {
        line.starts_with("gpg: ")
            && !line.starts_with("gpg:  ")
            && !line.contains("Total number")
            && !line.contains("could not be verified")
    };
    let last = answer.stderr_lines().rev().find(is_notable);
    last.unwrap_or("gpg said nothing").to_string()
}

fn no_verdict(answer: &Answer) -> Unverified {
    match answer.code {
        // 2 is also what it says to something that is no signature.
        0..=2 => Unverified::Unreadable(last_words(answer)),
        code => Unverified::Unchecked(format!(
            "gpg exited with status {code}: {}",
            last_words(answer)
        )),
    }
}

fn time(seconds: &str) -> Option<Timestamp> {
    let seconds = seconds.parse().ok().filter(|seconds| *seconds != 0)?;
    Timestamp::from_second(seconds).ok()
}

/// By the numbers of RFC 9580, 9.5: what nobody is known to forge.
fn is_strong(digest: &str) -> bool {
    matches!(digest, "8" | "9" | "10" | "11" | "12" | "14")
}

fn digest(number: &str) -> String {
    match number {
        "1" => "MD5".to_string(),
        "2" => "SHA-1".to_string(),
        "3" => "RIPEMD-160".to_string(),
        number => format!("digest {}", printable(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::world::World;
    use super::*;

    #[test]
    fn a_key_counts_by_the_configuration_and_not_because_gpg_has_it() {
        let Some(world) = World::get() else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alice");
        fs::write(&path, &world.gpg["alice"]).unwrap();
        let keyring = Keyring::load(&[path], folder.path()).ok().unwrap();
        let mallory = keyring.import(world.gpg["mallory"].as_bytes()).unwrap();
        assert_eq!(imported(&mallory).unwrap().len(), 1);
        let verify = |commit: &str| {
            let signed = SignedCommit::split(world.commits[commit].as_bytes()).unwrap();
            keyring.verify(&signed)
        };
        assert!(verify("alice").is_ok());
        let key = Key::Gpg(world.fingerprints["mallory"].clone());
        assert_eq!(verify("mallory"), Err(Unverified::Untrusted(key)));
    }
}
