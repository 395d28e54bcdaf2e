//! Where a remote is, and what its server wants to see: checked once, so that nobody else has to doubt it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use derive_more::Display;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

/// Where OpenSSH, and `programs.ssh.knownHosts` of NixOS, keep the host keys for every user.
const KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";

/// Where a remote is. Each has the credentials that are its own, and no others.
#[derive(Debug, Clone, PartialEq, Eq, Display)]
pub enum Url {
    /// A folder on this machine.
    #[display("{}", _0.display())]
    Local(PathBuf),
    /// A repository on an HTTP server.
    #[display("{}", _0.url)]
    Http(Http),
    /// A repository on an SSH server.
    #[display("{}", _0.text)]
    Ssh(Ssh),
}

/// A repository on an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// `http://` or `https://`, without a user.
    pub url: String,
    /// What the server wants to see; nothing where everybody may read.
    pub token: Option<Token>,
}

/// Basic authentication with a token that is read when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Most servers do not look at it.
    pub username: String,
    /// The file with the token.
    pub path: PathBuf,
}

/// A repository on an SSH server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The URL as it was written.
    text: String,
    /// Who we are there.
    pub user: String,
    /// A name or an address, neither of which ssh can take for something else.
    pub host: String,
    /// Where the server listens; `None` is where SSH servers do.
    pub port: Option<u16>,
    /// As the server is asked for it: one without a slash begins in the user's home.
    pub path: String,
    /// The file with the private key.
    pub key: PathBuf,
    /// The file with the host keys that are trusted.
    pub known_hosts: PathBuf,
}

/// The credentials as they are written: an empty path is none.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Auth {
    access_token_path: Option<PathBuf>,
    username: Option<String>,
    ssh_deploy_key_path: Option<PathBuf>,
    ssh_known_hosts_path: Option<PathBuf>,
}

impl Url {
    /// The files that a fetch needs.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::Http(http) => http.token.iter().map(|token| &*token.path).collect(),
            Self::Ssh(ssh) => vec![&ssh.key, &ssh.known_hosts],
        }
    }

    /// Checks a URL and the credentials that go with it.
    pub fn new(url: &str, auth: Auth) -> Result<Self> {
        let location = Location::parse(url).context("url")?;
        let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        let token = given(auth.access_token_path);
        let key = given(auth.ssh_deploy_key_path);
        let known_hosts = given(auth.ssh_known_hosts_path);
        let username = auth.username.unwrap_or_else(|| "comin".to_string());
        // A setting that has no effect is one that somebody relies on in vain.
        let unused = |name: &str, setting: Option<&PathBuf>, why: &str| {
            ensure!(setting.is_none(), "auth.{name}: {why}: remove it");
            Ok(())
        };
        match location {
            Location::Local(path) => {
                let why = "a repository on this machine needs no credentials";
                unused("access_token_path", token.as_ref(), why)?;
                unused("ssh_deploy_key_path", key.as_ref(), why)?;
                unused("ssh_known_hosts_path", known_hosts.as_ref(), why)?;
                Ok(Self::Local(path))
            }
            Location::Http { url, user } => {
                let why = "an HTTP server needs a token, not a key";
                unused("ssh_deploy_key_path", key.as_ref(), why)?;
                unused("ssh_known_hosts_path", known_hosts.as_ref(), why)?;
                ensure!(
                    token.is_none() || url.starts_with("https://") || is_loopback(&url),
                    "auth.access_token_path: http:// would show the token to everybody on the way: use https://"
                );
                let username = user.unwrap_or(username);
                let token = token.map(|path| Token { username, path });
                Ok(Self::Http(Http { url, token }))
            }
            Location::Ssh {
                user,
                host,
                port,
                path,
            } => {
                let why = "an SSH server needs a key, not a token";
                unused("access_token_path", token.as_ref(), why)?;
                let key = key.context(
                    "auth.ssh_deploy_key_path: an SSH server needs a key: name the file of a key that may read the repository",
                )?;
                let known_hosts = known_hosts.unwrap_or_else(|| KNOWN_HOSTS.into());
                check_ssh_path(&key).context("auth.ssh_deploy_key_path")?;
                check_ssh_path(&known_hosts).context("auth.ssh_known_hosts_path")?;
                let user = user.unwrap_or(username);
                check_user(&user).context("auth.username")?;
                Ok(Self::Ssh(Ssh {
                    text: url.to_string(),
                    user,
                    host,
                    port,
                    path,
                    key,
                    known_hosts,
                }))
            }
        }
    }
}

