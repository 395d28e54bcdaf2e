//! Commands: one that is run to its end, its standard error streamed into the journal, its failure one
//! sentence; and a tool that is asked quietly.

mod listener;
mod process;

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
use rustix::process::{kill_process_group, pidfd_open, setsid, Pid, PidfdFlags, Signal};

use crate::sys::poll::{poll, readable};
use crate::sys::signal::{NextSignal, SignalGuard};
use crate::sys::{journal::CHILD, mutex::Shared};
pub use listener::{LastLines, Listener};
pub use process::Process;

/// More than any tool takes to answer one question, also on a machine that is busy booting.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a child that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// How long the last words of a child that has ended may take.
const LINGER: Duration = Duration::from_secs(2);
/// More of an answer than anybody reads.
const MAX_OUTPUT: u64 = 16 * 1024 * 1024;
/// More of a line than anybody reads.
const MAX_LINE: u64 = 1024 * 1024;

/// Runs a command to its end and returns its standard output. `what` names it in errors.
///
/// # Errors
/// It cannot be started, does not end within `timeout`, or fails; then with the end of what it said.
pub fn run(command: &mut Command, what: &str, timeout: Option<Duration>) -> Result<String> {
    let output = run_interruptible::<LastLines>(command, what, timeout, None)?;
    output.with_context(|| format!("{what} was stopped"))
}

/// Variables may be secret, and arguments are not.
fn note(command: &Command) {
    let arguments: Vec<_> = command.get_args().collect();
    log::debug!("Running {} {arguments:?}", command.get_program().display());
}

/// Runs a command that is to go on if this process dies: it says what it says where this process does,
/// and not into a pipe that would break. `what` names it in errors.
pub fn run_detached(command: &mut Command, what: &str) -> Result<()> {
    note(command);
    let stderr = std::io::stderr().as_fd().try_clone_to_owned()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(stderr)
        .process_group(0)
        .status()
        .with_context(|| format!("Failed to start {what}: is it installed?"))?;
    ensure!(status.success(), "{what} {}", describe_status(status));
    Ok(())
}

/// Something that may end a command early, with all that the command has started.
pub struct Interrupt<'a> {
    /// Becomes readable when there is something to look at.
    pub signal: BorrowedFd<'a>,
    /// Looks at it: whether the command is to end.
    pub ends: &'a dyn Fn() -> Result<bool>,
    /// What it means that a signal ended the command, as the end of a sentence.
    pub note: &'a str,
}

/// [`run`], with somebody who listens; `None` if it was interrupted.
pub fn run_interruptible<L: Listener>(
    command: &mut Command,
    what: &str,
    timeout: Option<Duration>,
    interrupt: Option<&Interrupt>,
) -> Result<Option<String>> {
    let command = command.stdin(Stdio::null());
    let done = run_child::<L>(command, what, timeout, interrupt, log::Level::Info)?;
    let (output, listener) = (done.stdout, done.listener);
    match done.ended {
        Ended::InTime(status) if status.success() => String::from_utf8(output)
            .map(Some)
            .with_context(|| format!("{what} answered no text")),
        Ended::InTime(status) => Err(listener.error(format!("{what} {}", describe_status(status)))),
        Ended::TimedOut(after) => {
            let ended = format!("{what} timed out after {} s{}", after.as_secs(), done.busy);
            Err(listener.error(ended))
        }
        Ended::Interrupted | Ended::Signalled => Ok(None),
    }
}

/// What a tool answered to a question.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub output: Vec<u8>,
    tail: LastLines,
}

