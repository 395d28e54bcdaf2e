//! A real Prometheus.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{json, Value};

/// A port of this machine's at which nobody listens.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
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
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
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
