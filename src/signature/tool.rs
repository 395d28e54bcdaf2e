//! The tools that verify, and their private folder.

use std::path::Path;
use std::process::Command;

use anyhow::{anyhow, ensure, Context, Error, Result};
use derive_more::From;

use crate::sys::{fs, temp_dir::TempDir};

/// Why the keys of a mechanism could not be read.
#[derive(From)]
pub enum LoadError {
    /// The configuration, or a file that it names, is wrong.
    Misconfigured(Error),
    /// The tool could not be asked.
    #[from]
    Broken(Error),
}

/// Any other error is taken for one of the tool.
impl LoadError {
    /// With the key of the configuration and the file, if those are to blame.
    pub fn named(self, key: &str, path: &Path) -> Self {
        match self {
            Self::Misconfigured(error) => {
                let file = format!("{key}: {} cannot be used", path.display());
                Self::Misconfigured(error.context(file))
            }
            Self::Broken(error) => Self::Broken(error),
        }
    }
}

/// A file of public keys. A secret one in armor goes no further.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let content = std::fs::read(path).map_err(|error| {
        anyhow!("{error}: put the keys there, or leave the file out of the configuration")
    })?;
    ensure!(
        !content.trim_ascii().is_empty(),
        "it is empty: put the keys there, or leave the file out of the configuration"
    );
    ensure!(
        !content.windows(11).any(|part| part == b"PRIVATE KEY"),
        "it holds a secret key: replace it by the public key"
    );
    Ok(content)
}

/// A folder in this one that is nobody else's to read or guess, and does not stay.
pub fn private_folder(folder: &Path) -> Result<TempDir> {
    let made = fs::create_private_folder(folder);
    let made = made.and_then(|()| TempDir::new_in(folder, "comin-signers-"));
    made.context("Failed to create a temporary directory")
}

/// A tool that finds nothing of whoever runs comin.
pub fn isolated(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("HOME", home);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}
