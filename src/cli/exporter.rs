//! The exporter: one HTTP request on standard input, which systemd has accepted (`Accept=yes`), and its
//! answer. Between two scrapes there is no process.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long the other side may take to ask, and how long to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of a request is read; Prometheus asks with some 300 bytes.
const REQUEST: usize = 8 * 1024;
/// How many lines its head may have.
const HEADERS: usize = 64;

/// What is there beside the metrics.
const FRONT: &str = "The metrics of comin are at /metrics.\n";
/// The format that every Prometheus reads.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers the request on `input` with the metrics; where that is no socket, prints them.
///
/// # Errors
/// There are no metrics, of which whoever asks learns only that; or they cannot be printed. A request that is
/// none, and somebody who hangs up, are no errors: anybody can be the cause of that.
pub fn answer<M: Display>(input: BorrowedFd<'_>, metrics: impl Fn() -> Result<M>) -> Result<()> {
    let input = input
        .try_clone_to_owned()
        .context("Failed to look at standard input")?;
    let file = File::from(input);
    if !file.metadata().is_ok_and(|m| m.file_type().is_socket()) {
        return super::output::print(metrics()?.to_string().trim_end());
    }
    let mut client = Client(TcpStream::from(OwnedFd::from(file)));
    let request = match client.request() {
        Ok(request) => request,
        Err(error) => {
            log::debug!("There was no request: {error}");
            return Ok(());
        }
    };
    let (response, result) = match &request {
        Request::For { path, .. } if path == "/metrics" => match metrics() {
            Ok(metrics) => (Response::ok(METRICS, &metrics.to_string()), Ok(())),
            Err(error) => (Response::failed(), Err(error)),
        },
        Request::For { path, .. } if path == "/" => (Response::ok(TEXT, FRONT), Ok(())),
        Request::For { .. } => (Response::not_found(), Ok(())),
        Request::OfAnotherMethod => (Response::method_not_allowed(), Ok(())),
        Request::Malformed => (Response::bad_request(), Ok(())),
    };
    if let Err(error) = client.respond(&request, &response) {
        log::debug!("Whoever asked has hung up: {error}");
    }
    result
}

/// What somebody asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// A page, without its query.
    For {
        path: String,
        /// With HEAD, nothing but what would be said of it.
        head_only: bool,
    },
    /// To do something with a page.
    OfAnotherMethod,
    /// No HTTP, or more than anybody needs to say.
    Malformed,
}

impl Request {
    /// The request, once its head is complete.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Err(_) => Some(Self::Malformed),
            Ok(httparse::Status::Partial) => None,
            Ok(httparse::Status::Complete(_)) => {
                let target = request.path.unwrap_or_default();
                let path = target.split_once('?').map_or(target, |(path, _)| path);
                let head_only = match request.method {
                    Some("GET") => false,
                    Some("HEAD") => true,
                    Some(_) | None => return Some(Self::OfAnotherMethod),
                };
                Some(Self::For {
                    path: path.to_string(),
                    head_only,
                })
            }
        }
    }
}

/// What is answered.
struct Response {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Response {
    fn ok(kind: &'static str, body: &str) -> Self {
        Self {
            status: "200 OK",
            kind,
            body: body.to_string(),
        }
    }

    fn error(status: &'static str, body: &str) -> Self {
        Self {
            status,
            kind: TEXT,
            body: body.to_string(),
        }
    }

    fn bad_request() -> Self {
        Self::error("400 Bad Request", "This is no HTTP request.\n")
    }

    fn not_found() -> Self {
        Self::error("404 Not Found", FRONT)
    }

    fn method_not_allowed() -> Self {
        Self::error("405 Method Not Allowed\r\nAllow: GET, HEAD", "Use GET.\n")
    }

    /// Why, is in the journal, and nothing for everybody.
    fn failed() -> Self {
        let body = "There are no metrics: the journal of this machine says why.\n";
        Self::error("500 Internal Server Error", body)
    }
}

/// Who asks. Not necessarily by TCP: whatever socket it is, the type only gives it a time limit.
struct Client(TcpStream);

impl Client {
    fn request(&mut self) -> io::Result<Request> {
        let limit = Instant::now() + PATIENCE;
        let mut bytes = Vec::new();
        let mut more = [0; 1024];
        while bytes.len() < REQUEST {
            match self.read(&mut more, limit)? {
                0 if bytes.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
                0 => return Ok(Request::Malformed),
                read => bytes.extend_from_slice(&more[..read]),
            }
            if let Some(request) = Request::parse(&bytes) {
                return Ok(request);
            }
        }
        Ok(Request::Malformed)
    }

