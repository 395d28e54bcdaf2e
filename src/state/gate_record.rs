//! The gate at which an attempt waits. In `/run`: a gate that is asked every minute writes nothing to a disk, and after
//! a boot every gate is asked anew.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::config::{paths::Paths, Config};
use crate::model::{Attempt, Before, ClosedGate};
use crate::sys::{fs, json};

/// A gate that was closed to an attempt.
#[derive(Debug, Serialize, Deserialize)]
pub struct GateRecord {
    attempt: u64,
    before: Before,
    /// The configuration that the gate is of: by another one, there may be no such gate.
    fingerprint: u64,
    closed: ClosedGate,
}

impl GateRecord {
    /// Reads the record for a stage. An order to try again is one to ask again.
    pub fn read(paths: &Paths, before: Before) -> Result<Option<Self>> {
        let record = json::read_lossy(&paths.gate(before))?;
        Ok(record.filter(|_| !paths.retry().exists()))
    }

    /// The gate that was closed when this attempt came to a stage.
    pub fn closed(&self, config: &Config, attempt: &Attempt, before: Before) -> Option<ClosedGate> {
        let recorded = (self.attempt, self.before, self.fingerprint);
        let is_it = recorded == (attempt.id, before, config.fingerprint);
        is_it.then(|| self.closed.clone())
    }

    /// Records a gate that is closed to an attempt.
    pub fn write(
        config: &Config,
        paths: &Paths,
        attempt: &Attempt,
        before: Before,
        closed: ClosedGate,
    ) -> Result<()> {
        let record = Self {
            attempt: attempt.id,
            before,
            fingerprint: config.fingerprint,
            closed,
        };
        json::write(&paths.gate(before), &record)
    }

    /// Forgets a gate, because it is open or is to be asked at once.
    pub fn forget(paths: &Paths, before: Before) -> Result<()> {
        fs::remove_optional(&paths.gate(before)).map(|_| ())
    }
}
