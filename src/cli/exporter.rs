//! The exporter: one HTTP request on standard input, which systemd has accepted (`Accept=yes`), and its
//! answer. Between two scrapes there is no process.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use httparse::Status;

/// How long the other side may take to ask, and how long to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of a request is read; Prometheus asks with some 300 bytes.
const REQUEST: usize = 8 * 1024;
/// How many lines its head may have.
const HEADERS: usize = 64;

/// What is there beside the metrics.
const FRONT: &str = "The metrics of comin are at /metrics.\n";
/// Why there are none is in the journal, and not for everybody.
const NONE: &str = "There are no metrics: the journal of this machine says why.\n";
const BAD: &str = "This is not a GET request.\n";
/// The format that every Prometheus reads.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers the request on `input` with the metrics; if `input` is no socket, prints them. `metrics` is told whether
/// somebody else asks for them.
///
/// # Errors
/// There are no metrics, of which whoever asks learns only that; or they cannot be printed. A request that is
/// none, and somebody who hangs up, are no errors: anybody can be the cause of that.
pub fn answer<M: Display>(
    input: BorrowedFd<'_>,
    metrics: impl Fn(bool) -> Result<M>,
) -> Result<()> {
    let input = input
        .try_clone_to_owned()
        .context("Failed to look at standard input")?;
    let file = File::from(input);
    if !file.metadata().is_ok_and(|m| m.file_type().is_socket()) {
        return super::output::print(metrics(false)?.to_string().trim_end());
    }
    let mut client = TcpStream::from(OwnedFd::from(file));
    let (path, is_head) = match requested_path(&mut client) {
        Ok(request) => request.unzip(),
        Err(error) => {
            log::debug!("There was no request: {error}");
            return Ok(());
        }
    };
    let mut result = Ok(());
    let (status, kind, body) = match path.as_deref() {
        Some("/metrics") => match metrics(true) {
            Ok(metrics) => ("200 OK", METRICS, metrics.to_string()),
            Err(error) => {
                result = Err(error);
                ("500 Internal Server Error", TEXT, NONE.to_string())
            }
        },
        Some("/") => ("200 OK", TEXT, FRONT.to_string()),
        Some(_) => ("404 Not Found", TEXT, FRONT.to_string()),
        None => ("400 Bad Request", TEXT, BAD.to_string()),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{}",
        if is_head == Some(true) { "" } else { &body }
    );
    let sent = client.set_write_timeout(Some(PATIENCE));
    if let Err(error) = sent.and_then(|()| client.write_all(answer.as_bytes())) {
        log::debug!("The client has closed the connection: {error}");
    }
    result
}

/// The path of a GET request, without its query, and whether it is a HEAD request instead; `None` if it is neither, or
/// says more than anybody needs to.
/// Whoever asks need not do so by TCP: whatever socket it is, the type only gives it a time limit.
fn requested_path(client: &mut TcpStream) -> io::Result<Option<(String, bool)>> {
    let deadline = Instant::now() + PATIENCE;
    let (mut head, mut more) = (Vec::new(), [0; 1024]);
    while head.len() < REQUEST {
        client.set_read_timeout(Some(deadline.saturating_duration_since(Instant::now())))?;
        match client.read(&mut more)? {
            0 if head.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
            0 => break,
            read => head.extend_from_slice(&more[..read]),
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(Status::Partial) => {}
            Ok(Status::Complete(_)) if matches!(request.method, Some("GET" | "HEAD")) => {
                let path = request.path.and_then(|path| path.split('?').next());
                let is_head = request.method == Some("HEAD");
                return Ok(path.map(|path| (path.to_string(), is_head)));
            }
            Ok(Status::Complete(_)) | Err(_) => break,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
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
        let server = thread::spawn(move || answer(theirs.as_fd(), |_| metrics()));
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
                400,
                "request.\n",
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
        let (_, answer) = ask(b"HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(answer.contains("\r\nContent-Length: 10\r\n"), "{answer}");
        assert!(answer.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
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
