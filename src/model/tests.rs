//! What tests of several layers begin with.

use jiff::Timestamp;

use crate::model::{attempt::Attempt, names::Operation};

impl Attempt {
    /// An attempt that has just begun.
    pub fn for_tests(id: u64, operation: Operation) -> Self {
        let commit = format!("{id:040x}");
        let attempt = serde_json::json!({
            "id": id, "commit": commit, "main": commit, "remote": "origin", "branch": "main",
            "testing": false, "operation": operation, "subject": "", "tries": 1,
            "started_at": Timestamp::UNIX_EPOCH, "derivation": null, "out": null,
        });
        serde_json::from_value(attempt).unwrap()
    }
}
