//! What a switch would do to the units, as it says itself: `switch-to-configuration dry-activate`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::config::paths::Paths;
use crate::model::Operation;
use crate::sys::text::{printable, shortened};
use crate::sys::{command, fs::Lock, progress};
use crate::system;

/// How long it may take. An activation waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many lines of it are kept, and how many characters of each.
const LINES: usize = 200;
const CHARS: usize = 4000;

const BUSY: &str = "another system is being activated";

/// What a switch says that it would do. One of the three fields is set.
#[derive(Debug, Default, Serialize)]
pub struct DryActivation {
    /// It said this.
    pub lines: Option<Vec<String>>,
    /// It was not asked, for this reason.
    pub left_out: Option<String>,
    /// It failed.
    pub error: Option<String>,
}

impl DryActivation {
    /// Asks the switch to a system. `inhibitors` is what keeps it from being one.
    pub fn of(
        paths: &Paths,
        out: &Path,
        operation: Operation,
        inhibitors: &[String],
    ) -> Result<Self> {
        let left_out = |why| Ok(Self::left_out(why));
        if !operation.activates() {
            return left_out(format!("{operation} leaves them alone until the next boot"));
        }
        if !inhibitors.is_empty() {
            return left_out(system::inhibited_by(inhibitors));
        }
        if paths.is_machine() && !rustix::process::geteuid().is_root() {
            return left_out("this needs root: try again with sudo".to_string());
        }
        // Two switches exclude each other, and an activation of ours that meets another one, however dry,
        // would count as failed. Before it begins, it waits for this lock.
        let _alone = match Lock::take_if_free(&paths.activation_lock()) {
            Ok(Some(alone)) => alone,
            Ok(None) => return left_out(BUSY.to_string()),
            Err(error) => return left_out(format!("{error:#}")),
        };
        let program = out.join("bin/switch-to-configuration");
        progress::during("Asking what would be restarted", || ask(&program))
    }

    fn left_out(why: String) -> Self {
        Self {
            left_out: Some(why),
            ..Self::default()
        }
    }
}

fn ask(program: &Path) -> Result<DryActivation> {
    // All that it says is the answer, on whichever pipe.
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", r#"exec "$0" dry-activate 2>&1"#])
        .arg(program);
    let what = "switch-to-configuration dry-activate";
    let answer = command::ask(&mut shell, what, Stdio::null(), PATIENCE)?;
    let text = String::from_utf8_lossy(&answer.output);
    let lines = text.lines().map(printable).filter(|line| !line.is_empty());
    let lines = lines.map(|line| shortened(&line, CHARS).into_owned());
    let lines: Vec<String> = lines.take(LINES).collect();
    Ok(match answer.code {
        0 => DryActivation {
            lines: Some(lines),
            ..DryActivation::default()
        },
        11 => DryActivation::left_out(BUSY.to_string()),
        code => {
            let last = lines
                .last()
                .map_or(String::new(), |line| format!(": {line}"));
            DryActivation {
                error: Some(format!("{what} exited with status {code}{last}")),
                ..DryActivation::default()
            }
        }
    })
}
