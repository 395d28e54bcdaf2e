//! comin: pull-mode deployment for NixOS. One run is one cycle, described in `deploy/mod.rs`.
//!
//! The folders are layers. Each imports only what stands to its right:
//! `main → cli → {deploy, report} → system → {nix, state, git, signature} → config → model → sys`.

mod cli;
mod config;
mod deploy;
mod git;
mod model;
mod nix;
mod report;
mod signature;
mod state;
mod sys;
mod system;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;
use rustix::fs::Mode;

use cli::{Cli, CommandError};
use sys::diagnosis::explained;
use sys::journal;

fn main() -> ExitCode {
    // Files have the modes that we give them, whoever runs this: others may read them, and never write.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let cli = Cli::parse();
    journal::start(cli.debug, cli.may_deploy());
    let (text, error, code) = match cli::execute(cli) {
        Ok(code) => return code,
        Err(CommandError::Failed(error)) => {
            let text = explained(&format!("{error:#}"));
            (text, error, ExitCode::FAILURE)
        }
        Err(CommandError::Misconfigured(error)) => (format!("{error:#}"), error, ExitCode::from(2)),
    };
    log::error!("{text}");
    if let Some(command) = cli::as_root(&error) {
        log::error!("→ {command}");
    }
    code
}
