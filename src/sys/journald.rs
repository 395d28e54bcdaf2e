//! An entry of the journal with fields beside its text. Standard error has no place for them, so it goes
//! to journald's own socket: one datagram of lines `FIELD=value`.

use std::fmt::Write;
use std::io;
use std::os::unix::net::UnixDatagram;

use crate::deploy::journal_fields;
use crate::sys::journal::printable;

/// Where journald takes them, of its namespace where the unit has one.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The way to journald.
#[derive(Debug)]
pub struct Entries {
    socket: UnixDatagram,
    unit: Option<String>,
}

impl Entries {
    /// Opens it, as a service of systemd's.
    pub fn open() -> io::Result<Self> {
        let cgroups = std::fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self {
            socket: UnixDatagram::unbound()?,
            unit: unit(&cgroups).map(str::to_string),
        })
    }

    /// Tells one line, and what it is about.
    pub fn tell(&self, severity: u8, text: &str) -> io::Result<()> {
        let unit = self.unit.as_deref();
        let entry = encode(severity, text, unit, &journal_fields::now());
        self.socket.send_to(entry.as_bytes(), SOCKET)?;
        Ok(())
    }
}

/// Each value is one printable line, and so is no second field.
fn encode(severity: u8, text: &str, unit: Option<&str>, about: &[journal_fields::Field]) -> String {
    let mut entry = format!("PRIORITY={severity}\nSYSLOG_IDENTIFIER=comin\n");
    let mut add = |name, value| {
        // Nothing can go wrong in a string.
        let _ = writeln!(entry, "{name}={}", printable(value));
    };
    add("MESSAGE", text);
    // journald finds out by the process, and that may be gone by then: its last line would not be the
    // unit's, but for this.
    if let Some(unit) = unit {
        add("OBJECT_SYSTEMD_UNIT", unit);
    }
    for field in about {
        add(field.name, &field.value);
    }
    entry
}

/// The service in which a process with these `cgroups(7)` is.
fn unit(cgroups: &str) -> Option<&str> {
    let lines = cgroups.lines();
    lines
        .filter_map(|line| line.rsplit('/').next())
        .find(|unit| unit.ends_with(".service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_a_field() {
        let about = [journal_fields::Field {
            name: "COMIN_BRANCH",
            value: "main\nPRIORITY=0".to_string(),
        }];
        let text = "Deploying\nCOMIN_OUTCOME=done\r\n_UID=0\n";
        assert_eq!(
            encode(5, text, Some("comin.service"), &about),
            "PRIORITY=5\nSYSLOG_IDENTIFIER=comin\n\
             MESSAGE=Deploying COMIN_OUTCOME=done\u{fffd} _UID=0\n\
             OBJECT_SYSTEMD_UNIT=comin.service\nCOMIN_BRANCH=main PRIORITY=0\n"
        );
    }

    #[test]
    fn the_unit_is_that_of_either_hierarchy() {
        let unified = "0::/system.slice/comin.service\n";
        let hybrid = "2:cpu:/\n1:name=systemd:/system.slice/comin.service\n0::/\n";
        for cgroups in [unified, hybrid] {
            assert_eq!(unit(cgroups), Some("comin.service"));
        }
        assert_eq!(unit("0::/user.slice/user-0.slice/session-1.scope\n"), None);
    }
}
