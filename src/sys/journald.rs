//! An entry of the journal with fields beside its text. Standard error has no place for them, so it goes
//! to journald's own socket: one datagram of lines `FIELD=value`.

use std::fmt::Write;
use std::io;
use std::os::unix::net::UnixDatagram;

use crate::sys::{mutex::Shared, text::printable};

/// A name, as in `COMIN_COMMIT`, and any text.
pub type Field = (&'static str, String);

/// Whether systemd reads a value as it is written, without quotes, escapes and specifiers.
pub fn is_plain(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    value.chars().all(plain)
}

/// What is being worked at. It is one thing at a time, whichever thread has to say something about it.
static CONTEXT: Shared<Vec<Field>> = Shared::new(Vec::new());

/// From now on, lines have these fields.
pub fn set_context(fields: Vec<Field>) {
    *CONTEXT.lock() = fields;
}

/// From now on, lines have no fields.
pub fn clear_context() {
    CONTEXT.lock().clear();
}

/// What a line is about now.
pub fn context() -> Vec<Field> {
    CONTEXT.lock().clone()
}

/// The socket of journald; in a unit with a journal namespace, the one of that namespace.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The way to journald.
pub struct JournalSocket {
    socket: UnixDatagram,
    unit: Option<String>,
}

impl JournalSocket {
    /// Opens it, for lines about the unit of this process.
    pub fn open() -> io::Result<Self> {
        let cgroups = std::fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self {
            socket: UnixDatagram::unbound()?,
            unit: unit(&cgroups).map(str::to_string),
        })
    }

    /// Opens it, for lines about another unit.
    pub fn about(unit: &str) -> io::Result<Self> {
        Ok(Self {
            socket: UnixDatagram::unbound()?,
            unit: Some(unit.to_string()),
        })
    }

    /// Tells one line, and what it is about.
    pub fn send(&self, severity: u8, text: &str) -> io::Result<()> {
        let unit = self.unit.as_deref();
        let entry = encode(severity, text, unit, &context());
        self.socket.send_to(entry.as_bytes(), SOCKET)?;
        Ok(())
    }
}

/// Each value is one printable line, and so is no second field.
fn encode(severity: u8, text: &str, unit: Option<&str>, about: &[Field]) -> String {
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
    for (name, value) in about {
        add(name, value);
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
        let about = [("COMIN_BRANCH", "main\nPRIORITY=0".to_string())];
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

    #[test]
    fn systemd_would_read_something_else_where_a_value_is_not_plain() {
        assert!(is_plain("testing-m/3f2a_9.c"));
        for value in ["a b", "a\"b", "it's", "100%h", "a\\n", "ü"] {
            assert!(!is_plain(value), "{value}");
        }
    }
}
