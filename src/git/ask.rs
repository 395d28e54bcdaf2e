//! One small HTTP request for the heads of a remote: what an idle poll does instead of starting git.
//!
//! It knows no proxy and follows no redirection. Whatever is not plain is git's to find out, so an answer counts only
//! if it says that nothing has moved.

use std::time::Duration;

use anyhow::{ensure, Context, Error, Result};
use base64::prelude::{Engine, BASE64_STANDARD};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::Agent;

use super::{credentials, heads::Heads};
use crate::config::{url::Http, Remote};

/// The longest list of references that is read: some 200,000 of them.
const LONGEST: u64 = 16 * 1024 * 1024;
/// How long the connection may take. A name may have several addresses: the first has two thirds of it.
const CONNECT: Duration = Duration::from_secs(6);
/// How long the whole request may take.
const REQUEST: Duration = Duration::from_secs(15);

/// Asks a server for the heads of a remote's branches within a time.
pub fn heads(http: &Http, remote: &Remote, time: Option<Duration>) -> Result<Heads> {
    ensure!(
        !is_proxied() || http.is_on_this_machine(),
        "a proxy is configured"
    );
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
    let config = Agent::config_builder()
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(time.map_or(REQUEST, |time| time.min(REQUEST))))
        // Some servers speak Git only to what calls itself git.
        .user_agent(concat!("git/2 (comin ", env!("CARGO_PKG_VERSION"), ")"))
        .tls_config(tls.build())
        .build();
    let url = format!(
        "{}/info/refs?service=git-upload-pack",
        http.url.trim_end_matches('/')
    );
    let mut request = config.new_agent().get(&url);
    if let Some(token) = &http.token {
        let credentials = format!("{}:{}", token.username, credentials::read(token)?.expose());
        let credentials = BASE64_STANDARD.encode(credentials);
        request = request.header("Authorization", format!("Basic {credentials}"));
    }
    let answer = request.call()?;
    let list = answer.into_body().into_with_config().limit(LONGEST);
    parse(&list.read_to_vec()?, remote)
}

/// Whether curl(1) might use a proxy. Which hosts it is for is git's to know.
fn is_proxied() -> bool {
    let proxies = [
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ];
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    proxies.into_iter().any(is_set)
}

/// The heads in a list of references, as gitprotocol-http(5) has it.
fn parse(list: &[u8], remote: &Remote) -> Result<Heads> {
    let (service, references) = section(list)?;
    ensure!(
        service == [b"# service=git-upload-pack\n"],
        "the answer is not a list of references"
    );
    let (references, _) = section(references)?;
    Heads::find(remote, |name| {
        let head = references.iter().find_map(|line| {
            let (id, rest) = line.split_at_checked(line.iter().position(|byte| *byte == b' ')?)?;
            // The first one tells besides what the server is capable of.
            let named = rest[1..].split(|byte| matches!(byte, b'\0' | b'\n')).next();
            (named == Some(name.as_bytes())).then_some(id)
        });
        let parse = |id| str::from_utf8(id)?.parse().map_err(Error::msg);
        head.map(parse).transpose()
    })
}

/// The lines of a list until its end, and what comes after that.
fn section(mut list: &[u8]) -> Result<(Vec<&[u8]>, &[u8])> {
    let mut lines = Vec::new();
    loop {
        let (digits, rest) = list
            .split_first_chunk::<4>()
            .context("the list ends early")?;
        let length = usize::from_str_radix(str::from_utf8(digits)?, 16)?;
        if length == 0 {
            return Ok((lines, rest));
        }
        let length = length.checked_sub(digits.len());
        let line = length.and_then(|length| rest.split_at_checked(length));
        let (line, rest) = line.context("a line of the list is cut off")?;
        lines.push(line);
        list = rest;
    }
}

/// Why git is going to fail as well if there was no answer, with the cure, if that is known.
pub fn cure(error: &Error) -> Option<String> {
    match error.downcast_ref::<ureq::Error>()? {
        ureq::Error::StatusCode(code @ (401 | 403)) => Some(format!(
            "the server refused access (HTTP {code}): check auth.access_token_path and auth.username"
        )),
        ureq::Error::StatusCode(404) => {
            Some("the server has no such repository, or hides it from us (HTTP 404)".to_string())
        }
        error => {
            let text = error.to_string();
            about_certificate(text.split_once("invalid peer certificate: ")?.1)
        }
    }
}

/// What rustls thinks of a certificate, with the cure.
fn about_certificate(fault: &str) -> Option<String> {
    let has = |text: &str| fault.contains(text);
    if has("UnknownIssuer") {
        Some("the server's certificate has an unknown issuer: if the server is the right one, add its CA to security.pki.certificateFiles".to_string())
    } else if has("Expired") || has("expired") {
        Some(format!(
            "the server's certificate has expired, or this machine's clock is wrong ({fault})"
        ))
    } else if has("NotValidForName") || has("not valid for name") {
        Some(format!(
            "the server's certificate is for another host name ({fault}): check the URL"
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_in_a_list_and_nothing_else_is() {
        let remote = &crate::config::for_tests().remotes[0];
        let id = "1".repeat(40);
        let line = |text: String| format!("{:04x}{text}", text.len() + 4);
        let service = line("# service=git-upload-pack\n".to_string()) + "0000";
        let list = |name: &str| line(format!("{id} {name}\n")) + "0000";
        let heads = |list: String| parse(list.as_bytes(), remote);
        let found = heads(format!("{service}{}", list("refs/heads/main"))).unwrap();
        assert_eq!(found.main.unwrap().as_str(), id);
        let first = list("refs/heads/main\0capable of=everything");
        assert!(heads(format!("{service}{first}")).unwrap().main.is_some());
        for other in ["refs/heads/main2", "refs/heads/mai", "main", "HEAD", ""] {
            let found = heads(format!("{service}{}", list(other))).unwrap();
            assert_eq!(found, Heads::default(), "{other}");
        }
        let bad_id = line("x refs/heads/main\n".to_string());
        for bad in [
            String::new(),
            service.clone(),
            "0000".to_string(),
            list("refs/heads/main"),
            format!("{service}{bad_id}0000"),
            format!("{service}0003"),
            format!("{service}+009main\n"),
            format!("{service}ffffmain"),
            format!("{service}\u{1f4a3}"),
            "<html>".to_string(),
        ] {
            assert!(heads(bad.clone()).is_err(), "{bad}");
        }
    }
}
