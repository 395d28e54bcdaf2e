//! The line at the bottom of a terminal that says what is worked at, and for how long.

use std::convert::Infallible;
use std::io::Write;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys::mutex::Shared;
use crate::sys::terminal;

/// What is shown now; empty where nothing is.
static LINE: Shared<String> = Shared::new(String::new());

const TICK: Duration = Duration::from_secs(1);
const ERASE: &str = "\r\x1b[K";

/// Does a job, and meanwhile says on a terminal that it is being worked at. `work` is printable.
pub fn during<T>(work: &str, job: impl FnOnce() -> T) -> T {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if is_dumb || !terminal::is_on_terminal() {
        return job();
    }
    let (working, done) = channel();
    thread::scope(|scope| {
        scope.spawn(move || tell(work, &done));
        let result = job();
        drop(working);
        result
    })
}

/// The same, and says it for good as well.
pub fn during_told<T>(work: &str, job: impl FnOnce() -> T) -> T {
    log::info!("{work}");
    during(work, job)
}

/// The text as a line of its own, above what is shown at the bottom.
pub fn above(text: &str) -> String {
    let line = LINE.lock();
    if line.is_empty() {
        return format!("{text}\n");
    }
    format!("{ERASE}{text}\n{line}")
}

/// Erases what is shown, for a process that ends in the midst of its job.
pub fn end() {
    if !LINE.lock().is_empty() {
        show(String::new());
    }
}

fn tell(work: &str, done: &Receiver<Infallible>) {
    let began = Instant::now();
    loop {
        // Without wrapping: what is wider than the terminal would leave a row that nobody erases.
        let time = elapsed(began.elapsed());
        show(format!("\x1b[?7l{work}, {time}\x1b[?7h"));
        match done.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return show(String::new()),
            Ok(never) => match never {},
        }
    }
}

fn show(text: String) {
    let mut line = LINE.lock();
    *line = text;
    // There is nobody to tell that the terminal is gone.
    let _ = std::io::stderr().write_all(format!("{ERASE}{line}").as_bytes());
}

fn elapsed(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}
