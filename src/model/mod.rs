//! Plain data and pure functions: no clock, no disk, no log.

pub mod after_switch;
mod attempt;
pub mod boot_check;
mod candidate;
mod commit;
mod confirmation;
mod cure;
mod decision;
pub mod drift;
mod facts;
pub mod gate;
pub mod healing;
mod history;
pub mod keep;
pub mod names;
pub mod outcome;
mod policy;
pub mod prebuilt;
mod quarantine;
pub mod reactivation;
pub mod reboot;
mod refusal;
mod remote;
pub mod retention;
pub mod schedule;
pub mod select;
pub mod signature;
mod stage;
mod state;
pub mod store_path;
mod suspension;
mod target;
#[cfg(test)]
mod tests;
mod window;

pub use after_switch::{Checks, SwitchExit};
pub use attempt::{
    Attempt, NixFailure, PreviousSystem, Progress, Reactivation, Residue, StageStart, UnitChanges,
};
pub use candidate::{Candidate, Eligibility};
pub use commit::Commit;
pub use confirmation::{Approval, ConfirmStep};
pub use cure::Cure;
pub use decision::{Action, Decision, Hindrance};
pub use drift::Drift;
pub use facts::{Facts, PendingConfirmation};
pub use gate::{Before, ClosedGate, Gate, GateAnswer, Gates};
pub use healing::Healing;
pub use history::{History, Relation, Signature};
pub use names::{Branch, Operation, RemoteName};
pub use outcome::{AttemptStatus, Fault, FaultOrigin, Outcome, Trouble};
pub use policy::{Backoff, Confirmer, Heals, Reboots, Retention};
pub use prebuilt::{Lookup, Prebuilt};
pub use quarantine::Quarantine;
pub use reboot::{Reboot, RebootDecision, RebootFacts, RebootStage};
pub use refusal::{Accepted, Refusal};
pub use remote::{Head, Reach, RemoteFacts};
pub use retention::Generations;
pub use schedule::{Delay, NextTry};
pub use signature::{Signer, Unverified};
pub use stage::Stage;
pub use state::{ManualRollback, State};
pub use suspension::Suspension;
pub use target::Target;
pub use window::Window;
