//! A signed commit, taken apart: what was signed, and the signature.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::model::{signature::Format, Unverified};
use crate::sys::temp_dir::TempDir;

/// The two halves of a signed commit.
#[derive(Debug, PartialEq, Eq)]
pub struct SignedCommit {
    /// The commit without its signature.
    payload: Vec<u8>,
    /// The signature, in one armor.
    signature: String,
}

/// The headers that a commit begins with; parents apart, each is there once, and in this order.
const FIXED: [&[u8]; 4] = [b"tree", b"parent", b"author", b"committer"];

impl SignedCommit {
    /// Takes a commit object apart as git does, and refuses what git would not write: of headers in
    /// another order, or of two signatures, each reader makes something else.
    pub fn split(commit: &[u8]) -> Result<Self, Unverified> {
        let end = commit
            .windows(2)
            .position(|two| two == b"\n\n")
            .ok_or(Unverified::Headers)?;
        let (headers, message) = commit.split_at(end + 1);
        let lines: Vec<&[u8]> = headers.split_inclusive(|&byte| byte == b'\n').collect();
        // A line that begins with a space goes on with the header before it.
        let headers: Vec<&[&[u8]]> = lines.chunk_by(|_, next| next.starts_with(b" ")).collect();
        if !are_in_order(&headers) {
            return Err(Unverified::Headers);
        }

        let is_signature = |header: &&&[&[u8]]| key(header).starts_with(b"gpgsig");
        let mut signatures = headers.iter().filter(is_signature);
        let signature = match (signatures.next(), signatures.next()) {
            (None, _) => return Err(Unverified::Unsigned),
            (Some(_), Some(_)) => return Err(Unverified::SeveralSignatures),
            (Some(signature), None) => match key(signature) {
                b"gpgsig" => signature,
                b"gpgsig-sha256" => return Err(Unverified::OtherRepository),
                _ => return Err(Unverified::Headers),
            },
        };
        let others = headers.iter().filter(|header| !is_signature(header));
        let mut payload = others
            .copied()
            .flatten()
            .copied()
            .collect::<Vec<_>>()
            .concat();
        payload.extend_from_slice(message);
        Ok(Self {
            payload,
            signature: armor(signature)?,
        })
    }

    /// The kind of signature, by the first line of its armor.
    pub fn format(&self) -> Result<Format, Unverified> {
        let unreadable = |why: &str| Err(Unverified::Unreadable(why.to_string()));
        let (format, end) = match self.signature.lines().next() {
            Some("-----BEGIN PGP SIGNATURE-----") => {
                (Format::OpenPgp, "-----END PGP SIGNATURE-----")
            }
            Some("-----BEGIN SSH SIGNATURE-----") => (Format::Ssh, "-----END SSH SIGNATURE-----"),
            Some("-----BEGIN SIGNED MESSAGE-----") => return Err(Unverified::X509),
            Some("-----BEGIN PGP MESSAGE-----") => {
                return unreadable("it is a message of its own, not a detached signature");
            }
            Some("") | None => return unreadable("it is empty"),
            Some(_) => return unreadable("its kind is unknown"),
        };
        if self.signature.matches("-----BEGIN").count() > 1 {
            return Err(Unverified::SeveralSignatures);
        }
        if self.signature.lines().next_back() != Some(end) {
            return unreadable("its last line is missing");
        }
        Ok(format)
    }

    /// Both halves as files in a private folder.
    pub fn files(&self, private: &Path) -> Result<Files> {
        let write = || {
            let folder = TempDir::new_in(private, "commit-")?;
            let files = Files { folder };
            fs::write(files.signature(), &self.signature)?;
            fs::write(files.folder.path().join("payload"), &self.payload)?;
            Ok::<_, io::Error>(files)
        };
        write().context("Failed to write the commit into a temporary directory")
    }
}

/// What was signed, and the signature, in a folder that goes away with this.
#[derive(Debug)]
pub struct Files {
    folder: TempDir,
}

impl Files {
    /// The file with the signature.
    pub fn signature(&self) -> PathBuf {
        self.folder.path().join("signature")
    }

    /// What was signed, from its beginning.
    pub fn payload(&self) -> Result<File> {
        File::open(self.folder.path().join("payload")).context("Failed to open the commit")
    }
}

/// The first word of a header.
fn key<'a>(header: &[&'a [u8]]) -> &'a [u8] {
    let mut words = header[0].split(|byte| b" \n".contains(byte));
    words.next().unwrap_or_default()
}