impl Answer {
    /// The last lines of its standard error, printable, the oldest first.
    pub fn stderr_lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.tail.lines()
    }

    /// These lines as one.
    pub fn stderr_words(&self) -> String {
        self.stderr_lines().collect::<Vec<_>>().join(" ")
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
    timeout: impl Into<Option<Duration>>,
) -> Result<Answer> {
    let command = command.stdin(input);
    let level = log::Level::Debug;
    let done = run_child::<LastLines>(command, what, timeout.into(), None, level)?;
    let (output, tail) = (done.stdout, done.listener);
    match done.ended {
        Ended::InTime(status) => {
            let code = status
                .code()
                .with_context(|| format!("{what} {}", describe_status(status)))?;
            Ok(Answer { code, output, tail })
        }
        Ended::TimedOut(after) => {
            let time = after.as_secs();
            Err(tail.error(format!(
                "{what} did not answer within {time} seconds and was stopped"
            )))
        }
        Ended::Interrupted | Ended::Signalled => bail!("{what} was stopped"),
    }
}

/// [`ask`], of a tool that fails if it has no answer: its standard output.
pub fn query(command: &mut Command, what: &str, timeout: Duration) -> Result<Vec<u8>> {
    let answer = ask(command, what, Stdio::null(), timeout)?;
    if answer.code != 0 {
        let code = answer.code;
        let why = answer
            .stderr_lines()
            .next_back()
            .unwrap_or("no error message");
        bail!("{what} exited with status {code}: {why}");
    }
    Ok(answer.output)
}

struct Output<L> {
    ended: Ended,
    /// What the command was busy with when it was stopped, as the end of a sentence.
    busy: String,
    stdout: Vec<u8>,
    listener: L,
}

fn run_child<L: Listener>(
    command: &mut Command,
    what: &str,
    timeout: Option<Duration>,
    interrupt: Option<&Interrupt>,
    level: log::Level,
) -> Result<Output<L>> {
    note(command);
    let signals = SignalGuard::begin()?;
    let mut child = in_own_session(command)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("Failed to start {what}: is it installed?"))?;
    let stdout = child.stdout.take().context("the child has no output")?;
    let stderr = child.stderr.take().context("the child has no errors")?;
    let (listening, ended_both) = mpsc::channel::<Infallible>();
    let stdout_so_far = Arc::<Shared<_>>::default();
    let listener = Arc::<Shared<L>>::default();
    thread::spawn({
        let (so_far, listening) = (Arc::clone(&stdout_so_far), listening.clone());
        move || collect(stdout.take(MAX_OUTPUT), &so_far, &listening)
    });
    thread::spawn({
        let listener = Arc::clone(&listener);
        move || listen(BufReader::new(stderr), level, &*listener, &listening)
    });

    let stopping = || listener.lock().stopping();
    let ended = await_end(&mut child, timeout, interrupt, &signals, stopping)?;
    // A process that the command has left behind may keep the pipes open for ever.
    if let Err(RecvTimeoutError::Timeout) = ended_both.recv_timeout(LINGER) {
        log::debug!("Something that {what} has started still runs");
    }
    let stdout = std::mem::take(&mut *stdout_so_far.lock());
    let listener = std::mem::take(&mut *listener.lock());
    let work = listener.at_work();
    let busy = work.map_or(String::new(), |work| format!(" while it built {work}"));
    if let (Ended::Signalled, true) = (&ended, L::IS_PATIENT) {
        let note = interrupt.map_or("", |interrupt| interrupt.note);
        log::warn!("Stopped {what}{busy}{note}");
    }
    // Where a signal has come, this is the end, unless another command is awaited, too.
    drop(signals);
    Ok(Output {
        ended,
        busy,
        stdout,
        listener,
    })
}

/// A command without a terminal, which it could type into: it may read what is hostile, or be another user's. What it has
/// started ends with it.
#[allow(unsafe_code)]
fn in_own_session(command: &mut Command) -> &mut Command {
    let begin = || {
        // A command that is run once more does this twice, and cannot.
        let _ = setsid();
        Ok(())
    };
    // SAFETY: setsid(2) may be called between fork and exec.
    unsafe { command.pre_exec(begin) }
}

/// Reads a pipe to its end; then `_listening` goes away.
fn collect(mut pipe: impl Read, output: &Shared<Vec<u8>>, _listening: &Sender<Infallible>) {
    let mut more = [0; 8192];
    while let Ok(read @ 1..) = pipe.read(&mut more) {
        output.lock().extend_from_slice(&more[..read]);
    }
}

