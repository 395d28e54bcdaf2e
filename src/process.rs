//! Processes: a command run to its end, its standard error streamed into the journal, its failure
//! one sentence; a tool that is asked quietly; and whether another process still lives.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::process::{
    kill_process, kill_process_group, pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal,
};
use serde::{Deserialize, Serialize};

use crate::journal::{printable, shortened, CHILD};
use crate::shared::Shared;
use crate::signal::Listening;

/// How long a child that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How long the last words of a child that has ended may take.
const LINGER: Duration = Duration::from_secs(2);
/// More of a line or of an answer than anybody reads.
const MAX_LINE: u64 = 64 * 1024;
const MAX_OUTPUT: u64 = 16 * 1024 * 1024;

/// Runs a command to its end and returns its standard output. `what` names it in errors.
///
/// # Errors
/// It cannot be started, does not end within `timeout`, or fails; then with the end of what it said.
pub fn run(command: &mut Command, what: &str, timeout: Option<Duration>) -> Result<String> {
    let output = run_unless(command, what, timeout, None)?;
    output.with_context(|| format!("{what} was stopped"))
}

/// Runs a command that is to go on if this process dies: it says what it says where this process does,
/// and not into a pipe that would break. `what` names it in errors.
///
/// # Errors
/// It cannot be started, or fails.
pub fn run_to_outlive(command: &mut Command, what: &str) -> Result<()> {
    log::debug!("Running {command:?}");
    let stderr = std::io::stderr().as_fd().try_clone_to_owned()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(stderr)
        .process_group(0)
        .status()
        .with_context(|| format!("Failed to start {what}: is it installed?"))?;
    ensure!(status.success(), "{what} {}", sentence(status));
    Ok(())
}

/// Something that may end a command early, with all that the command has started.
pub struct Interrupt<'a> {
    /// Becomes readable when there is something to look at.
    pub signal: BorrowedFd<'a>,
    /// Looks at it: whether the command is to end.
    pub ends: &'a dyn Fn() -> Result<bool>,
}

/// [`run`]; `None` where it was interrupted.
///
/// # Errors
/// Those of [`run`], and those of the interrupt.
pub fn run_unless(
    command: &mut Command,
    what: &str,
    timeout: Option<Duration>,
    interrupt: Option<&Interrupt>,
) -> Result<Option<String>> {
    let limits = Limits { timeout, interrupt };
    let Said {
        ended,
        output,
        tail,
    } = complete(
        command.stdin(Stdio::null()),
        what,
        &limits,
        log::Level::Info,
    )?;
    match ended {
        Ended::InTime(status) if status.success() => String::from_utf8(output)
            .map(Some)
            .with_context(|| format!("{what} answered no text")),
        Ended::InTime(status) => bail!("{what} {}{}", sentence(status), tail.sentence()),
        Ended::TimedOut(after) => bail!(
            "{what} was stopped after {} seconds, as configured{}",
            after.as_secs(),
            tail.sentence()
        ),
        Ended::Interrupted => Ok(None),
    }
}

/// What a tool answered to a question.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub output: Vec<u8>,
    tail: Tail,
}

impl Answer {
    /// The last lines of its standard error, printable, the oldest first.
    pub fn said(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.tail.lines.iter().map(String::as_str)
    }
}

/// Asks a tool something whose exit code is a part of the answer. What it says on standard error is
/// for whoever debugs, not for the journal. `what` names it in errors.
///
/// # Errors
/// It gave no answer: it cannot be started, was killed, or does not end within `timeout`.
pub fn ask(
    command: &mut Command,
    what: &str,
    input: impl Into<Stdio>,
    timeout: Duration,
) -> Result<Answer> {
    let limits = Limits {
        timeout: Some(timeout),
        interrupt: None,
    };
    let Said {
        ended,
        output,
        tail,
    } = complete(command.stdin(input), what, &limits, log::Level::Debug)?;
    match ended {
        Ended::InTime(status) => {
            let code = status
                .code()
                .with_context(|| format!("{what} {}", sentence(status)))?;
            Ok(Answer { code, output, tail })
        }
        Ended::TimedOut(after) => bail!(
            "{what} did not answer within {} seconds and was stopped{}",
            after.as_secs(),
            tail.sentence()
        ),
        Ended::Interrupted => bail!("{what} was stopped"),
    }
}

