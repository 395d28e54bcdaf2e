//! Signatures by ssh-keygen, asked as git asks it, but for this time instead of the commit's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{anyhow, Context, Error, Result};

use super::commit::{Files, SignedCommit};
use super::tool::{isolated, private_folder, read, LoadError};
use crate::config::SshSigners;
use crate::model::{signature::Key, Signer, Unverified};
use crate::sys::command::{self, Answer};
use crate::sys::{temp_dir::TempDir, text::printable};

/// Git's namespace: the signature of a file or a mail is none of a commit.
const NAMESPACE: &str = "git";
/// What a binary list of revoked keys begins with.
const KRL: &[u8] = b"SSHKRL\n\0";

/// The keys that the owner trusts, as they were when they were read.
#[derive(Debug)]
pub struct AllowedSigners {
    folder: TempDir,
    revoked: Option<PathBuf>,
}

impl AllowedSigners {
    /// Reads the files, the allowed signers with at least one key.
    pub fn load(signers: &SshSigners, private: &Path) -> Result<Self, LoadError> {
        let mut loaded = Self {
            folder: private_folder(private)?,
            revoked: None,
        };
        let path = &signers.allowed_signers_path;
        loaded
            .allow(path)
            .map_err(|error| error.named("ssh_allowed_signers_path", path))?;
        if let Some(path) = &signers.revoked_keys_path {
            loaded
                .revoke(path)
                .map_err(|error| error.named("ssh_revoked_keys_path", path))?;
        }
        Ok(loaded)
    }

    fn allow(&self, path: &Path) -> Result<(), LoadError> {
        let content = read(path).map_err(LoadError::Misconfigured)?;
        let keys: Vec<Vec<u8>> = lines(&content)
            .map(|line| after_principals(line).to_vec())
            .collect();
        self.check(&keys, "PRINCIPALS [OPTIONS] KEY")?;
        Ok(self.keep(&self.allowed(), &content)?)
    }

    fn revoke(&mut self, path: &Path) -> Result<(), LoadError> {
        let content = read(path).map_err(LoadError::Misconfigured)?;
        let revoked = self.folder.path().join("revoked");
        self.keep(&revoked, &content)?;
        if content.starts_with(KRL) {
            let mut keygen = self.keygen();
            let answer = ask(keygen.args(["-Q", "-l", "-f"]).arg(&revoked), Stdio::null())?;
            if answer.code != 0 {
                return Err(LoadError::Misconfigured(Error::msg(last_words(&answer))));
            }
        } else {
            // A word stands for the options, so that there is no place for others.
            let keys: Vec<Vec<u8>> = lines(&content)
                .map(|line| [b"revoked ", line].concat())
                .collect();
            self.check(&keys, "KEY")?;
        }
        self.revoked = Some(revoked);
        Ok(())
    }

    fn keep(&self, file: &Path, content: &[u8]) -> Result<()> {
        fs::write(file, content)
            .with_context(|| format!("Failed to write into {}", self.folder.path().display()))
    }

    /// Whether each line is a key, after options if any. ssh-keygen itself passes over others.
    fn check(&self, keys: &[Vec<u8>], wanted: &str) -> Result<(), LoadError> {
        let file = self.folder.path().join("keys");
        self.keep(&file, &keys.join(&b'\n'))?;
        let mut keygen = self.keygen();
        let answer = ask(keygen.args(["-l", "-f"]).arg(&file), Stdio::null())?;
        if answer.code == 0 && lines(&answer.output).count() == keys.len() {
            Ok(())
        } else {
            Err(LoadError::Misconfigured(anyhow!(
                "not all of its lines are as in {wanted:?}: see ssh-keygen(1)"
            )))
        }
    }

    fn allowed(&self) -> PathBuf {
        self.folder.path().join("allowed")
    }

    fn keygen(&self) -> Command {
        isolated("ssh-keygen", self.folder.path())
    }

