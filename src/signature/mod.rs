//! Signatures: whether a commit is signed by somebody whom the machine's owner trusts.
//!
//! What is signed, and by whom, is judged by gpg and ssh-keygen. Each runs in a private folder with
//! the owner's keys and nothing else: no keyring, configuration, agent, daemon or environment of
//! whoever runs comin has a say.

mod commit;
mod gpg;
pub mod signers;
mod ssh;
#[cfg(test)]
mod tests;
mod tool;