/// What may end a command before it is done.
struct Limits<'a> {
    timeout: Option<Duration>,
    interrupt: Option<&'a Interrupt<'a>>,
}

struct Said {
    ended: Ended,
    output: Vec<u8>,
    tail: Tail,
}

fn complete(command: &mut Command, what: &str, limits: &Limits, level: log::Level) -> Result<Said> {
    log::debug!("Running {command:?}");
    let signals = Listening::begin()?;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: with a command ends what it has started.
        .process_group(0)
        .spawn()
        .with_context(|| format!("Failed to start {what}: is it installed?"))?;
    let stdout = child.stdout.take().context("the child has no output")?;
    let stderr = child.stderr.take().context("the child has no errors")?;
    let (listening, ended_both) = mpsc::channel::<Infallible>();
    let (output, tail) = (Arc::<Shared<_>>::default(), Arc::<Shared<_>>::default());
    thread::spawn({
        let (output, listening) = (Arc::clone(&output), listening.clone());
        move || collect(stdout.take(MAX_OUTPUT), &output, &listening)
    });
    thread::spawn({
        let tail = Arc::clone(&tail);
        move || Tail::stream(BufReader::new(stderr), level, &tail, &listening)
    });

    let ended = await_end(&mut child, limits, &signals)?;
    // Where a signal has come, this is the end, unless another command is awaited, too.
    drop(signals);
    // What it has started and left behind may keep the pipes for ever.
    if let Err(RecvTimeoutError::Timeout) = ended_both.recv_timeout(LINGER) {
        log::debug!("Something that {what} has started still runs");
    }
    let output = std::mem::take(&mut *output.lock());
    let tail = std::mem::take(&mut *tail.lock());
    Ok(Said {
        ended,
        output,
        tail,
    })
}

/// Reads a pipe to its end; then `_listening` goes away.
fn collect(mut pipe: impl Read, output: &Shared<Vec<u8>>, _listening: &Sender<Infallible>) {
    let mut more = [0; 8192];
    while let Ok(read @ 1..) = pipe.read(&mut more) {
        output.lock().extend_from_slice(&more[..read]);
    }
}

enum Ended {
    InTime(ExitStatus),
    TimedOut(Duration),
    Interrupted,
}

/// Awaits the end of a child, or brings it about.
fn await_end(child: &mut Child, limits: &Limits, signals: &Listening) -> Result<Ended> {
    let group = Pid::from_child(child);
    let early = match ends_early(group, limits, signals) {
        Ok(None) => return Ok(Ended::InTime(child.wait()?)),
        Ok(Some(early)) => Ok(early),
        Err(error) => Err(error),
    };
    // Nix ends its builders when it is asked to end; killed, it would leave them.
    kill_process_group(group, Signal::TERM)?;
    if !ends_within(group, GRACE)? {
        log::debug!("A child did not end when it was asked to");
    }
    // What is left of the group, if anything is, holds our pipes.
    if let Err(error) = kill_process_group(group, Signal::KILL) {
        log::debug!("Nothing is left to kill: {error}");
    }
    child.wait()?;
    Ok(match early? {
        Early::TimedOut(after) => Ended::TimedOut(after),
        Early::Interrupted | Early::Signalled => Ended::Interrupted,
    })
}

/// Why a child is not to come to its own end.
enum Early {
    TimedOut(Duration),
    Interrupted,
    Signalled,
}

/// Waits until the child ends, its time is up, it is interrupted or comin is to end; `None` for the
/// first.
fn ends_early(child: Pid, limits: &Limits, signals: &Listening) -> Result<Option<Early>> {
    let pidfd = pidfd_open(child, PidfdFlags::empty())?;
    let started = Instant::now();
    loop {
        let left = limits.timeout.map(|t| t.saturating_sub(started.elapsed()));
        let left = left.map(Timespec::try_from).transpose()?;
        let mut fds = vec![
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        if let Some(interrupt) = limits.interrupt {
            fds.push(PollFd::new(&interrupt.signal, PollFlags::IN));
        }
        match (poll(&mut fds, left.as_ref()), limits.timeout) {
            (Ok(0), Some(timeout)) => return Ok(Some(Early::TimedOut(timeout))),
            (Ok(_) | Err(rustix::io::Errno::INTR), _) => {}
            (Err(error), _) => return Err(error.into()),
        }
        let ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
        if ready(0) {
            return Ok(None);
        }
        if ready(1) {
            return Ok(Some(Early::Signalled));
        }
        if let Some(interrupt) = limits.interrupt.filter(|_| ready(2)) {
            if (interrupt.ends)()? {
                return Ok(Some(Early::Interrupted));
            }
        }
    }
}

/// Awaits the end of a child that has been told to end, and kills it if that takes too long.
///
/// # Errors
/// The child cannot be awaited.
pub fn end(child: &mut Child, grace: Duration) -> Result<()> {
    // One that has been awaited has no number any more.
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    if !ends_within(Pid::from_child(child), grace)? {
        child.kill()?;
    }
    child.wait()?;
    Ok(())
}

fn ends_within(pid: Pid, time: Duration) -> Result<bool> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    is_ready_within(&pidfd, time)
}