    fn respond(&mut self, request: &Request, response: &Response) -> io::Result<()> {
        let Response { status, kind, body } = response;
        let length = body.len();
        let mut text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        if !matches!(
            request,
            Request::For {
                head_only: true,
                ..
            }
        ) {
            text.push_str(body);
        }
        self.0.set_write_timeout(Some(PATIENCE))?;
        self.0.write_all(text.as_bytes())?;
        self.0.shutdown(Shutdown::Write)?;
        // Closed with something unread, the connection would be reset, and the answer be lost.
        let limit = Instant::now() + PATIENCE;
        let mut rest = [0; 1024];
        let mut left = 64 * REQUEST;
        while left > 0 {
            match self.read(&mut rest, limit)? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], limit: Instant) -> io::Result<usize> {
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.0.set_read_timeout(Some(left))?;
        match self.0.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.read(buffer, limit),
            read => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use anyhow::anyhow;

    use super::*;

    /// What comes of a request, and what is answered.
    fn ask(request: &[u8]) -> (Result<()>, String) {
        ask_of(request, || Ok("comin_x 1\n"))
    }

    fn ask_of(request: &[u8], metrics: fn() -> Result<&'static str>) -> (Result<()>, String) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || answer(theirs.as_fd(), metrics));
        // What is answered before it was said whole is answered all the same.
        let _ = ours.write_all(request);
        let _ = ours.shutdown(Shutdown::Write);
        let mut response = Vec::new();
        let _ = ours.read_to_end(&mut response);
        let response = String::from_utf8(response).unwrap();
        (server.join().unwrap(), response)
    }

    #[test]
    fn pages() {
        for (request, status, end) in [
            (
                "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
                200,
                "\r\n\r\ncomin_x 1\n",
            ),
            (
                "GET /metrics?a=b HTTP/1.0\r\n\r\n",
                200,
                "\r\n\r\ncomin_x 1\n",
            ),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", 200, "\r\n\r\n"),
            ("GET / HTTP/1.1\r\n\r\n", 200, FRONT),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", 404, FRONT),
            ("GET /../etc/passwd HTTP/1.1\r\n\r\n", 404, FRONT),
            (
                "POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
                405,
                "Use GET.\n",
            ),
            ("GET /metrics\r\n\r\n", 400, "request.\n"),
            ("GET /metrics HTTP/1.1\r\n", 400, "request.\n"),
            ("\u{16}\u{3}\u{1}", 400, "request.\n"),
        ] {
            let (result, response) = ask(request.as_bytes());
            assert!(result.is_ok(), "{request:?}");
            let wanted = format!("HTTP/1.1 {status} ");
            assert!(response.starts_with(&wanted), "{request:?}: {response}");
            assert!(response.ends_with(end), "{request:?}: {response}");
        }
        let (_, head) = ask(b"HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(head.contains("\r\nContent-Length: 10\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    }

    #[test]
    fn garbage_is_no_request_and_nobody_falls_over_it() {
        let long_line = [b"GET /".to_vec(), vec![b'a'; 2 * REQUEST]].concat();
        let many = [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"a: b\r\n".repeat(HEADERS + 1),
        ]
        .concat();
        let every_byte: Vec<u8> = (0..=255).collect();
        for request in [
            long_line,
            many,
            every_byte,
            vec![0; REQUEST],
            vec![b'\n'; 3],
        ] {
            let (result, response) = ask(&request);
            assert!(result.is_ok());
            assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        }
        let (result, response) = ask(b"");
        assert!(result.is_ok() && response.is_empty(), "{response}");
    }

    #[test]
    fn why_there_are_no_metrics_is_not_for_everybody() {
        let request = b"GET /metrics HTTP/1.1\r\n\r\n";
        let (result, response) = ask_of(request, || Err(anyhow!("/a/secret/path is broken")));
        assert!(result.unwrap_err().to_string().contains("path is broken"));
        assert!(response.starts_with("HTTP/1.1 500 "), "{response}");
        assert!(!response.contains("path"), "{response}");
    }
}
