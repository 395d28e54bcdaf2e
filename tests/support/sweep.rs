//! What a sweep needs: a die whose throws can be repeated, the size of the sweep, and sudden death.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::tell;

/// Whether this is the long sweep: `COMIN_SWEEP=full`.
pub fn is_full() -> bool {
    std::env::var_os("COMIN_SWEEP").is_some_and(|size| size == "full")
}

/// How often something is done in a short sweep and in a full one. `name` in the environment overrides
/// it.
pub fn times(name: &str, short: u32, full: u32) -> u32 {
    let given = std::env::var(name).ok().map(|n| n.parse().unwrap());
    given.unwrap_or(if is_full() { full } else { short })
}

/// A die. Its seed is told; `COMIN_SWEEP_SEED` repeats the throws.
pub struct Dice(u64);

impl Dice {
    pub fn new(what: &str) -> Self {
        let given = std::env::var("COMIN_SWEEP_SEED").ok();
        let seed = given.map_or_else(
            || {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                now.as_secs() ^ u64::from(now.subsec_nanos())
            },
            |seed| seed.parse().unwrap(),
        );
        tell(&format!("{what}: COMIN_SWEEP_SEED={seed}"));
        Self(seed)
    }

    /// A number below a limit: splitmix64.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// A time, uniform up to a longest one.
    pub fn delay(&mut self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_micros()).unwrap();
        Duration::from_micros(self.below(longest))
    }
}

/// Kills a process and all that it has started, at once, as at a power cut.
pub fn kill_with_descendants(pid: u32) {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, fields)| fields.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        all.extend(children.get(pid).into_iter().flatten());
        next += 1;
    }
    let pids = all.iter().map(u32::to_string);
    // Some may have ended meanwhile.
    let mut kill = Command::new("kill");
    let _ = kill.arg("-KILL").args(pids).output().unwrap();
}