    /// Verifies an SSH signature.
    pub fn verify(&self, signed: &SignedCommit) -> Result<Signer, Unverified> {
        let files = signed.files(self.folder.path())?;
        let key = self.signing_key(&files)?;
        let mut refused = Unverified::Untrusted(key.clone());
        for principal in self.principals(&files, &key)?.lines() {
            match self.verify_for(principal, &files, &key) {
                Ok(()) => {
                    let name = printable(principal).into_owned();
                    return Ok(Signer { name, key });
                }
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }

    /// The key of a signature that fits the commit, whoever's it is.
    fn signing_key(&self, files: &Files) -> Result<Key, Unverified> {
        let mut keygen = self.question("check-novalidate", files);
        let answer = ask(keygen.args(["-n", NAMESPACE]), files.payload()?)?;
        let text = String::from_utf8_lossy(&answer.output);
        let fingerprint = text.split_whitespace().next_back();
        match fingerprint.filter(|fingerprint| fingerprint.starts_with("SHA256:")) {
            Some(fingerprint) if answer.code == 0 => Ok(Key::Ssh(fingerprint.to_string())),
            Some(_) | None if stderr_contains(&answer, "namespace") => {
                Err(Unverified::OtherNamespace)
            }
            Some(_) | None if stderr_contains(&answer, "incorrect signature") => {
                Err(Unverified::Forged(None))
            }
            Some(_) | None => Err(Unverified::Unreadable(last_words(&answer))),
        }
    }

    /// Those as whom the key may sign now, one a line.
    fn principals(&self, files: &Files, key: &Key) -> Result<String, Unverified> {
        let mut keygen = self.question("find-principals", files);
        // Only verbose it tells that a certificate has expired.
        let answer = ask(
            keygen.arg("-v").arg("-f").arg(self.allowed()),
            Stdio::null(),
        )?;
        if answer.code == 0 {
            Ok(String::from_utf8_lossy(&answer.output).into_owned())
        } else {
            Err(why_untrusted(&answer, key))
        }
    }

    fn verify_for(&self, principal: &str, files: &Files, key: &Key) -> Result<(), Unverified> {
        let verify = |revoked: Option<&PathBuf>| -> Result<Answer> {
            let mut keygen = self.question("verify", files);
            keygen.args(["-n", NAMESPACE, "-I", principal]);
            keygen.arg("-f").arg(self.allowed());
            if let Some(revoked) = revoked {
                keygen.arg("-r").arg(revoked);
            }
            ask(&mut keygen, files.payload()?)
        };
        let answer = verify(self.revoked.as_ref())?;
        if answer.code == 0 {
            return Ok(());
        }
        // It does not say that the revoked keys are the reason.
        if self.revoked.is_some() && verify(None)?.code == 0 {
            return Err(Unverified::KeyRevoked(key.clone()));
        }
        Err(why_untrusted(&answer, key))
    }

    fn question(&self, question: &str, files: &Files) -> Command {
        let mut keygen = self.keygen();
        keygen.args(["-Y", question, "-s"]).arg(files.signature());
        keygen
    }
}

/// Why a key is refused whose signature fits. Only for the sentence: it is refused all the same.
fn why_untrusted(answer: &Answer, key: &Key) -> Unverified {
    let key = key.clone();
    if stderr_contains(answer, "expired") {
        Unverified::KeyExpired(key, None)
    } else if stderr_contains(answer, "not yet valid") {
        Unverified::KeyTooNew(key)
    } else if stderr_contains(answer, "namespace") {
        Unverified::KeyForOthers(key)
    } else {
        Unverified::Untrusted(key)
    }
}

fn ask(keygen: &mut Command, input: impl Into<Stdio>) -> Result<Answer> {
    command::ask(keygen, "ssh-keygen", input, command::PATIENCE)
}

fn stderr_contains(answer: &Answer, words: &str) -> bool {
    answer.stderr_lines().any(|line| line.contains(words))
}

fn last_words(answer: &Answer) -> String {
    let last = answer.stderr_lines().next_back();
    last.unwrap_or("ssh-keygen said nothing").to_string()
}

/// The lines that are neither empty nor comments.
fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = content.split(|&byte| byte == b'\n');
    lines
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

/// The rest of a line of allowed signers; principals with spaces are in quotes.
fn after_principals(line: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| match line.first() {
        Some(b'"') => *byte == b'"',
        Some(_) | None => byte.is_ascii_whitespace(),
    };
    let end = line.iter().skip(1).position(is_end);
    end.map_or(&b""[..], |end| line[end + 2..].trim_ascii())
}
