//! A commit's id.

use std::str::FromStr;

use derive_more::Display;
use serde::{Deserialize, Serialize};

/// The full object id of a commit, in lowercase hexadecimal digits: 40 (SHA-1) or 64 (SHA-256).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display)]
#[serde(try_from = "String")]
pub struct Commit(String);

impl Commit {
    /// How many digits a person reads.
    const SHORT: usize = 8;
    /// How many digits a person has to give at least: those that git shows of it.
    pub const LEAST: usize = 7;

    /// The full id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a person means this commit by these digits.
    pub fn is_meant_by(&self, digits: &str) -> bool {
        digits.len() >= Self::LEAST && self.0.starts_with(digits)
    }

    /// What a person reads: the first eight digits.
    pub fn short(&self) -> &str {
        &self.0[..Self::SHORT]
    }
}

impl FromStr for Commit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if matches!(text.len(), 40 | 64) && text.chars().all(hex) {
            Ok(Self(text.to_string()))
        } else {
            Err(format!("{text:?} is not a full commit id"))
        }
    }
}

impl TryFrom<String> for Commit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_ids_are_commits() {
        assert!("a".repeat(40).parse::<Commit>().is_ok());
        assert!("0".repeat(64).parse::<Commit>().is_ok());
        for bad in [
            "",
            "HEAD",
            &"a".repeat(39),
            &"A".repeat(40),
            &"é".repeat(20),
        ] {
            assert!(bad.parse::<Commit>().is_err(), "{bad}");
        }
    }
}