/// Lets somebody listen to a pipe to its end; then `_listening` goes away.
fn listen<L: Listener>(
    mut pipe: impl BufRead,
    level: log::Level,
    listener: &Shared<L>,
    _listening: &Sender<Infallible>,
) {
    let mut line = Vec::new();
    while matches!(pipe.by_ref().take(MAX_LINE).read_until(b'\n', &mut line), Ok(n) if n > 0) {
        let told = listener.lock().hear(&String::from_utf8_lossy(&line));
        line.clear();
        for text in told {
            log::log!(target: CHILD, level, "{text}");
        }
    }
}

/// How a command came to its end.
enum Ended {
    InTime(ExitStatus),
    TimedOut(Duration),
    /// By an [`Interrupt`].
    Interrupted,
    /// Because comin is to end.
    Signalled,
}

/// Awaits the end of a child, or brings it about.
fn await_end(
    child: &mut Child,
    timeout: Option<Duration>,
    interrupt: Option<&Interrupt>,
    signals: &SignalGuard,
    stopping: impl FnOnce(),
) -> Result<Ended> {
    let group = Pid::from_child(child);
    let Some(early) = ends_early(group, timeout, interrupt, signals).transpose() else {
        return Ok(Ended::InTime(child.wait()?));
    };
    let signal = NextSignal::from_now();
    stopping();
    // Nix ends its builders when it is asked to end; killed, it would leave them.
    kill_process_group(group, Signal::TERM)?;
    // A second signal ends the wait.
    let (pidfd, signal) = (pidfd_of(group)?, signal?);
    let mut over = [readable(&pidfd), readable(&signal)];
    if !poll(&mut over, Some(GRACE))? {
        log::debug!("A child did not end when it was asked to");
    }
    // What is left of the group, if anything is, holds our pipes.
    if let Err(error) = kill_process_group(group, Signal::KILL) {
        log::debug!("Nothing is left to kill: {error}");
    }
    child.wait()?;
    early
}

/// Waits until the child ends, its time is up, it is interrupted or comin is to end; `None` for the
/// first.
fn ends_early(
    child: Pid,
    timeout: Option<Duration>,
    interrupt: Option<&Interrupt>,
    signals: &SignalGuard,
) -> Result<Option<Ended>> {
    let pidfd = pidfd_of(child)?;
    let started = Instant::now();
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
        let mut fds = vec![readable(&pidfd), readable(signals)];
        fds.extend(interrupt.map(|interrupt| readable(&interrupt.signal)));
        if let (false, Some(timeout)) = (poll(&mut fds, left)?, timeout) {
            return Ok(Some(Ended::TimedOut(timeout)));
        }
        let ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
        if ready(0) {
            return Ok(None);
        }
        if ready(1) {
            return Ok(Some(Ended::Signalled));
        }
        if let Some(interrupt) = interrupt.filter(|_| ready(2)) {
            if (interrupt.ends)()? {
                return Ok(Some(Ended::Interrupted));
            }
        }
    }
}

