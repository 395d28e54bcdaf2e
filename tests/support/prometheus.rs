//! A real Prometheus.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{json, Value};

/// A port of this machine's at which nobody listens. The kernel gives it to no connection and no other server, and each
/// call returns another one.
pub fn free_port() -> u16 {
    // From 32768 on, the kernel takes ports by itself.
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id().wrapping_mul(61) % u32::from(PORTS.end - PORTS.start);
    let first = u16::try_from(first).unwrap();
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (first + next) % (PORTS.end - PORTS.start);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A real Prometheus, of the machine that runs the tests, whose job `comin` has targets there.
pub struct Prometheus {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// One that scrapes these instances at these ports, with these rules.
    pub fn scraping(targets: &[(&str, u16)], rule_files: &[&Path]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = folder.path().join("prometheus.yml");
        let target = |(instance, port): &(&str, u16)| {
            let address = format!("127.0.0.1:{port}");
            json!({"targets": [address], "labels": {"instance": instance}})
        };
        let targets: Vec<Value> = targets.iter().map(target).collect();
        // JSON is YAML.
        let text = json!({
            // Each scrape starts a program, and has to end within the interval.
            "global": {"scrape_interval": "3s", "evaluation_interval": "3s"},
            "rule_files": rule_files,
            "scrape_configs": [{"job_name": "comin", "static_configs": targets}],
        });
        fs::write(&config, text.to_string()).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self {
            child: child.unwrap(),
            port,
            _folder: folder,
        }
    }

    /// The values of a query, with their labels.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let result = self.ask(&format!("query={query}"), "query")["result"].take();
        result.as_array().cloned().unwrap_or_default()
    }

    /// The alert rules, with what they find.
    pub fn rules(&self) -> Vec<Value> {
        let groups = self.ask("type=alert", "rules")["groups"].take();
        let groups = groups.as_array().cloned().unwrap_or_default();
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        rules.flatten().cloned().collect()
    }

    fn ask(&self, parameter: &str, what: &str) -> Value {
        let output = Command::new("curl")
            .args(["--silent", "--get", "--data-urlencode", parameter])
            .arg(format!("http://127.0.0.1:{}/api/v1/{what}", self.port))
            .output();
        let mut answer: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap_or_default();
        answer["data"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
