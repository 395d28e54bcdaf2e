//! The commands. Only they gather what is shown, and print it.

pub mod args;
mod desktop;
mod exporter;
mod generate;
mod history;
mod hosts;
mod metrics;
mod output;
mod plan;
mod publish;
mod status;
mod watch;
mod watch_events;

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{absolute, Path};
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{anyhow, Context as _, Error, Result};

use derive_more::{Display, From};
use rustix::io::Errno;

use crate::config::{paths::Paths, url::Token, Config, Remote};
use crate::deploy::context::{Completion, Context};
use crate::deploy::{
    self, accept, boot_check, confirm, fetch, keep, manual_rollback, operator, recovery,
    rollback_timeout,
};
use crate::git::{credentials, git_command::quoted};
use crate::report::page::Page;
use crate::state::requests;
use crate::sys::who;
use crate::system::{switch::Activation, timers};
pub use args::Cli;
use args::{Command, MachineCommand, StandaloneCommand, StatusFormat, Style};
use desktop::Desktop;
use output::{json, print, show, text};

/// Why a command failed.
#[derive(From)]
pub enum CommandError {
    /// The command line or the configuration is wrong; nothing was touched.
    Misconfigured(Error),
    /// Something went wrong.
    #[from]
    Failed(Error),
}

/// The same command as root, if an error comes from missing rights.
pub fn as_root(error: &Error) -> Option<String> {
    let is_denied = |cause: &(dyn std::error::Error + 'static)| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        kind == Some(io::ErrorKind::PermissionDenied)
            || cause.downcast_ref() == Some(&Errno::ACCESS)
            || cause.is::<OnlyRoot>()
    };
    let is_root = rustix::process::geteuid().is_root();
    (!is_root && error.chain().any(is_denied)).then(|| sudo(std::env::args_os().skip(1)))
}

/// comin with these arguments as root, ready to be copied into a shell.
fn sudo(arguments: impl Iterator<Item = OsString>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    arguments.fold("sudo comin".to_string(), |words, argument| {
        let word = argument.to_string_lossy();
        let word = if word.is_empty() || !word.chars().all(is_plain) {
            Cow::Owned(quoted(&word))
        } else {
            word
        };
        words + " " + &word
    })
}

/// An ordinary user wants something that only root may.
#[derive(Debug, Display)]
#[display("Only root can do that")]
struct OnlyRoot;

impl std::error::Error for OnlyRoot {}

/// Does what the command line says.
pub fn execute(cli: Cli) -> Result<ExitCode, CommandError> {
    if who::uses_pkexec() && !cli.is_for_pkexec(who::is_in_shell()) {
        return Err(CommandError::Misconfigured(anyhow!(
            "pkexec may run comin confirm, retry, suspend and resume, and without --config and --root: use sudo"
        )));
    }
    let root = absolute(&cli.root).context("--root is no path")?;
    let status = MachineCommand::Status {
        format: StatusFormat::default(),
        watch: false,
        check: false,
    };
    match cli.command.unwrap_or(Command::Machine(status)) {
        Command::Machine(command) => execute_on_machine(command, &cli.config, &root),
        Command::Standalone(command) => {
            execute_alone(command, &cli.config, &root).map(ExitCode::from)
        }
    }
}

fn execute_on_machine(
    command: MachineCommand,
    config_file: &Path,
    root: &Path,
) -> Result<ExitCode, CommandError> {
    let is_machine = Paths::outside_state(root).is_machine();
    // The user who owns the mirror may fetch.
    let may_be_anothers = command.is_read_only() || matches!(command, MachineCommand::Fetch { .. });
    if is_machine && !may_be_anothers && !rustix::process::geteuid().is_root() {
        return Err(CommandError::Failed(OnlyRoot.into()));
    }
    if let MachineCommand::Deploy = command {
        // First of all: a request that stays makes systemd start this again and again.
        requests::take_deploy_request(&Paths::outside_state(root))?;
    }
    let machine = machine_of(config_file, root).map_err(CommandError::Misconfigured)?;
    if command.depends_on_signers() {
        let recheck = |_: &Error| deploy::schedule_recheck(&machine);
        let checked = machine.check_signers().inspect_err(recheck);
        checked.map_err(CommandError::Misconfigured)?;
    }
    let mut completion = Completion::Success;
    match command {
        MachineCommand::Run { remotes } => {
            let remotes = choose(&machine.config, &remotes)?;
            completion = deploy::run(&machine, &remotes)?;
        }
        MachineCommand::Fetch {
            remotes,
            without_request,
        } => {
            let remotes = choose(&machine.config, &remotes)?;
            completion = fetch::fetch(&machine, &remotes, !without_request)?;
        }
        MachineCommand::Deploy => completion = deploy::deploy(&machine)?,
        MachineCommand::BootCheck => completion = boot_check::await_verdict(&machine)?,
        MachineCommand::Status { check: true, .. } => {
            let status = status::status(&machine)?;
            let page = Page::here();
            print(&status.oneline(&page))?;
            return Ok(ExitCode::from(status.exit_code(&page)));
        }
        MachineCommand::Status {
            format,
            watch: true,
            ..
        }
        | MachineCommand::Watch(format) => {
            // A deployment may change the configuration.
            let status = || status::status(&machine_of(config_file, root)?);
            watch::follow(status, format.style(), &machine.paths)?;
        }
        MachineCommand::Status { format, .. } => {
            let status = status::status(&machine)?;
            print(&match format.style() {
                Style::Text => text(&status),
                Style::Oneline => status.oneline(&Page::here()),
                Style::Json => json(&status)?,
            })?;
        }
        MachineCommand::Plan { build, output } => {
            let plan = plan::plan(&machine)?;
            if build {
                let previewed = plan::build(&machine, plan)?;
                show(&previewed, &output)?;
                if let Some(error) = previewed.error() {
                    log::error!("{error}");
                    completion = Completion::Failure;
                }
            } else {
                show(&plan, &output)?;
            }
        }
        MachineCommand::History {
            number,
            log,
            output,
        } => match number {
            Some(number) if log => match history::show_log(&machine, number)? {},
            Some(number) => show(&history::details(&machine, number)?, &output)?,
            None => show(&history::history(&machine)?, &output)?,
        },
        MachineCommand::Exporter { record: true } => {
            timers::record(&machine.config.remotes, &machine.paths)?;
        }
        MachineCommand::Exporter { record: false } => {
            let metrics = |is_served| metrics::metrics(&machine, is_served);
            exporter::answer(std::io::stdin().as_fd(), metrics)?;
        }
        MachineCommand::Accept { commit } => accept::accept(&machine, &commit)?,
        MachineCommand::Suspend { reason, time, .. } => operator::suspend(&machine, reason, time)?,
        MachineCommand::Resume => operator::resume(&machine)?,
        MachineCommand::Retry => operator::retry(&machine)?,
        MachineCommand::Confirm(expected) => confirm::confirm(&machine, &expected)?,
        MachineCommand::Desktop { title } => Desktop::of(&machine, &title)?.tell()?,
        MachineCommand::Keep => {
            completion = recovery::carry_out(&machine, |store| keep::keep(&machine, store))?;
        }
        MachineCommand::Rollback { to } => recovery::carry_out(&machine, |store| {
            manual_rollback::roll_back(&machine, store, to)
        })?,
    }
    Ok(completion.into())
}

