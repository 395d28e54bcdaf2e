//! A desktop that nobody looks at: a session bus, and a real notification server on an X server without a screen.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{await_that, World};
use crate::support::isolated;

/// A session; all of it ends with the test.
pub struct Desktop {
    x: Child,
    bus: Child,
    dunst: Child,
    display: String,
    address: String,
    home: PathBuf,
    runtime: PathBuf,
    log: PathBuf,
}

impl Desktop {
    pub fn start(world: &World) -> Self {
        let runtime = world.path("session");
        fs::create_dir(&runtime).unwrap();
        let log = runtime.join("log");
        let script = runtime.join("log.sh");
        // A notification a line, at once: the number, the urgency and the text.
        let note = format!(
            "#!/bin/sh\nline=$(printf '%s %s %s\\n' \"$DUNST_ID\" \"$5\" \"$2: $3\" | tr '\\n' '|')\nprintf '%s\\n' \"$line\" >>{}\n",
            log.display()
        );
        fs::write(&script, note).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let rules = runtime.join("dunstrc");
        let all = format!(
            "[global]\nalways_run_script = true\n[all]\nscript = {}\n",
            script.display()
        );
        fs::write(&rules, all).unwrap();

        let mut x = Command::new("Xvfb");
        x.args(["-displayfd", "1", "-nolisten", "tcp"]);
        let (x, display) = started(&mut x);
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--nopidfile", "--print-address=1"]);
        let (bus, address) = started(&mut bus);
        let mut dunst = Command::new("dunst");
        dunst.arg("-config").arg(&rules);
        isolated(&mut dunst, &world.path("home"));
        let dunst = dunst
            .env("DISPLAY", format!(":{display}"))
            .env("DBUS_SESSION_BUS_ADDRESS", &address)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let desktop = Self {
            x,
            bus,
            dunst,
            display,
            address,
            home: world.path("home"),
            runtime,
            log,
        };
        await_that(|| desktop.try_control(&["is-paused"]).is_some());
        desktop
    }

    /// Puts a command into this session.
    pub fn with<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("DISPLAY", format!(":{}", self.display))
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("XDG_RUNTIME_DIR", &self.runtime)
    }

    /// What `dunstctl` answers.
    pub fn control(&self, arguments: &[&str]) -> String {
        self.try_control(arguments).unwrap()
    }

    fn try_control(&self, arguments: &[&str]) -> Option<String> {
        let mut control = Command::new("dunstctl");
        isolated(&mut control, &self.home);
        let output = self.with(&mut control).args(arguments).output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| answer.trim().to_string())
    }

    /// What has been shown, the latest last.
    pub fn shown(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines()
            .map(|line| line.trim_end_matches('|').to_string())
            .collect()
    }

    /// Waits until so much has been shown.
    #[track_caller]
    pub fn await_shown(&self, count: usize) -> Vec<String> {
        await_that(|| self.shown().len() >= count);
        let shown = self.shown();
        assert_eq!(shown.len(), count, "{shown:#?}");
        shown
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        for child in [&mut self.dunst, &mut self.bus, &mut self.x] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A server, and the line in which it says where it is.
fn started(command: &mut Command) -> (Child, String) {
    let server = command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = server.spawn().unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(server.stdout.take().unwrap().take(4096));
    said.read_line(&mut line).unwrap();
    (server, line.trim().to_string())
}
