//! The signals that end comin. Those that come while it awaits a command are heard first, so that what
//! the command has started does not go on alone.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::{emulate_default_handler, pipe, unregister};
use signal_hook::{flag, SigId};

use crate::sys::{mutex::Shared, progress, temp_dir};

/// A key at the terminal, systemd or a shutdown, and a terminal or an SSH session that is gone.
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// [`SIGNALS`], without a hangup if `nohup` lets comin ignore it.
fn heard() -> impl Iterator<Item = i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let ignores_hangup = ignored.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0);
    SIGNALS
        .into_iter()
        .filter(move |signal| !(ignores_hangup && *signal == SIGHUP))
}

/// Once somebody has listened, these stay.
static HANDLERS: OnceLock<Handlers> = OnceLock::new();

/// What the handlers of signals share with us.
struct Handlers {
    /// Whether nobody listens: then a signal ends comin, as if there were no handler.
    uses_default: Arc<AtomicBool>,
    /// How many listen. Several commands may be awaited at a time.
    listeners: Shared<usize>,
    /// Whether somebody ends comin in their own time.
    is_deferred: AtomicBool,
    /// The latest one that came, 0 where none has.
    latest: Arc<AtomicUsize>,
    coming: NextSignal,
}

impl Handlers {
    fn install() -> std::io::Result<Self> {
        let (uses_default, latest) = (Arc::default(), Arc::default());
        for signal in heard() {
            flag::register_conditional_default(signal, Arc::clone(&uses_default))?;
            let number = usize::try_from(signal).unwrap_or_default();
            flag::register_usize(signal, Arc::clone(&latest), number)?;
        }
        Ok(Self {
            uses_default,
            listeners: Shared::default(),
            is_deferred: AtomicBool::default(),
            latest,
            coming: NextSignal::from_now()?,
        })
    }

    /// Ends comin by the signal that has come, if one has and it is not deferred.
    fn terminate(&self) -> Result<()> {
        let latest = self.latest.load(Ordering::SeqCst);
        if latest == 0 || self.is_deferred.load(Ordering::SeqCst) {
            return Ok(());
        }
        temp_dir::remove_all();
        progress::end();
        emulate_default_handler(i32::try_from(latest)?).context("Failed to end by a signal")
    }
}

/// Becomes readable when a signal comes, from now on.
pub struct NextSignal {
    came: UnixStream,
    handlers: Vec<SigId>,
}

impl NextSignal {
    /// Looks out for one.
    pub fn from_now() -> std::io::Result<Self> {
        let (came, comes) = UnixStream::pair()?;
        let tell = |signal| pipe::register(signal, comes.try_clone()?);
        Ok(Self {
            came,
            handlers: heard().map(tell).collect::<Result<_, _>>()?,
        })
    }
}

impl AsFd for NextSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.came.as_fd()
    }
}

impl Drop for NextSignal {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            unregister(handler);
        }
    }
}

/// Listens as long as it lives. What came meanwhile ends comin when nobody listens any more: a command may be
/// awaited while another one is, and all of them are to end.
pub struct SignalGuard(&'static Handlers);

impl SignalGuard {
    /// Listens from now on.
    pub fn begin() -> Result<Self> {
        if HANDLERS.get().is_none() {
            let handlers = Handlers::install().context("Failed to listen for signals")?;
            HANDLERS.get_or_init(|| handlers);
        }
        let handlers = HANDLERS.wait();
        let mut listeners = handlers.listeners.lock();
        *listeners += 1;
        handlers.uses_default.store(false, Ordering::SeqCst);
        Ok(Self(handlers))
    }
}

/// Becomes readable when a signal comes.
impl AsFd for SignalGuard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.coming.as_fd()
    }
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        let mut listeners = self.0.listeners.lock();
        *listeners -= 1;
        if *listeners > 0 {
            return;
        }
        self.0.uses_default.store(true, Ordering::SeqCst);
        // The command may have ended before it was looked for: systemd tells all processes of a service to end.
        if let Err(error) = self.0.terminate() {
            log::debug!("{error:#}");
        }
    }
}

/// As long as it lives, a signal ends the commands that are awaited, but not comin: whoever has this does
/// that, once the terminal is as it was.
pub struct DeferExit(SignalGuard);

impl DeferExit {
    /// Defers it from now on.
    pub fn begin() -> Result<Self> {
        let listening = SignalGuard::begin()?;
        listening.0.is_deferred.store(true, Ordering::SeqCst);
        Ok(Self(listening))
    }

    /// Whether a signal has come. What a command was asked meanwhile may have no answer.
    pub fn is_called_for(&self) -> bool {
        self.0 .0.latest.load(Ordering::SeqCst) != 0
    }
}

impl Drop for DeferExit {
    fn drop(&mut self) {
        let handlers = self.0 .0;
        // Whoever deferred it has known of it.
        handlers.latest.store(0, Ordering::SeqCst);
        handlers.is_deferred.store(false, Ordering::SeqCst);
    }
}
