//! A process, this one or another: whether it still lives.

use anyhow::{Context, Result};
use rustix::process::{pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pid: u32,
    /// In clock ticks since the boot: field 22 of `proc_pid_stat(5)`.
    started: u64,
}

impl Process {
    /// This process.
    pub fn own() -> Result<Self> {
        let pid = std::process::id();
        let started = start_of(pid).context("Failed to read /proc/self/stat")?;
        Ok(Self { pid, started })
    }

    /// Kills it.
    pub fn kill(&self) {
        let kill = || -> Result<()> {
            let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            let pid = pid.context("it has no process ID")?;
            // Opened first: the ID may be another process's between a look and a signal.
            let process = pidfd_open(pid, PidfdFlags::empty())?;
            if self.lives() {
                pidfd_send_signal(&process, Signal::KILL)?;
            }
            Ok(())
        };
        if let Err(error) = kill() {
            log::debug!("Failed to kill {self:?}: {error:#}");
        }
    }

    /// Whether it still runs.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

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
        Process {
            started: started + 1,
            ..process
        }
        .kill();
        assert!(process.lives(), "a later process has the same number");
        process.kill();
        child.wait().unwrap();
        assert!(!process.lives());
        process.kill();
    }
}
