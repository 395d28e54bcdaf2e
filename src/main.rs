//! comin: pull-mode deployment for NixOS. One run is one cycle, described in `cycle.rs`.

mod accepted;
mod activation;
mod again;
mod boot;
mod changes;
mod cli;
mod closure;
mod commit;
mod components;
mod config;
mod confirmation;
mod credential;
mod cycle;
mod dead_man;
mod decided;
mod deployment;
mod desktop;
mod entry;
mod exporter;
mod fetched;
mod fields;
mod flake;
mod folders;
mod fs;
mod git;
mod go_store;
mod health;
mod history;
mod journal;
mod judgement;
mod leftover;
mod making;
mod manual;
mod metrics;
mod nix;
mod orders;
mod outcome;
mod passing;
mod paths;
mod poll;
mod polls;
mod post_deployment;
mod preview;
mod process;
mod progress;
mod quarantine;
mod reboot;
mod refs;
mod rehearsal;
mod report;
mod retention;
mod rewrite;
mod rollback;
mod screen;
mod select;
mod shared;
mod signal;
mod signature;
mod ssh;
mod state;
mod submodules;
mod suspension;
mod system;
mod systemd;
mod tidying;
mod units;
mod url;
mod watch;

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{absolute, Path};
use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use clap::Parser;

use activation::Activation;
use cli::{Cli, Command, Look, MachineCommand, Output, StandaloneCommand, Style};
use config::{Config, Remote};
use cycle::{Ending, Machine};
use desktop::Desktop;
use metrics::Metrics;
use paths::Paths;
use report::{Details, History, Page, Plan, Previewed, Report, Status};
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
    journal::start(cli.debug, cli.may_deploy());
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
    let status = MachineCommand::Status {
        look: Look::default(),
        watch: false,
    };
    match cli.command.unwrap_or(Command::Machine(status)) {
        Command::Machine(command) => execute_on_machine(command, &cli.config, &root),
        Command::Standalone(command) => execute_alone(command, &cli.config, &root),
    }
}

fn execute_on_machine(
    command: MachineCommand,
    config_file: &Path,
    root: &Path,
) -> Result<Ending, Failure> {
    let is_machine = Paths::outside_state(root).is_machine();
    if is_machine && !command.only_looks() && !rustix::process::geteuid().is_root() {
        let error = anyhow::anyhow!("Only root can do that: try again with sudo");
        return Err(Failure::Failed(error));
    }
    if let MachineCommand::Deploy = command {
        // First of all: a request that stays makes systemd start this again and again.
        decided::take_request(&Paths::outside_state(root))?;
    }
    let machine = machine_of(config_file, root).map_err(Failure::Misconfigured)?;
    let read_signers = || Signers::load(&machine.config);
    // Where something depends on them, keys that cannot be read are a mistake in the configuration.
    let signers = || {
        let postpone = |_: &Error| machine.postpone();
        let signers = read_signers().inspect_err(postpone);
        signers.map_err(Failure::Misconfigured)
    };
    Ok(match command {
        MachineCommand::Run { remotes } => {
            let remotes = choose(&machine.config, &remotes)?;
            machine.run(&remotes, signers()?.as_ref())?
        }
        MachineCommand::Fetch { remotes } => machine.fetch(&choose(&machine.config, &remotes)?)?,
        MachineCommand::Deploy => machine.deploy(signers()?.as_ref())?,
        MachineCommand::Status { look, watch: true } | MachineCommand::Watch(look) => {
            // A deployment may change the configuration.
            let status = || Status::of(&machine_of(config_file, root)?);
            watch::follow(status, look.style(), &machine.paths)?;
            Ending::Done
        }
        MachineCommand::Status { look, watch: false } => {
            let status = Status::of(&machine)?;
            print(&match look.style() {
                Style::Text => text(&status),
                Style::Oneline => status.oneline(&Page::here()),
                Style::Json => json(&status)?,
            })?;
            Ending::Done
        }
        MachineCommand::Plan { build, output } => {
            let plan = Plan::of(&machine, &read_signers())?;
            if build {
                let previewed = Previewed::of(&machine, plan)?;
                show(&previewed, &output)?;
                previewed.ending()
            } else {
                show(&plan, &output)?
            }
        }
        MachineCommand::History { number, output } => match number {
            Some(number) => show(&Details::of(&machine, number)?, &output)?,
            None => show(&History::of(&machine)?, &output)?,
        },
        MachineCommand::Exporter => {
            exporter::answer(std::io::stdin().as_fd(), || Metrics::of(&machine))?;
            Ending::Done
        }
        MachineCommand::Accept { commit } => machine.accept(&commit, signers()?.as_ref())?,
        MachineCommand::Suspend { reason, time } => machine.suspend(reason, time)?,
        MachineCommand::Resume => machine.resume()?,
        MachineCommand::Retry => machine.retry()?,
        MachineCommand::Confirm(expected) => machine.confirm(&expected, signers()?.as_ref())?,
        MachineCommand::Desktop { title } => Desktop::of(&machine, &title)?.tell()?,
        MachineCommand::Rollback { to } => machine.roll_back_by_hand(to, &read_signers())?,
    })
}

