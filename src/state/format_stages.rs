//! The stages of an attempt as they stand in the file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::attempt::StageStart;
use crate::model::stage::Stage;

/// The beginning of a stage that is no wait.
#[derive(Serialize, Deserialize)]
pub struct EnteredV1 {
    stage: StageV1,
    at: Timestamp,
}

/// The beginning of a wait.
#[derive(Serialize, Deserialize)]
pub struct WaitV1 {
    /// Where among all beginnings it is.
    index: usize,
    at: Timestamp,
    /// Whether a gate is waited for, and not a confirmation, as every wait once was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gate: bool,
}

/// A stage under a name that every comin knows.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageV1 {
    Evaluating,
    Building,
    Activating,
    Checking,
    RollingBack,
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

impl StageV1 {
    /// `None` for a wait. Where an attempt that waited has ended, the last of its waits tells.
    pub fn of(stage: Stage) -> Option<Self> {
        match stage {
            Stage::Waiting | Stage::AtGate => None,
            Stage::Evaluating => Some(Self::Evaluating),
            Stage::Building => Some(Self::Building),
            Stage::Activating => Some(Self::Activating),
            Stage::Checking => Some(Self::Checking),
            Stage::RollingBack => Some(Self::RollingBack),
        }
    }

    /// `None` for one of a later version, which counts as a part of the one before it.
    pub fn known(self) -> Option<Stage> {
        match self {
            Self::Evaluating => Some(Stage::Evaluating),
            Self::Building => Some(Stage::Building),
            Self::Activating => Some(Stage::Activating),
            Self::Checking => Some(Stage::Checking),
            Self::RollingBack => Some(Stage::RollingBack),
            Self::Unknown => None,
        }
    }
}

/// The stages without the waits, and the waits.
pub fn apart(all: Vec<StageStart>) -> (Vec<EnteredV1>, Vec<WaitV1>) {
    let (mut stages, mut waits) = (Vec::new(), Vec::new());
    for (index, StageStart { stage, at }) in all.into_iter().enumerate() {
        let gate = stage == Stage::AtGate;
        match StageV1::of(stage) {
            Some(stage) => stages.push(EnteredV1 { stage, at }),
            None => waits.push(WaitV1 { index, at, gate }),
        }
    }
    (stages, waits)
}

/// The stages that are known, with the waits among them.
pub fn together(stages: Vec<EnteredV1>, waits: Vec<WaitV1>) -> Vec<StageStart> {
    let stages = stages.into_iter();
    let mut all: Vec<_> = stages.map(|it| (it.stage.known(), it.at)).collect();
    for WaitV1 { index, at, gate } in waits {
        let stage = if gate { Stage::AtGate } else { Stage::Waiting };
        all.insert(index.min(all.len()), (Some(stage), at));
    }
    all.into_iter()
        .filter_map(|(stage, at)| Some(StageStart { stage: stage?, at }))
        .collect()
}