impl Http {
    /// `https://host:port`, the only place that may see the token.
    pub fn origin(&self) -> &str {
        origin(&self.url)
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_on_this_machine(&self) -> bool {
        is_loopback(&self.url)
    }
}

/// `https://host:port` of a URL.
pub fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[host..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| host + at);
    &url[..end]
}

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    Local(PathBuf),
    Http {
        url: String,
        user: Option<String>,
    },
    Ssh {
        user: Option<String>,
        host: String,
        port: Option<u16>,
        path: String,
    },
}

impl Location {
    fn parse(url: &str) -> Result<Self> {
        ensure!(
            !url.contains(char::is_control),
            "it contains control characters"
        );
        if let Some(path) = url.strip_prefix("file://") {
            let path = path.strip_prefix("localhost").unwrap_or(path);
            let path = percent_decode_str(path).decode_utf8()?;
            ensure!(
                path.starts_with('/') && !path.contains('\0'),
                "{url:?} names another host: use file:///path"
            );
            return Ok(Self::Local(PathBuf::from(path.as_ref())));
        }
        if url.starts_with("http://") || url.starts_with("https://") {
            let (scheme, authority) = origin(url).split_once("://").unwrap_or_default();
            let (user, host) = match authority.rsplit_once('@') {
                Some((user, host)) => (Some(user), host),
                None => (None, authority),
            };
            ensure!(
                !user.is_some_and(|user| user.contains(':')),
                "it contains credentials, and everybody can read the Nix store: name a file with the token in auth.access_token_path"
            );
            ensure!(!host.is_empty(), "{url:?} names no host");
            let rest = &url[origin(url).len()..];
            let user = user.map(|user| percent_decode_str(user).decode_utf8());
            let user = user.transpose()?.map(Cow::into_owned);
            ensure!(
                !user
                    .as_deref()
                    .is_some_and(|user| user.contains(char::is_control)),
                "its user contains control characters"
            );
            return Ok(Self::Http {
                url: format!("{scheme}://{host}{rest}"),
                user,
            });
        }
        if let Some(rest) = url.strip_prefix("ssh://") {
            return Self::ssh(rest);
        }
        if url.starts_with('/') {
            return Ok(Self::Local(PathBuf::from(url)));
        }
        Self::scp_like(url)
    }

    /// What follows `ssh://`.
    fn ssh(rest: &str) -> Result<Self> {
        let slash = rest.find('/').context("it names no repository")?;
        let (authority, path) = rest.split_at(slash);
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        ensure!(
            !user.is_some_and(|user| user.contains(':')),
            "it contains a password, and everybody can read the Nix store. SSH servers need a key: name its file in auth.ssh_deploy_key_path"
        );
        let (host, port) = match address.strip_prefix('[') {
            Some(address) => {
                let (host, port) = address.split_once(']').context("a ] is missing")?;
                ensure!(
                    matches!(host.parse(), Ok(IpAddr::V6(_))),
                    "{host:?} is not an IPv6 address"
                );
                (host, port.strip_prefix(':').unwrap_or(port))
            }
            None => address.split_once(':').unwrap_or((address, "")),
        };
        let port = match port {
            "" => None,
            port => {
                let number = port.parse().ok().filter(|number| *number > 0);
                Some(number.with_context(|| format!("{port:?} is not a port"))?)
            }
        };
        let path = percent_decode_str(path).decode_utf8()?.into_owned();
        // `/~user/path` begins in a home, as git(1) has it.
        let path = match path.strip_prefix('/') {
            Some(home) if home.starts_with('~') => home.to_string(),
            Some(_) | None => path,
        };
        Self::checked_ssh(user, host, port, path)
    }

    /// `user@host:path`, where a colon does not come after a slash.
    fn scp_like(url: &str) -> Result<Self> {
        let unsupported = || {
            // A password comes before an @, and is not for a log.
            let shown = if url.contains('@') {
                "it".to_string()
            } else {
                format!("{url:?}")
            };
            format!(
                "{shown} is not supported: use an absolute path, file://, http://, https://, ssh:// or user@host:path"
            )
        };
        ensure!(!url.contains("::") && !url.contains("://"), unsupported());
        let (authority, path) = url.split_once(':').with_context(unsupported)?;
        let (user, host) = authority.rsplit_once('@').with_context(unsupported)?;
        ensure!(!authority.contains('/'), unsupported());
        let first = path.split('/').next().unwrap_or_default();
        ensure!(
            first.is_empty() || !first.chars().all(|c| c.is_ascii_digit()),
            "{first} could be a port or a folder: use ssh://{authority}:{path} or ssh://{authority}/{path}"
        );
        Self::checked_ssh(Some(user), host, None, path.to_string())
    }