fn execute_alone(
    command: StandaloneCommand,
    config_file: &Path,
    root: &Path,
) -> Result<Ending, Failure> {
    Ok(match command {
        StandaloneCommand::List { flake, output } => {
            show(&flake::list(&flake.flake_url)?, &output)?
        }
        StandaloneCommand::Eval { hosts, output } => {
            let systems = flake::evaluate(&hosts.flake.flake_url, hosts.hostname.as_deref())?;
            show(&systems, &output)?;
            systems.ending()
        }
        StandaloneCommand::Build {
            hosts,
            out_link,
            output,
        } => {
            let hostname = hosts.hostname.as_deref();
            let systems = flake::build(&hosts.flake.flake_url, hostname, &out_link)?;
            show(&systems, &output)?;
            systems.ending()
        }
        StandaloneCommand::Undo { state_dir, attempt } => {
            let paths = Paths::new(root, &state_dir);
            dead_man::strike(&paths, attempt, || machine_of(config_file, root))?;
            Ending::Done
        }
        StandaloneCommand::CheckConfig { file } => {
            Config::load(&file).map_err(Failure::Misconfigured)?;
            Ending::Done
        }
        StandaloneCommand::Credential {
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
        StandaloneCommand::Generate { folder } => {
            manual::write(&folder)?;
            Ending::Done
        }
        StandaloneCommand::Activate {
            attempt,
            toplevel,
            operation,
        } => {
            let activation = Activation {
                attempt,
                toplevel,
                operation,
            };
            activation.carry_out(&Paths::outside_state(root))?;
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

/// The machine that a configuration describes.
fn machine_of(config_file: &Path, root: &Path) -> Result<Machine> {
    // Where it is now: an activation may let /etc lead to another file.
    let resolved = std::fs::canonicalize(config_file);
    let config = Config::of_machine(config_file)?;
    let paths = Paths::new(root, &config.state_dir);
    Ok(Machine {
        config,
        config_file: config_file.to_path_buf(),
        own_config_file: resolved.unwrap_or_else(|_| config_file.to_path_buf()),
        paths,
    })
}

fn show(report: &impl Report, output: &Output) -> Result<Ending> {
    print(&if output.json {
        json(report)?
    } else {
        text(report)
    })?;
    Ok(Ending::Done)
}

fn text(report: &impl Report) -> String {
    report.text(&Page::here()).trim_end().to_string()
}

fn json(report: &impl Report) -> Result<String> {
    let json = serde_json::to_string_pretty(report)?;
    Ok(journal::printable_json(&json))
}

fn print(text: &str) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    match writeln!(std::io::stdout(), "{text}") {
        // The reader has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("Failed to write the answer"),
    }
}