fn are_in_order(headers: &[&[&[u8]]]) -> bool {
    let fixed = |header: &&&[&[u8]]| FIXED.contains(&key(header));
    let first = headers.iter().take_while(fixed).count();
    let (first, rest) = headers.split_at(first);
    let keys: Vec<&[u8]> = first.iter().map(|header| key(header)).collect();
    let parents = keys.iter().filter(|&&key| key == b"parent").count();
    let mut wanted: Vec<&[u8]> = vec![b"tree"];
    wanted.extend(vec![&b"parent"[..]; parents]);
    wanted.extend([&b"author"[..], b"committer"]);
    keys == wanted
        && first.iter().all(|header| header.len() == 1)
        && !rest
            .iter()
            .any(|header| fixed(&header) || key(header).is_empty())
        && !headers.iter().any(|header| header.concat().contains(&0))
}

/// The value of a header, its lines without what marks them as belonging together.
fn armor(header: &[&[u8]]) -> Result<String, Unverified> {
    let mut lines = header.iter().map(|line| &line[1..]);
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix(b"pgsig ").unwrap_or_default();
    let text = std::iter::once(first).chain(lines).collect::<Vec<_>>();
    let text = String::from_utf8(text.concat());
    text.map_err(|_| Unverified::Unreadable("it is not text".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str =
        "tree 1\nparent 2\nparent 3\nauthor A <a> 0 +0000\ncommitter C <c> 0 +0000\n";

    fn split(commit: &str) -> Result<(String, String), Unverified> {
        let signed = SignedCommit::split(commit.as_bytes())?;
        let payload = String::from_utf8(signed.payload).unwrap();
        Ok((payload, signed.signature))
    }

    #[test]
    fn the_payload_is_all_but_the_signature() {
        let commit = format!("{FIRST}gpgsig a\n b\n  c\n \nencoding x\n\ngpgsig d\n e\n\nf");
        let (payload, signature) = split(&commit).unwrap();
        assert_eq!(payload, format!("{FIRST}encoding x\n\ngpgsig d\n e\n\nf"));
        assert_eq!(signature, "a\nb\n c\n\n");
        assert!(split(&format!("{FIRST}gpgsig a\n\n")).is_ok());
    }

    #[test]
    fn signatures_elsewhere_are_none() {
        for headers in [
            "",
            "encoding gpgsig\n",
            "mergetag object 1\n gpgsig a\n -----BEGIN PGP SIGNATURE-----\n",
        ] {
            let commit = format!("{FIRST}{headers}\ngpgsig a\n");
            assert_eq!(split(&commit), Err(Unverified::Unsigned), "{commit}");
        }
    }

    #[test]
    fn what_readers_would_read_in_different_ways_is_refused() {
        let author = "author A <a> 0 +0000\n";
        let committer = "committer C <c> 0 +0000\n";
        for headers in [
            String::new(),
            "\n".to_string(),
            format!("{author}{committer}gpgsig a\n"),
            format!("gpgsig a\n{FIRST}"),
            format!("{FIRST}gpgsig a"),
            format!("tree 1\n{committer}{author}gpgsig a\n"),
            format!("tree 1\n{author}parent 2\n{committer}gpgsig a\n"),
            format!("tree 1\ntree 2\n{author}{committer}gpgsig a\n"),
            format!("tree 1\n x\n{author}{committer}gpgsig a\n"),
            format!(" x\n{FIRST}gpgsig a\n"),
            format!("{FIRST}gpgsig a\ntree 2\n"),
            format!("{FIRST}gpgsig a\n{author}"),
            format!("{FIRST}gpgsig a\nx \0\n"),
            format!("{FIRST}gpgsigs a\n"),
        ] {
            let commit = format!("{headers}\nmessage");
            let refused = split(&commit);
            assert_eq!(refused, Err(Unverified::Headers), "{commit:?}");
        }
        for (headers, wanted) in [
            ("gpgsig a\ngpgsig b\n", Unverified::SeveralSignatures),
            ("gpgsig a\ngpgsig-sha256 b\n", Unverified::SeveralSignatures),
            ("gpgsig a\ngpgsig\n", Unverified::SeveralSignatures),
            ("gpgsig-sha256 b\n", Unverified::OtherRepository),
        ] {
            assert_eq!(split(&format!("{FIRST}{headers}\n")), Err(wanted));
        }
    }

    #[test]
    fn one_whole_armor_is_a_signature() {
        let format = |signature: &str| {
            let (payload, signature) = (Vec::new(), signature.to_string());
            SignedCommit { payload, signature }.format()
        };
        let pgp = "-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n";
        let ssh = "-----BEGIN SSH SIGNATURE-----\nx\n-----END SSH SIGNATURE-----\n";
        assert_eq!(format(pgp), Ok(Format::OpenPgp));
        assert_eq!(format(ssh), Ok(Format::Ssh));
        assert_eq!(
            format(&format!("{pgp}{pgp}")),
            Err(Unverified::SeveralSignatures)
        );
        for bad in [
            "",
            "\n",
            "x",
            &pgp[..50],
            &format!("{ssh}x"),
            &format!("x\n{pgp}"),
        ] {
            let refused = format(bad);
            assert!(matches!(refused, Err(Unverified::Unreadable(_))), "{bad}");
        }
    }
}
