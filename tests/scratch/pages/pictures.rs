//! Pictures of the pages, made from what the module writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::assert_generated;

/// The units of a machine that follows a local repository and a server, as the module writes them.
const UNITS: &str = "tests/module/expected/two-remotes";

/// A unit with the text of its file.
struct Unit<'a> {
    name: &'a str,
    text: &'a str,
}

impl Unit<'_> {
    fn value(&self, key: &str) -> Option<&str> {
        let mut lines = self.text.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// The units that this one starts, and when.
    fn starts(&self) -> Option<(String, &str)> {
        let other = || {
            let (name, _) = self.name.rsplit_once('.').unwrap();
            let unit = self.value("Unit").map(str::to_string);
            unit.unwrap_or_else(|| format!("{name}.service"))
        };
        if self.value("OnUnitInactiveSec").is_some() {
            return Some((other(), "poller.period has passed"));
        }
        if self.value("PathChanged").is_some() {
            return Some((other(), "a branch changes"));
        }
        if self.value("PathExists") == Some("/run/comin/wanted") {
            return Some((other(), "the file is there"));
        }
        if let Some(unit) = self.value("OnSuccess") {
            return Some((unit.replace("%i", "local"), "at once"));
        }
        let command = self.value("ExecStart")?;
        command
            .contains("comin fetch ")
            .then(|| ("comin.path".to_string(), "asks for a deploy"))
    }
}

#[test]
fn page_of_the_internals_has_a_picture_of_the_units() {
    let units = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(UNITS)).unwrap();
    let units: Vec<Unit> = units
        .split("==> ")
        .filter_map(|part| part.split_once(" <==\n"))
        .map(|(name, text)| Unit { name, text })
        .collect();
    let mut names = BTreeMap::new();
    let mut picture = "```mermaid\nflowchart LR\n".to_string();
    for (n, unit) in units.iter().enumerate() {
        let name = unit.name.replace('@', "@local");
        let command = unit.value("ExecStart").unwrap_or_default();
        let runs = match command.strip_prefix("/bin/comin") {
            Some(arguments) => format!("<br>comin{arguments}"),
            None => String::new(),
        };
        writeln!(picture, "    n{n}[\"{name}{runs}\"]").unwrap();
        names.insert(name, n);
    }
    for (n, unit) in units.iter().enumerate() {
        if let Some((started, when)) = unit.starts() {
            writeln!(picture, "    n{n} -- \"{when}\" --> n{}", names[&started]).unwrap();
        }
    }
    picture += "```\n";
    assert_generated("module/docs/internals.md", "units", &picture);
}
