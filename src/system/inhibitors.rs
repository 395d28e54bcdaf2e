//! What of a system cannot change while it runs, as nixpkgs writes it into the system: a JSON object from
//! names to values, in `switch-inhibitors` and `reboot-triggers`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Names and values.
pub type Components = BTreeMap<String, String>;

/// Reads a file of a system; one that is missing or cannot be understood has none, as
/// `switch-to-configuration` has it.
pub fn read(file: &Path) -> Components {
    let content = fs::read(file).unwrap_or_default();
    serde_json::from_slice(&content).unwrap_or_default()
}

/// The names that both have, with different values.
pub fn changed(old: &Components, new: &Components) -> Vec<String> {
    let differs = |(name, value): &(&String, &String)| {
        let new = new.get(*name);
        new.is_some_and(|new| new != *value)
    };
    let changed = old.iter().filter(differs);
    changed.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_both_have_can_change() {
        let components = |pairs: &[(&str, &str)]| -> Components {
            let owned = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
            owned.collect()
        };
        let old = components(&[("dbus", "daemon"), ("init", "a"), ("same", "x")]);
        let new = components(&[("dbus", "broker"), ("new", "b"), ("same", "x")]);
        assert_eq!(changed(&old, &new), ["dbus"]);
        assert_eq!(changed(&old, &Components::new()), [""; 0]);
    }

    #[test]
    fn what_is_no_object_of_words_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("switch-inhibitors");
        assert_eq!(read(&file), Components::new());
        for text in ["", "[]", r#"{"a": 1}"#, r#"{"a": "b""#] {
            fs::write(&file, text).unwrap();
            assert_eq!(read(&file), Components::new(), "{text}");
        }
        fs::write(&file, r#"{"a": "b"}"#).unwrap();
        assert_eq!(read(&file)["a"], "b");
    }
}