    fn checked_ssh(
        user: Option<&str>,
        host: &str,
        port: Option<u16>,
        path: String,
    ) -> Result<Self> {
        user.map(check_user).transpose()?;
        let is_name = |host: &str| {
            let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            host.chars().all(safe) && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        ensure!(
            is_name(host) || host.parse::<IpAddr>().is_ok(),
            "{host:?} is not a host: use letters, digits, . - and _, and [ ] around an IPv6 address"
        );
        ensure!(
            !matches!(&*path, "" | "/") && !path.starts_with('-'),
            "{path:?} is not the path of a repository"
        );
        ensure!(
            !path.contains(char::is_control),
            "it contains control characters"
        );
        Ok(Self::Ssh {
            user: user.map(str::to_string),
            host: host.to_string(),
            port,
            path,
        })
    }
}

/// A name that ssh can take for nothing else.
fn check_user(user: &str) -> Result<()> {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    ensure!(
        user.chars().all(safe) && user.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'),
        "{user:?} is not a user of an SSH server: use letters, digits, . - + and _"
    );
    Ok(())
}

/// A path that can be written into ssh's settings, which know no way to write some characters.
fn check_ssh_path(path: &Path) -> Result<()> {
    let Some(text) = path.to_str().filter(|_| path.is_absolute()) else {
        bail!("{} is not an absolute path", path.display());
    };
    ensure!(
        !text.contains(|c: char| c.is_control() || "\"\\$".contains(c)),
        "{text:?} contains characters that ssh cannot take: use a path without \" \\ and $"
    );
    Ok(())
}

/// Whether what is sent there stays on this machine.
fn is_loopback(url: &str) -> bool {
    let (_, authority) = origin(url).split_once("://").unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default();
    let address: Option<IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str, auth: &str) -> String {
        let auth: Auth = serde_json::from_str(auth).unwrap();
        format!("{:#}", Url::new(url, auth).unwrap_err())
    }

    fn ssh(user: Option<&str>, host: &str, port: Option<u16>, path: &str) -> Location {
        Location::Ssh {
            user: user.map(str::to_string),
            host: host.to_string(),
            port,
            path: path.to_string(),
        }
    }

    fn http(user: Option<&str>, url: &str) -> Location {
        Location::Http {
            url: url.to_string(),
            user: user.map(str::to_string),
        }
    }

    #[test]
    fn places() {
        let local = |path: &str| Location::Local(path.into());
        let git = Some("git");
        for (url, location) in [
            ("/srv/a b", local("/srv/a b")),
            ("/srv/a:b@c", local("/srv/a:b@c")),
            ("file:///srv/a%20b", local("/srv/a b")),
            ("file://localhost/srv", local("/srv")),
            (
                "https://git.example.org/r.git",
                http(None, "https://git.example.org/r.git"),
            ),
            (
                "https://me%40work@git.example.org:8443/r.git",
                http(Some("me@work"), "https://git.example.org:8443/r.git"),
            ),
            ("git@host:me/r.git", ssh(git, "host", None, "me/r.git")),
            ("git@host:/srv/a b", ssh(git, "host", None, "/srv/a b")),
            ("git@host:~me/r", ssh(git, "host", None, "~me/r")),
            ("git@host:a/b@c", ssh(git, "host", None, "a/b@c")),
            ("git@10.0.0.1:r", ssh(git, "10.0.0.1", None, "r")),
            ("ssh://git@host/r", ssh(git, "host", None, "/r")),
            (
                "ssh://host:2222/a%20b",
                ssh(None, "host", Some(2222), "/a b"),
            ),
            ("ssh://git@[::1]:22/r", ssh(git, "::1", Some(22), "/r")),
            ("ssh://git@[::1]/~/r", ssh(git, "::1", None, "~/r")),
            (
                "ssh://me@host/~you/r",
                ssh(Some("me"), "host", None, "~you/r"),
            ),
        ] {
            assert_eq!(Location::parse(url).unwrap(), location, "{url}");
        }
    }