fn execute_alone(
    command: StandaloneCommand,
    config_file: &Path,
    root: &Path,
) -> Result<Completion, CommandError> {
    match command {
        StandaloneCommand::List { flake, output } => {
            show(&hosts::list(flake.parts().0)?, &output)?;
        }
        StandaloneCommand::Eval { hosts, output } => {
            let (flake, host) = hosts.parts();
            let systems = hosts::systems(flake, host.as_slice(), None)?;
            show(&systems, &output)?;
            return Ok(systems.ending());
        }
        StandaloneCommand::Build {
            hosts,
            out_link,
            output,
        } => {
            let (flake, host) = hosts.parts();
            let systems = hosts::systems(flake, host.as_slice(), Some(&out_link))?;
            show(&systems, &output)?;
            return Ok(systems.ending());
        }
        StandaloneCommand::Publish(publication) => return Ok(publish::publish(&publication)?),
        StandaloneCommand::Undo { state_dir, attempt } => {
            let paths = Paths::new(root, &state_dir);
            rollback_timeout::on_timeout(&paths, attempt, || machine_of(config_file, root))?;
        }
        StandaloneCommand::CheckConfig { file } => {
            Config::load(&file).map_err(CommandError::Misconfigured)?;
            print(&format!("{} is a valid configuration", file.display()))?;
        }
        StandaloneCommand::Credential {
            origin,
            username,
            token: path,
            operation,
        } => {
            let token = Token { username, path };
            // The operations `store` and `erase` are for helpers that keep credentials.
            if operation == "get" {
                let answer = credentials::answer(&origin, &token, std::io::stdin().lock())?;
                print(answer.unwrap_or_default().trim_end())?;
            }
        }
        StandaloneCommand::Generate { folder } => generate::write(&folder)?,
        StandaloneCommand::Activate {
            attempt,
            toplevel,
            operation,
        } => {
            let activation = Activation::new(attempt, toplevel, operation);
            activation.run_switch(&Paths::outside_state(root))?;
        }
    }
    Ok(Completion::Success)
}

/// The remotes of these names, or all of them.
fn choose<'a>(config: &'a Config, names: &[String]) -> Result<Vec<&'a Remote>, CommandError> {
    if names.is_empty() {
        return Ok(config.remotes.iter().collect());
    }
    let found: Result<_> = names.iter().map(|name| config.remote(name)).collect();
    found.map_err(CommandError::Misconfigured)
}

/// The machine that a configuration describes.
fn machine_of(config_file: &Path, root: &Path) -> Result<Context> {
    // Where it is now: an activation may let /etc lead to another file.
    let resolved = std::fs::canonicalize(config_file);
    let config = Config::of_machine(config_file)?;
    let paths = Paths::new(root, &config.state_dir);
    Ok(Context {
        config,
        config_file: config_file.to_path_buf(),
        own_config_file: resolved.unwrap_or_else(|_| config_file.to_path_buf()),
        paths,
        signers: OnceLock::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn command_as_root_can_be_copied_into_a_shell() {
        let command = |words: &[&[u8]]| {
            let words = words.iter().map(|word| OsString::from_vec(word.to_vec()));
            sudo(words)
        };
        assert_eq!(
            command(&[b"suspend", b"--for", b"8h"]),
            "sudo comin suspend --for 8h"
        );
        assert_eq!(
            command(&[b"suspend", b"--reason", b"Alice's move; $(x)", b""]),
            r"sudo comin suspend --reason 'Alice'\''s move; $(x)' ''"
        );
        // A path need not be UTF-8.
        assert_eq!(
            command(&[b"--config", b"\xff"]),
            "sudo comin --config '\u{fffd}'"
        );
    }
}