fn is_ready_within(pidfd: &OwnedFd, time: Duration) -> Result<bool> {
    let time = Timespec::try_from(time)?;
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&time)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills a child whose time is up, whatever its parent is waiting for meanwhile.
#[derive(Debug)]
pub struct TimeLimit(thread::JoinHandle<Result<bool>>);

impl TimeLimit {
    /// Watches over a child from now on.
    ///
    /// # Errors
    /// The child cannot be watched.
    pub fn on(child: &Child, time: Duration) -> Result<Self> {
        // Opened here: once its parent has awaited the child, the number may be another's.
        let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        Ok(Self(thread::spawn(move || {
            if is_ready_within(&pidfd, time)? {
                return Ok(false);
            }
            pidfd_send_signal(&pidfd, Signal::KILL)?;
            Ok(true)
        })))
    }

    /// Whether a child that has ended was killed.
    #[must_use]
    pub fn struck(self) -> bool {
        matches!(self.0.join(), Ok(Ok(true)))
    }
}

/// How a process ended: "exited with status 1", "was killed by signal 9".
#[must_use]
pub fn sentence(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_string(),
    }
}

/// A process, told apart from a later one with the same number.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pid: u32,
    /// In clock ticks since the boot: field 22 of `proc_pid_stat(5)`.
    started: u64,
}

impl Process {
    /// This process.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn own() -> Result<Self> {
        let pid = std::process::id();
        let started = start_of(pid).context("Failed to read /proc/self/stat")?;
        Ok(Self { pid, started })
    }

    /// Kills it.
    pub fn kill(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.lives()) {
            if let Err(error) = kill_process(pid, Signal::KILL) {
                log::debug!("Failed to kill {self:?}: {error}");
            }
        }
    }

    /// Whether it still runs.
    #[must_use]
    pub fn lives(&self) -> bool {
        start_of(self.pid) == Some(self.started)
    }
}

fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program comes second, in parentheses, and may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X");
    (!dead).then_some(())?;
    fields.nth(18)?.parse().ok()
}

/// Whether Nix shows a line of a source file, as `  5|   label = second;`: in a sentence it is noise.
fn is_excerpt(line: &str) -> bool {
    line.trim_start_matches(|c: char| c.is_ascii_digit())
        .starts_with('|')
}

/// Whether Nix shows what was said before, or where more of it is: in a sentence that is noise, too.
fn is_aside(line: &str) -> bool {
    let lines = line.strip_prefix("last ").or(line.strip_prefix("Last "));
    lines.is_some_and(|rest| rest.ends_with("log lines:"))
        || line.starts_with("For full logs")
        || line.starts_with("nix log ")
        || line.starts_with("nix-store -l ")
        || line == "Output paths:"
        || line.starts_with("/nix/store/")
}

fn is_error(line: &str) -> bool {
    line.trim_start().starts_with("error:")
}

/// Whether Nix says only that something that was needed has failed, which it has named before.
fn is_consequence(line: &str) -> bool {
    is_error(line)
        && (line.contains("dependencies of derivation") && line.ends_with("failed to build")
            || line.ends_with("Build failed due to failed dependency"))
}

/// The same, in the second line of it.
fn is_reason_of_consequence(line: &str) -> bool {
    let reason = line.trim_start().strip_prefix("Reason: ");
    reason.is_some_and(|text| text.contains(" dependenc") && text.ends_with(" failed."))
}

