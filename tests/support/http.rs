//! A Git server: smart HTTP by git-http-backend(1), on loopback, plain or behind TLS.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Said;

/// How the server treats requests.
#[derive(Clone, Default)]
pub struct Rules {
    /// The `Authorization` that it wants to see.
    pub authorization: Option<String>,
    /// Where it redirects everything to.
    pub redirect: Option<String>,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// It closes every connection as long as there is a file here.
    pub away_while: Option<PathBuf>,
}

/// What can go wrong with a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It never answers.
    Stalls,
    /// It stops within the pack, and keeps the connection.
    Hangs,
    /// It closes the connection within the pack.
    Cuts,
    /// One byte of the pack is another one.
    Corrupts,
    /// It serves nothing but files.
    IsDumb,
}

/// A running server.
pub struct Server {
    pub url: String,
    rules: Arc<Mutex<Rules>>,
    /// The requests it got: `METHOD PATH [AUTHORIZATION]`.
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves the repositories below a folder, until the test ends.
    pub fn start(folder: &Path) -> Self {
        Self::serve("http", folder, Some)
    }

    /// The same by HTTPS, with the certificate of this authority for these names, made so many days ago.
    pub fn start_tls(folder: &Path, authority: &Authority, names: &str, age: u32) -> Self {
        Self::start_certified(folder, &authority.certify(names, age))
    }

    /// The same with a certificate and its key.
    pub fn start_certified(folder: &Path, (certificate, key): &(PathBuf, PathBuf)) -> Self {
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(certificate).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            );
        let config = Arc::new(config.unwrap());
        Self::serve("https", folder, move |stream| {
            let connection = ServerConnection::new(config.clone()).ok()?;
            Some(StreamOwned::new(connection, stream))
        })
    }

    fn serve<S: Read + Write>(
        scheme: &str,
        folder: &Path,
        wrap: impl Fn(TcpStream) -> Option<S> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = Self {
            url: format!("{scheme}://{}", listener.local_addr().unwrap()),
            rules: Arc::default(),
            requests: Arc::default(),
        };
        let (folder, rules, requests) = (
            folder.to_path_buf(),
            server.rules.clone(),
            server.requests.clone(),
        );
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (folder, rules, requests, wrap) = (
                    folder.clone(),
                    rules.lock().unwrap().clone(),
                    requests.clone(),
                    wrap.clone(),
                );
                let is_away = rules.away_while.as_ref().is_some_and(|file| file.exists());
                if is_away {
                    continue;
                }
                thread::spawn(move || answer(wrap(stream.unwrap())?, &folder, &rules, &requests));
            }
        });
        server
    }

    /// Changes how it treats the requests that follow.
    pub fn rule(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules.lock().unwrap());
    }
}

/// Who signs certificates.
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// An authority of its own, with its files in a folder.
    pub fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let authority = Self {
            folder: folder.to_path_buf(),
        };
        let name = folder.file_name().unwrap().display();
        authority.run(&format!(
            "openssl req -x509 {NEW_KEY} -subj /CN={name} -days 2 -keyout ca.key -out ca.pem"
        ));
        authority
    }

    /// A certificate that nobody has signed, and that may sign others, as `openssl req -x509` makes it; and its key.
    pub fn self_signed(folder: &Path, names: &str) -> (PathBuf, PathBuf) {
        fs::create_dir_all(folder).unwrap();
        let authority = Self {
            folder: folder.to_path_buf(),
        };
        authority.run(&format!(
            "openssl req -x509 {NEW_KEY} -subj /CN=server -addext subjectAltName={names} -days 2 -keyout key -out pem"
        ));
        (folder.join("pem"), folder.join("key"))
    }

    /// The file with its own certificate, for who trusts it.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for two days, made so many days ago, and its key, for names as
    /// `DNS:localhost,IP:127.0.0.1`.
    fn certify(&self, names: &str, age: u32) -> (PathBuf, PathBuf) {
        fs::write(self.folder.join("names"), format!("subjectAltName={names}")).unwrap();
        self.run(&format!(
            "openssl req -new {NEW_KEY} -subj /CN=server -keyout key -out request"
        ));
        self.run(&format!(
            "faketime -f -{age}d openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -days 2 -out pem"
        ));
        (self.folder.join("pem"), self.folder.join("key"))
    }

    fn run(&self, words: &str) {
        let mut words = words.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(&self.folder);
        let said = Said::of(&command.output().unwrap());
        assert_eq!(said.code, Some(0), "{command:?}: {said:?}");
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn answer(
    stream: impl Read + Write,
    folder: &PathBuf,
    rules: &Rules,
    requests: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_string());
    }
    let authorization = headers.get("authorization").cloned();
    requests.lock().unwrap().push(format!(
        "{method} {target} {}",
        authorization.clone().unwrap_or_default()
    ));
    let length = headers
        .get("content-length")
        .and_then(|l| l.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;

    if rules.fault == Some(Fault::Stalls) {
        // The client gives up, and closes.
        let _ = reader.read(&mut [0]);
        return None;
    }
    let mut stream = reader.into_inner();
    let mut plain = |status: &str, more: &str| {
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n{more}\r\n"
        )
        .ok()
    };
    if let Some(to) = &rules.redirect {
        return plain("302 Found", &format!("Location: {to}{target}\r\n"));
    }
    if rules.authorization.is_some() && rules.authorization != authorization {
        return plain(
            "401 Unauthorized",
            "WWW-Authenticate: Basic realm=\"git\"\r\n",
        );
    }

    let (path, mut query) = target.split_once('?').unwrap_or((&target, ""));
    if rules.fault == Some(Fault::IsDumb) {
        query = "";
    }
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", &method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env(
            "CONTENT_TYPE",
            headers.get("content-type").map_or("", |v| v),
        )
        .env("CONTENT_LENGTH", length.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    backend.stdin.take()?.write_all(&body).ok()?;
    let output = backend.wait_with_output().ok()?.stdout;
    let end = output.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&output[..end]);
    let mut body = output[end + 4..].to_vec();
    let status = head
        .lines()
        .find_map(|l| l.strip_prefix("Status: "))
        .unwrap_or("200 OK");
    let length = body.len();
    let fault = rules.fault.filter(|_| method == "POST");
    match fault {
        Some(Fault::Cuts | Fault::Hangs) => body.truncate(length / 2),
        Some(Fault::Corrupts) => body[length / 2] ^= 0x55,
        Some(Fault::Stalls | Fault::IsDumb) | None => {}
    }
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    stream.write_all(&body).ok()?;
    if fault == Some(Fault::Hangs) {
        let _ = stream.read(&mut [0]);
    }
    Some(())
}
