//! The HTTP below libgit2's smart protocol, by ureq.
//!
//! libgit2's own is not used: built with TLS it loads the system's CA certificates whenever it
//! starts, for a repository on the local disk too, which costs more than all the rest of a poll.
//! The protocol is that of gitprotocol-http(5), stateless.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use base64::prelude::{Engine, BASE64_STANDARD};
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use git2::Error;
use ureq::config::Config;
use ureq::http::StatusCode;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, BodyReader, RequestBuilder};

use crate::config::Auth;

/// Who asks: connections, time limit and credentials for one remote.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    authorization: Option<Secret>,
}

/// The client of the fetch under way. libgit2 keeps one factory of transports for the process, and
/// comin fetches one remote at a time.
static CLIENT: Mutex<Option<Client>> = Mutex::new(None);

/// A value that no log and no error shows.
#[derive(Clone)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Client {
    /// A client; the token is read now.
    ///
    /// # Errors
    /// The token's file cannot be read, or does not hold a token.
    pub fn new(timeout: Option<Duration>, auth: Option<&Auth>) -> Result<Self> {
        let config = Config::builder()
            .timeout_global(timeout)
            // It would send the credentials to another port of the same host: done here instead.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Some servers speak Git only to what calls itself git.
            .user_agent(concat!("git/2 (comin ", env!("CARGO_PKG_VERSION"), ")"))
            .tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::PlatformVerifier)
                    .build(),
            )
            .build();
        Ok(Self {
            agent: config.new_agent(),
            authorization: auth.map(authorization).transpose()?,
        })
    }

    /// Makes this the client of the next fetches.
    pub fn install(self) {
        *CLIENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(self);
    }
}

fn authorization(auth: &Auth) -> Result<Secret> {
    let path = &auth.access_token_path;
    let token = std::fs::read_to_string(path)
        .with_context(|| format!("Failed to read the access token {}", path.display()))?;
    let token = token.trim();
    ensure!(
        !token.is_empty() && !token.contains(char::is_control),
        "The access token {} is not one line of text",
        path.display()
    );
    let credentials = BASE64_STANDARD.encode(format!("{}:{token}", auth.username));
    Ok(Secret(format!("Basic {credentials}")))
}

/// Makes the transport of libgit2 for a remote.
pub fn transport(remote: &git2::Remote<'_>) -> Result<Transport, Error> {
    let client = CLIENT
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let client = client.ok_or_else(|| Error::from_str("no HTTP client is installed"))?;
    let base = remote.url()?.trim_end_matches('/').to_string();
    let origin = origin(&base).to_string();
    let server = Server {
        client,
        origin,
        base: Arc::new(Mutex::new(base)),
    };
    Transport::smart(remote, true, server)
}

/// `https://host:port` of a URL.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[host..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| host + at);
    &url[..end]
}

/// A repository on a server.
#[derive(Clone)]
struct Server {
    client: Client,
    /// The only one that may see the credentials.
    origin: String,
    /// The repository's URL, after redirection.
    base: Arc<Mutex<String>>,
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
                response: Some(self.advertisement()?),
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
        self.base
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The list of references. Where the server redirects, the repository has moved for the
    /// requests that follow as well, as git(1) has it.
    fn advertisement(&self) -> Result<BodyReader<'static>, Error> {
        for _ in 0..Self::REDIRECTIONS {
            let url = format!("{}{}", self.base(), Self::REFS);
            let response = self.authorized(self.client.agent.get(&url), &url).call();
            let response = response.map_err(|error| Error::from_str(&sentence(&error)))?;
            if response.status().is_redirection() {
                let to = response
                    .headers()
                    .get("Location")
                    .and_then(|to| to.to_str().ok());
                let base = to.and_then(|to| moved(&url, to, Self::REFS));
                let base = base.ok_or_else(|| {
                    Error::from_str("the server redirects to something that is not a repository")
                })?;
                *self.base.lock().unwrap_or_else(PoisonError::into_inner) = base;
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
        let request = self.authorized(self.client.agent.post(&url), &url);
        let request = request.content_type("application/x-git-upload-pack-request");
        let response = request
            .send(body)
            .map_err(|error| io::Error::other(sentence(&error)))?;
        if response.status() != StatusCode::OK {
            let code = response.status().as_u16();
            return Err(io::Error::other(format!("the server answered HTTP {code}")));
        }
        Ok(reader(response))
    }

    /// The request with the credentials, if it goes to the configured origin.
    fn authorized<B>(&self, request: RequestBuilder<B>, url: &str) -> RequestBuilder<B> {
        match &self.client.authorization {
            Some(secret) if origin(url) == self.origin => {
                request.header("Authorization", &secret.0)
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

fn sentence(error: &ureq::Error) -> String {
    match error {
        ureq::Error::StatusCode(code @ (401 | 403)) => format!(
            "the server refused access (HTTP {code}): check auth.access_token_path and auth.username"
        ),
        ureq::Error::StatusCode(404) => {
            "the server has no such repository, or hides it from us (HTTP 404)".to_string()
        }
        ureq::Error::StatusCode(code) => format!("the server answered HTTP {code}"),
        other => other.to_string(),
    }
}

/// One request: what libgit2 writes is sent when it begins to read.
struct Stream {
    server: Server,
    request: Vec<u8>,
    response: Option<BodyReader<'static>>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.response.is_none() {
            self.response = Some(self.server.exchange(&self.request)?);
        }
        self.response
            .as_mut()
            .map_or(Ok(0), |response| response.read(buffer))
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
    fn origins() {
        assert_eq!(origin("https://h:8443/a/b"), "https://h:8443");
        assert_eq!(origin("https://h"), "https://h");
        assert_eq!(origin("http://h?x"), "http://h");
    }

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

    #[test]
    fn a_secret_shows_nothing() {
        assert_eq!(
            format!("{:?}", Some(Secret("token".into()))),
            "Some((secret))"
        );
    }
}
