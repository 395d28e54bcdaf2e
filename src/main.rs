//! comin: pull-mode deployment for NixOS. One run is one cycle, described in `cycle.rs`.

mod activation;
mod cli;
mod commit;
mod config;
mod credential;
mod cycle;
mod decided;
mod deployment;
mod exporter;
mod fetched;
mod fs;
mod git;
mod history;
mod journal;
mod metrics;
mod nix;
mod paths;
mod poll;
mod process;
mod refs;
mod report;
mod rewrite;
mod select;
mod signature;
mod ssh;
mod state;
mod system;
mod url;

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::absolute;
use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use clap::Parser;
use serde::Serialize;

use activation::Activation;
use cli::{Cli, Command, Output};
use config::{Config, Remote};
use cycle::{Ending, Machine};
use metrics::Metrics;
use paths::Paths;
use report::{Plan, Status};
use signature::Signers;
use url::Token;

/// Why a command came to nothing.
enum Failure {
    /// The command line or the configuration is wrong; nothing was touched.
    Misconfigured(Error),
    /// Something went wrong.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    journal::start(cli.debug);
    match execute(cli) {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Failed) => ExitCode::FAILURE,
        Err(Failure::Failed(error)) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
        Err(Failure::Misconfigured(error)) => {
            log::error!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn execute(cli: Cli) -> Result<Ending, Failure> {
    let root = absolute(&cli.root).context("--root is no path")?;
    let machine = || -> Result<Machine, Failure> {
        let config = Config::load(&cli.config).map_err(Failure::Misconfigured)?;
        let paths = Paths::new(&root, &config.state_dir);
        Ok(Machine { config, paths })
    };
    let signers = |machine: &Machine| -> Result<Option<Signers>, Failure> {
        Signers::load(&machine.config).map_err(Failure::Misconfigured)
    };
    Ok(match cli.command {
        Command::Run { remotes } => {
            let machine = machine()?;
            let signers = signers(&machine)?;
            machine.run(&choose(&machine.config, &remotes)?, signers.as_ref())?
        }
        Command::Fetch { remotes } => {
            let machine = machine()?;
            machine.fetch(&choose(&machine.config, &remotes)?)?
        }
        Command::Deploy => {
            // First of all: a request that stays makes systemd start this again and again.
            decided::take_request(&Paths::outside_state(&root))?;
            let machine = machine()?;
            machine.deploy(signers(&machine)?.as_ref())?
        }
        Command::Status(output) => {
            let machine = machine()?;
            show(&Status::of(&machine, signers(&machine)?.as_ref())?, &output)?
        }
        Command::Plan(output) => {
            let machine = machine()?;
            show(&Plan::of(&machine, signers(&machine)?.as_ref())?, &output)?
        }
        Command::Accept { commit } => {
            let machine = machine()?;
            let signers = signers(&machine)?;
            machine.accept(&commit, signers.as_ref())?
        }
        Command::Exporter => {
            let machine = machine()?;
            exporter::answer(std::io::stdin().as_fd(), || Metrics::of(&machine))?;
            Ending::Done
        }
        Command::CheckConfig { file } => {
            Config::load(&file).map_err(Failure::Misconfigured)?;
            Ending::Done
        }
        Command::Credential {
            origin,
            username,
            token: path,
            operation,
        } => {
            // The other operations are for those who keep credentials.
            if operation == "get" {
                let token = Token { username, path };
                if let Some(answer) = credential::answer(&origin, &token, std::io::stdin().lock())?
                {
                    print(answer.trim_end())?;
                }
            }
            Ending::Done
        }
        Command::Activate {
            attempt,
            toplevel,
            operation,
        } => {
            let activation = Activation {
                attempt,
                toplevel,
                operation,
            };
            activation.carry_out(&Paths::outside_state(&root))?;
            Ending::Done
        }
    })
}

/// The remotes of these names, or all of them.
fn choose<'a>(config: &'a Config, names: &[String]) -> Result<Vec<&'a Remote>, Failure> {
    if names.is_empty() {
        return Ok(config.remotes.iter().collect());
    }
    let found: Result<_> = names.iter().map(|name| config.remote(name)).collect();
    found.map_err(Failure::Misconfigured)
}

fn show(report: &(impl Display + Serialize), output: &Output) -> Result<Ending> {
    let text = if output.json {
        serde_json::to_string_pretty(report)?
    } else {
        report.to_string()
    };
    print(&text)?;
    Ok(Ending::Done)
}

fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        // The reader has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("Failed to write the answer"),
    }
}