/// The last lines that a child said, less those by which Nix repeats that it has failed.
#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    /// Whether what is said is about something that has been said.
    repeats: bool,
}

impl Tail {
    /// What Nix says of one failure has 25 lines of a log.
    const LINES: usize = 40;
    const CHARS: usize = 2000;

    /// Reads a pipe to its end; then `_listening` goes away.
    fn stream(
        mut from: impl BufRead,
        level: log::Level,
        tail: &Shared<Self>,
        _listening: &Sender<Infallible>,
    ) {
        let mut line = Vec::new();
        while matches!(from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = printable(&String::from_utf8_lossy(&line)).into_owned();
            line.clear();
            if text.trim().is_empty() {
                continue;
            }
            log::log!(target: CHILD, level, "{text}");
            tail.lock().push(text);
        }
    }

    fn push(&mut self, line: String) {
        let errors = self.lines.iter().filter(|line| is_error(line)).count();
        if is_error(&line) {
            self.repeats = errors > 0 && is_consequence(&line);
        } else if is_reason_of_consequence(&line) && errors > 1 {
            self.lines.pop_back();
            self.repeats = true;
        }
        if self.repeats {
            return;
        }
        if self.lines.len() == Self::LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// From the last line that says `error:` on, as Nix explains below it; without one, the last line.
    fn sentence(&self) -> String {
        let error = self.lines.iter().rposition(|line| is_error(line));
        let from = error.unwrap_or(self.lines.len().saturating_sub(1));
        let lines = self.lines.iter().skip(from).map(|line| line.trim());
        let lines = lines.filter(|line| error.is_none() || !is_excerpt(line) && !is_aside(line));
        let mut lines: Vec<&str> = lines.collect();
        // Of a log, the end.
        let last = lines.iter().rposition(|line| line.starts_with("> "));
        let mut number = 0..;
        lines.retain(|line| number.next() == last || !line.starts_with("> "));
        let text = lines.join("\n");
        let text = text.trim_end_matches(':');
        if text.is_empty() {
            return String::new();
        }
        format!(": {}", shortened(text, Self::CHARS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, timeout: Option<Duration>) -> Result<String> {
        run(
            Command::new("sh").args(["-c", script]),
            "the script",
            timeout,
        )
    }

    #[test]
    fn success_is_the_output() {
        assert_eq!(sh("echo out; echo noise >&2", None).unwrap(), "out\n");
    }

    #[test]
    fn a_failure_is_told_by_what_has_failed_and_not_by_what_needed_it() {
        let told = |said: &str| {
            let mut tail = Tail::default();
            said.lines().for_each(|line| tail.push(line.to_string()));
            tail.sentence()
        };
        let log = "       > compiling\n".repeat(24);
        assert_eq!(
            told(&format!(
                "error: builder for '/nix/store/a.drv' failed with exit code 1;
       last 25 log lines:
{log}       > no such file
       For full logs, run 'nix log /nix/store/a.drv'.
error: 1 dependencies of derivation '/nix/store/b.drv' failed to build
error: 2 dependencies of derivation '/nix/store/c.drv' failed to build"
            )),
            ": error: builder for '/nix/store/a.drv' failed with exit code 1;\n> no such file"
        );
        // Since 2.30.
        let consequence = "error: Cannot build '/nix/store/b.drv'.
       Reason: 1 dependency failed.
       Output paths:
         /nix/store/b\n";
        assert_eq!(
            told(&format!(
                "error: Cannot build '/nix/store/a.drv'.
       Reason: builder failed with exit code 1.
       Output paths:
         /nix/store/a
       Last 25 log lines:
{log}       > no such file
       For full logs, run:
         nix log /nix/store/a.drv
{}error: Build failed due to failed dependency",
                consequence.repeat(20)
            )),
            ": error: Cannot build '/nix/store/a.drv'.\nReason: builder failed with exit code 1.\n> no such file"
        );
        let alone = "error: 1 dependencies of derivation '/nix/store/b.drv' failed to build";
        assert_eq!(told(alone), format!(": {alone}"));
        assert_eq!(
            told(consequence),
            ": error: Cannot build '/nix/store/b.drv'.\nReason: 1 dependency failed."
        );
    }

    #[test]
    fn failure_has_the_status_and_the_last_words() {
        let error = sh("echo a >&2; echo b >&2; exit 3", None).unwrap_err();
        assert_eq!(error.to_string(), "the script exited with status 3: b");
        let error = sh("echo 'error: x' >&2; echo ' at y' >&2; exit 1", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the script exited with status 1: error: x\nat y"
        );
        let excerpt = "echo 'error: x' >&2; echo ' at y:5:1:' >&2; echo '  5| z' >&2; echo '   | ^' >&2; exit 1";
        let error = sh(excerpt, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the script exited with status 1: error: x\nat y:5:1"
        );
        let error = sh("kill -9 $$", None).unwrap_err();
        assert_eq!(error.to_string(), "the script was killed by signal 9");
    }

    #[test]
    fn a_timeout_ends_the_child() {
        let error = sh(
            "echo begun >&2; exec sleep 600",
            Some(Duration::from_millis(200)),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains("was stopped after 0 seconds"), "{error}");
    }

    #[test]
    fn a_time_limit_strikes_only_what_lives_too_long() {
        let limited = |program: &str, time| {
            let mut child = Command::new(program).arg("600").spawn().unwrap();
            let limit = TimeLimit::on(&child, time).unwrap();
            child.wait().unwrap();
            limit.struck()
        };
        assert!(limited("sleep", Duration::from_millis(100)));
        assert!(!limited("true", Duration::from_secs(600)));
    }

    #[test]
    fn an_answer_has_the_code_and_the_input_is_read() {
        let question = tempfile::tempfile().unwrap();
        let ask = |script: &str| {
            let mut sh = Command::new("sh");
            let question = question.try_clone().unwrap();
            ask(
                sh.args(["-c", script]),
                "sh",
                question,
                Duration::from_millis(200),
            )
        };
        ask("echo hello >&0").unwrap();
        let answer = ask("cat /proc/self/fd/0; echo a >&2; echo b >&2; exit 3").unwrap();
        assert_eq!((answer.code, &*answer.output), (3, &b"hello\n"[..]));
        assert_eq!(answer.said().collect::<Vec<_>>(), ["a", "b"]);

        let killed = ask("kill -9 $$").unwrap_err();
        assert_eq!(killed.to_string(), "sh was killed by signal 9");
        let slow = ask("exec sleep 600").unwrap_err().to_string();
        assert!(slow.contains("did not answer within"), "{slow}");
    }

    #[test]
    fn with_a_command_ends_what_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let grandchild = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! >{}; wait", grandchild.display());
        assert!(sh(&script, Some(Duration::from_millis(300))).is_err());
        let pid = std::fs::read_to_string(&grandchild).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        let limit = Duration::from_secs(10);
        assert!(ends_within(pid, limit).unwrap_or(true));
    }

    #[test]
    fn an_interrupt_ends_a_command_only_if_it_says_so() {
        use std::io::Write;
        let interrupted = |ends: bool| {
            let (signal, mut sender) = std::io::pipe().unwrap();
            sender.write_all(b"x").unwrap();
            let looked = std::cell::Cell::new(0);
            let ends = || {
                let mut one = [0];
                (&signal).read_exact(&mut one)?;
                looked.set(looked.get() + 1);
                Ok(ends)
            };
            let interrupt = Interrupt {
                signal: signal.as_fd(),
                ends: &ends,
            };
            let mut sh = Command::new("sh");
            sh.args(["-c", "sleep 0.2; echo done"]);
            let said = run_unless(&mut sh, "sh", None, Some(&interrupt)).unwrap();
            assert_eq!(looked.get(), 1);
            said
        };
        assert_eq!(interrupted(true), None);
        assert_eq!(interrupted(false).unwrap(), "done\n");
    }

    #[test]
    fn a_process_lives_until_it_ends() {
        assert!(Process::own().unwrap().lives());
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let started = start_of(child.id()).unwrap();
        let process = Process {
            pid: child.id(),
            started,
        };
        assert!(process.lives());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.lives());
    }

    #[test]
    fn a_huge_line_and_a_missing_program_are_survived() {
        let error = sh("head -c 300000 /dev/zero | tr '\\0' x >&2; exit 1", None).unwrap_err();
        assert!(error.to_string().len() < 7000);
        let error = run(
            &mut Command::new("no-such-program"),
            "no-such-program",
            None,
        );
        assert!(error.unwrap_err().to_string().contains("is it installed?"));
    }
}