    #[test]
    fn hostile_and_ambiguous_urls_are_refused() {
        for bad in [
            "",
            "repo",
            "./repo",
            "file://host/r",
            "ext::sh -c x",
            "git@host::r",
            "http://",
            "https:///r",
            "https://u:secret@host/r",
            "https://me@",
            "https://m%0ae@host/r",
            "/a\nb",
            "-oProxyCommand=x",
            "host:r",
            "C:/r",
            "a/b@host:r",
            "@host:r",
            "git@:r",
            "git@host:",
            "git@host:/",
            "git@host:-x",
            "git@host:22/r",
            "git@host:123",
            "git@-oProxyCommand=x:r",
            "-oProxyCommand=x@host:r",
            "git @host:r",
            "git@ho st:r",
            "git@ho%20st:r",
            "git@[::1]:r",
            "u:secret@host:r",
            "u:secret@host/r",
            "git@host:r\u{7f}",
            "ssh://",
            "ssh://host",
            "ssh:///r",
            "ssh://host/",
            "ssh://@host/r",
            "ssh://u:secret@host/r",
            "ssh://-oProxyCommand=x/r",
            "ssh://-l@host/r",
            "ssh://git@host:0/r",
            "ssh://git@host:65536/r",
            "ssh://git@host:x/r",
            "ssh://git@[host]/r",
            "ssh://git@[::1/r",
            "ssh://git@%68ost/r",
            "ssh://git@ho\u{0}st/r",
            "ssh://git@host/a%0ab",
            "git://host/r",
            "git+ssh://git@host/r",
        ] {
            let error = format!("{:#}", Location::parse(bad).unwrap_err());
            assert!(!error.contains("secret"), "{bad}: {error}");
        }
        let cure = refused("git@host:22/r", "{}");
        assert!(
            cure.contains("use ssh://git@host:22/r or ssh://git@host/22/r"),
            "{cure}"
        );
    }

    #[test]
    fn credentials_fit_the_url() {
        let token = r#"{"access_token_path": "/t"}"#;
        let key = r#"{"ssh_deploy_key_path": "/k"}"#;
        let hosts = r#"{"ssh_known_hosts_path": "/h"}"#;
        let both = r#"{"ssh_deploy_key_path": "/k", "access_token_path": "/t"}"#;
        let none =
            r#"{"access_token_path": "", "ssh_deploy_key_path": "", "ssh_known_hosts_path": ""}"#;
        for (url, auth, wanted) in [
            ("/r", token, "auth.access_token_path: a repository on this"),
            ("/r", key, "auth.ssh_deploy_key_path: a repository on this"),
            ("/r", hosts, "auth.ssh_known_hosts_path: a repository on"),
            (
                "https://h/r",
                key,
                "auth.ssh_deploy_key_path: an HTTP server",
            ),
            ("https://h/r", both, "auth.ssh_deploy_key_path: an HTTP"),
            ("https://h/r", hosts, "auth.ssh_known_hosts_path: an HTTP"),
            ("http://h/r", token, "auth.access_token_path: http:// would"),
            (
                "http://127.0.0.1.h/r",
                token,
                "auth.access_token_path: http",
            ),
            ("git@h:r", both, "auth.access_token_path: an SSH server"),
            ("git@h:r", none, "auth.ssh_deploy_key_path: an SSH server"),
            ("git@h:r", hosts, "auth.ssh_deploy_key_path: an SSH server"),
            (
                "git@h:r",
                r#"{"ssh_deploy_key_path": "k"}"#,
                "not an absolute",
            ),
            (
                "git@h:r",
                r#"{"ssh_deploy_key_path": "/$x"}"#,
                "ssh cannot take",
            ),
            (
                "ssh://h/r",
                r#"{"ssh_deploy_key_path": "/k", "username": "-l"}"#,
                "auth.username: \"-l\" is not a user",
            ),
        ] {
            let error = refused(url, auth);
            assert!(error.contains(wanted), "{url} {auth}: {error}");
        }
        for (url, auth) in [
            ("/r", none),
            ("https://h/r", none),
            ("https://h/r", token),
            ("http://h/r", none),
            ("http://localhost:8080/r", token),
            ("http://127.0.0.1/r", token),
            ("http://[::1]:80/r", token),
            ("git@h:r", key),
        ] {
            let auth = serde_json::from_str(auth).unwrap();
            assert_eq!(Url::new(url, auth).unwrap().to_string(), url);
        }
    }

    #[test]
    fn the_user_of_the_url_is_the_user() {
        let user = |url: &str| {
            let credential = if url.starts_with("https") {
                "access_token_path"
            } else {
                "ssh_deploy_key_path"
            };
            let auth = &format!(r#"{{"{credential}": "/k", "username": "me"}}"#);
            match Url::new(url, serde_json::from_str(auth).unwrap()).unwrap() {
                Url::Ssh(ssh) => ssh.user,
                Url::Http(http) => http.token.unwrap().username,
                Url::Local(_) => unreachable!(),
            }
        };
        assert_eq!(user("git@h:r"), "git");
        assert_eq!(user("ssh://h/r"), "me");
        assert_eq!(user("https://git@h/r"), "git");
        assert_eq!(user("https://h/r"), "me");
    }

    #[test]
    fn origins() {
        assert_eq!(origin("https://h:8443/a/b"), "https://h:8443");
        assert_eq!(origin("https://h"), "https://h");
        assert_eq!(origin("http://h?x"), "http://h");
    }
}
