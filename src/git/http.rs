//! The HTTP below libgit2's smart protocol, by ureq.
//!
//! libgit2's own is not used: built with TLS it loads the system's CA certificates whenever it
//! starts, for a repository on the local disk too, which costs more than all the rest of a poll.
//! The protocol is that of gitprotocol-http(5), stateless.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use base64::prelude::{Engine, BASE64_STANDARD};
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream};
use git2::Error;
use ureq::config::Config;
use ureq::http::StatusCode;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, BodyReader, RequestBuilder};

use super::advertisement::Advertisement;
use super::errors::given_up;
use crate::config::url::{origin, Http, Token};
use crate::git::credentials::{self, Secret};
use crate::sys::mutex::Shared;
use crate::sys::text::printable;

/// A repository on a server, and who asks for it until when.
#[derive(Clone)]
pub struct Server {
    agent: Agent,
    authorization: Option<Secret>,
    /// The only one that may see the credentials.
    origin: String,
    /// The repository's URL, after redirection.
    base: Arc<Shared<String>>,
    /// The time that all requests of a fetch have together, from `started` on; `None` is as long as
    /// they like.
    timeout: Option<Duration>,
    started: Instant,
}

impl Server {
    /// A server that is going to be asked; the token is read, and the time begins.
    pub fn new(http: &Http, timeout: Option<Duration>) -> Result<Self> {
        let mut config = Config::builder()
            // It would send the credentials to another port of the same host: done here instead.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Some servers speak Git only to what calls itself git.
            .user_agent(concat!("git/2 (comin ", env!("CARGO_PKG_VERSION"), ")"))
            .tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::PlatformVerifier)
                    .build(),
            );
        if http.is_on_this_machine() {
            // A proxy would ask its own machine, and be shown the credentials.
            config = config.proxy(None);
        }
        let config = config.build();
        Ok(Self {
            agent: config.new_agent(),
            authorization: http.token.as_ref().map(authorization).transpose()?,
            origin: http.origin().to_string(),
            base: Arc::new(Shared::new(http.url.trim_end_matches('/').to_string())),
            timeout,
            started: Instant::now(),
        })
    }
}

fn authorization(token: &Token) -> Result<Secret> {
    let secret = credentials::read(token)?;
    let credentials = format!("{}:{}", token.username, secret.expose());
    let credentials = BASE64_STANDARD.encode(credentials);
    Ok(Secret::new(format!("Basic {credentials}")))
}

impl SmartSubtransport for Server {
    fn action(
        &self,
        _url: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        match service {
            Service::UploadPackLs => Ok(Box::new(Stream {
                server: self.clone(),
                request: Vec::new(),
                // The first part of the list says only what it is one of.
                response: Some(Box::new(Advertisement::of(self.advertisement()?, 2))),
            })),
            Service::UploadPack => Ok(Box::new(Stream {
                server: self.clone(),
                request: Vec::new(),
                response: None,
            })),
            Service::ReceivePackLs | Service::ReceivePack => {
                Err(Error::from_str("comin never pushes"))
            }
        }
    }

    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl Server {
    const REFS: &str = "/info/refs?service=git-upload-pack";
    /// As many as git(1) follows.
    const REDIRECTIONS: u32 = 20;

    fn base(&self) -> String {
        self.base.lock().clone()
    }

    /// The list of references. Where the server redirects, the repository has moved for the
    /// requests that follow as well, as git(1) has it.
    fn advertisement(&self) -> Result<BodyReader<'static>, Error> {
        for _ in 0..Self::REDIRECTIONS {
            let url = format!("{}{}", self.base(), Self::REFS);
            let response = self.prepared(self.agent.get(&url), &url).call();
            let response = response.map_err(|error| Error::from_str(&self.sentence(&error)))?;
            if response.status().is_redirection() {
                let to = response
                    .headers()
                    .get("Location")
                    .and_then(|to| to.to_str().ok());
                let base = to.and_then(|to| moved(&url, to, Self::REFS));
                let base = base.ok_or_else(|| {
                    Error::from_str("the server redirects to something that is not a repository")
                })?;
                *self.base.lock() = base;
                continue;
            }
            let kind = response.headers().get("Content-Type");
            if kind.is_none_or(|kind| kind != "application/x-git-upload-pack-advertisement") {
                return Err(Error::from_str(
                    "the server does not speak Git's smart HTTP protocol there: check the URL",
                ));
            }
            return Ok(reader(response));
        }
        Err(Error::from_str("the server redirects in circles"))
    }

