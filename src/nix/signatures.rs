//! Whether a trusted key signed a path that is in the store.

use std::path::Path;
use std::process::Stdio;

use anyhow::{bail, Context, Result};
use serde_json::Value;

use super::command::{nix, settings};
use crate::sys::command::{self, PATIENCE};

/// Whether a key of `trusted-public-keys` signed a path that is in the store, by a signature that is there as well, or
/// in a cache. Nix verifies what it fetches, and nothing that is in the store already.
pub fn is_signed(path: &Path) -> Result<bool> {
    // For Nix, such a path needs no signature: its name proves its content, and anybody may add it.
    if is_content_addressed(path)? {
        return Ok(false);
    }
    if verify(path, None)? {
        return Ok(true);
    }
    for cache in caches()? {
        match verify(path, Some(&cache)) {
            Ok(false) => {}
            Ok(true) => return Ok(true),
            // Another cache may have the signature.
            Err(error) => log::warn!("{error:#}"),
        }
    }
    Ok(false)
}

fn is_content_addressed(path: &Path) -> Result<bool> {
    /// Each Nix nests this in another way.
    fn has_address(info: &Value) -> bool {
        match info {
            Value::Object(fields) => {
                fields.get("ca").is_some_and(|ca| !ca.is_null()) || fields.values().any(has_address)
            }
            Value::Array(infos) => infos.iter().any(has_address),
            _ => false,
        }
    }
    let mut nix = nix();
    nix.args(["path-info", "--json"]).arg(path);
    let answer = command::query(&mut nix, "nix path-info", PATIENCE)?;
    let info =
        serde_json::from_slice(&answer).context("nix path-info answered something unexpected")?;
    Ok(has_address(&info))
}

/// Whether there is a good signature in the store, or in a cache if one is named.
fn verify(path: &Path, cache: Option<&str>) -> Result<bool> {
    let mut nix = nix();
    // One signature, even of what was built here: by default, Nix trusts that without any.
    nix.args(["store", "verify", "--no-contents", "--sigs-needed", "1"]);
    nix.args(cache.into_iter().flat_map(|cache| ["--substituter", cache]));
    nix.arg(path);
    let answer = command::ask(&mut nix, "nix store verify", Stdio::null(), PATIENCE)?;
    match answer.code {
        0 => Ok(true),
        2 => Ok(false),
        code => {
            let of = cache.unwrap_or("the store");
            bail!(
                "nix store verify exited with status {code} for the signatures of {of}: {}",
                answer.stderr_words()
            )
        }
    }
}

/// The caches that Nix fetches from.
fn caches() -> Result<Vec<String>> {
    let mut settings = settings()?;
    if settings.remove("substitute") == Some(Value::Bool(false)) {
        return Ok(Vec::new());
    }
    let caches = settings.remove("substituters");
    let caches = caches.context("nix show-config names no substituters")?;
    Ok(serde_json::from_value(caches)?)
}
