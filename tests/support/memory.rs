//! The memory of processes.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A watch over how much memory the processes that run at a time have had together, at the most.
pub struct Memory {
    is_over: Arc<AtomicBool>,
    watch: JoinHandle<u64>,
}

impl Memory {
    /// Watches the processes that `running` lists each time.
    pub fn watch(running: impl Fn() -> Vec<u32> + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let is_seen = is_over.clone();
        let watch = thread::spawn(move || {
            let mut peak = 0;
            while !is_seen.load(Ordering::Relaxed) {
                peak = peak.max(running().into_iter().map(high_water).sum());
                thread::sleep(Duration::from_millis(2));
            }
            peak
        });
        Self { is_over, watch }
    }

    /// Ends the watch: the peak in MiB. Memory that several processes share counts several times.
    pub fn peak(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.watch.join().unwrap() / 1024
    }
}

/// The peak of a process in KiB. The kernel keeps it, so a peak between two looks is not missed.
fn high_water(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    peak.map_or(0, |peak| peak.trim().parse().unwrap())
}

/// A process and all that it has started.
pub fn family(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let children = tasks.map(|task| fs::read_to_string(task.path().join("children")));
    let children: Vec<u32> = children
        .flat_map(|list| numbers(&list.unwrap_or_default()))
        .collect();
    let below = children.into_iter().flat_map(family);
    std::iter::once(process).chain(below).collect()
}

/// The numbers in a file of the kernel's.
pub fn numbers(list: &str) -> Vec<u32> {
    let numbers = list.split_whitespace().map(str::parse);
    numbers.map(Result::unwrap).collect()
}