/// Becomes readable when a process ends.
fn pidfd_of(pid: Pid) -> Result<OwnedFd> {
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// How a process ended: "exited with status 1", "was killed by signal 9".
pub fn describe_status(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs::File;
    use std::io::Write;

    use rustix::fs::{mknodat, FileType, Mode, CWD};

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
    fn command_has_a_session_of_its_own_each_time() {
        let mut sh = Command::new("sh");
        sh.args(["-c", "cut -d ' ' -f 1,6 /proc/$$/stat"]);
        for _ in 0..2 {
            let said = run(&mut sh, "sh", None).unwrap();
            let (process, session) = said.trim().split_once(' ').unwrap();
            assert_eq!(session, process);
        }
    }

    #[test]
    fn failure_has_the_status_and_the_last_words() {
        let error = sh("echo a >&2; echo b >&2; exit 3", None).unwrap_err();
        assert_eq!(error.to_string(), "the script exited with status 3: b");
        let error = sh("kill -9 $$", None).unwrap_err();
        assert_eq!(error.to_string(), "the script was killed by signal 9");
    }

    #[test]
    fn command_has_no_terminal() {
        // Field 7 of `proc_pid_stat(5)`, and field 6, the session.
        let stat = sh(
            "read -r _ _ _ _ _ session tty _ </proc/$$/stat; echo $(($$ - session)) $tty",
            None,
        );
        assert_eq!(stat.unwrap(), "0 0\n");
    }

    #[test]
    fn a_timeout_ends_the_child() {
        let error = sh(
            "echo begun >&2; exec sleep 600",
            Some(Duration::from_millis(200)),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains("timed out after 0 s"), "{error}");
    }

    #[test]
    fn an_answer_has_the_code_and_the_input_is_read() {
        let question = tempfile::tempfile().unwrap();
        let ask = |script: &str, time: Option<Duration>| {
            let mut sh = Command::new("sh");
            let question = question.try_clone().unwrap();
            super::ask(sh.args(["-c", script]), "sh", question, time)
        };
        ask("echo hello >&0", None).unwrap();
        let script = "cat /proc/self/fd/0; echo a >&2; echo b >&2; exit 3";
        let answer = ask(script, None).unwrap();
        assert_eq!((answer.code, &*answer.output), (3, &b"hello\n"[..]));
        assert_eq!(answer.stderr_lines().collect::<Vec<_>>(), ["a", "b"]);

        let killed = ask("kill -9 $$", None).unwrap_err();
        assert_eq!(killed.to_string(), "sh was killed by signal 9");
        let slow = ask("exec sleep 600", Some(Duration::from_millis(200)));
        let slow = slow.unwrap_err().to_string();
        assert!(slow.contains("did not answer within"), "{slow}");
    }

    #[test]
    fn with_a_command_ends_what_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let signal = File::options().read(true).write(true).open(&pipe).unwrap();
        let pid = RefCell::new(String::new());
        let ends = || {
            BufReader::new(&signal).read_line(&mut pid.borrow_mut())?;
            Ok(true)
        };
        let interrupt = Interrupt {
            signal: signal.as_fd(),
            ends: &ends,
            note: "",
        };
        let script = format!("sleep 600 & echo $! >{}; wait", pipe.display());
        let mut sh = Command::new("sh");
        sh.args(["-c", &script]);
        let said = run_interruptible::<LastLines>(&mut sh, "sh", None, Some(&interrupt)).unwrap();
        assert_eq!(said, None);
        let pid = Pid::from_raw(pid.into_inner().trim().parse().unwrap()).unwrap();
        let limit = Duration::from_secs(10);
        let ended = pidfd_of(pid).and_then(|pidfd| poll(&mut [readable(&pidfd)], Some(limit)));
        assert!(ended.unwrap_or(true));
    }

    #[test]
    fn an_interrupt_ends_a_command_only_if_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let go_on = folder.path().join("go-on");
        let script = format!(
            "while [ ! -e {} ]; do sleep 0.01; done; echo done",
            go_on.display()
        );
        let interrupted = |ends: bool| {
            let (signal, mut sender) = std::io::pipe().unwrap();
            sender.write_all(b"x").unwrap();
            let looked = std::cell::Cell::new(0);
            let ends = || {
                let mut one = [0];
                (&signal).read_exact(&mut one)?;
                looked.set(looked.get() + 1);
                if !ends {
                    File::create(&go_on)?;
                }
                Ok(ends)
            };
            let interrupt = Interrupt {
                signal: signal.as_fd(),
                ends: &ends,
                note: "",
            };
            let mut sh = Command::new("sh");
            sh.args(["-c", &script]);
            let said =
                run_interruptible::<LastLines>(&mut sh, "sh", None, Some(&interrupt)).unwrap();
            assert_eq!(looked.get(), 1);
            said
        };
        assert_eq!(interrupted(true), None);
        assert_eq!(interrupted(false).unwrap(), "done\n");
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