    fn exchange(&self, body: &[u8]) -> io::Result<BodyReader<'static>> {
        let url = format!("{}/git-upload-pack", self.base());
        let request = self.prepared(self.agent.post(&url), &url);
        let request = request.content_type("application/x-git-upload-pack-request");
        let response = request
            .send(body)
            .map_err(|error| io::Error::other(self.sentence(&error)))?;
        if response.status() != StatusCode::OK {
            let code = response.status().as_u16();
            return Err(io::Error::other(format!("the server answered HTTP {code}")));
        }
        Ok(reader(response))
    }

    /// What went wrong with a request, with the cure.
    fn sentence(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::StatusCode(code @ (401 | 403)) => format!(
                "the server refused access (HTTP {code}): check auth.access_token_path and auth.username"
            ),
            ureq::Error::StatusCode(404) => {
                "the server has no such repository, or hides it from us (HTTP 404)".to_string()
            }
            ureq::Error::StatusCode(code) => format!("the server answered HTTP {code}"),
            ureq::Error::Timeout(_) => given_up(self.timeout),
            other => {
                let text = match other {
                    ureq::Error::Io(error) => error.to_string(),
                    other => other.to_string(),
                };
                // git2 panics at a zero byte.
                let text = printable(&text).into_owned();
                let certificate = text.split_once("invalid peer certificate: ");
                certificate.map_or(text.clone(), |(_, fault)| about_certificate(fault))
            }
        }
    }

    /// The request with the time that is left for it, and with the credentials, if it goes to the
    /// configured origin.
    fn prepared<B>(&self, request: RequestBuilder<B>, url: &str) -> RequestBuilder<B> {
        let left = |timeout: Duration| timeout.saturating_sub(self.started.elapsed());
        let request = request
            .config()
            .timeout_global(self.timeout.map(left))
            .build();
        match &self.authorization {
            Some(secret) if origin(url) == self.origin => {
                request.header("Authorization", secret.expose())
            }
            Some(_) | None => request,
        }
    }
}

/// The repository's URL after a redirection from `url`, whose path ends in `suffix`; `None` where that
/// is no repository, or no longer encrypted.
fn moved(url: &str, to: &str, suffix: &str) -> Option<String> {
    let to = if to.starts_with('/') {
        format!("{}{to}", origin(url))
    } else {
        to.to_string()
    };
    let encrypted = to.starts_with("https://");
    let allowed = encrypted || (to.starts_with("http://") && !url.starts_with("https://"));
    to.strip_suffix(suffix)
        .filter(|_| allowed)
        .map(str::to_string)
}

fn reader(response: ureq::http::Response<ureq::Body>) -> BodyReader<'static> {
    response
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader()
}

/// What rustls thinks of a certificate, with the cure.
fn about_certificate(fault: &str) -> String {
    let has = |text: &str| fault.contains(text);
    if has("UnknownIssuer") {
        "the server's certificate is signed by nobody whom this machine trusts: if it is the right one, add its authority to security.pki.certificateFiles".to_string()
    } else if has("Expired") || has("expired") {
        format!("the server's certificate has expired, or this machine's clock is wrong ({fault})")
    } else if has("NotValidForName") || has("not valid for name") {
        format!("the server's certificate is for another host name ({fault}): check the URL")
    } else {
        format!("the server's certificate is not valid ({fault})")
    }
}

/// One request: what libgit2 writes is sent when it begins to read.
struct Stream {
    server: Server,
    request: Vec<u8>,
    response: Option<Box<dyn Read + Send>>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.response.is_none() {
            self.response = Some(Box::new(self.server.exchange(&self.request)?));
        }
        let read = self
            .response
            .as_mut()
            .map_or(Ok(0), |response| response.read(buffer));
        read.map_err(
            |error| match error.get_ref().and_then(|e| e.downcast_ref()) {
                Some(cause) => io::Error::other(self.server.sentence(cause)),
                None => error,
            },
        )
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.request.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections() {
        let moved = |url, to| moved(url, to, "/refs");
        let some = |url: &str| Some(url.to_string());
        assert_eq!(
            moved("http://a/r/refs", "http://b/s/refs"),
            some("http://b/s")
        );
        assert_eq!(
            moved("https://a/r/refs", "/s.git/refs"),
            some("https://a/s.git")
        );
        assert_eq!(
            moved("http://a/r/refs", "https://a/r/refs"),
            some("https://a/r")
        );
        assert_eq!(moved("https://a/r/refs", "http://a/r/refs"), None);
        assert_eq!(moved("http://a/r/refs", "http://a/login"), None);
        assert_eq!(moved("http://a/r/refs", "file:///r/refs"), None);
    }
}
