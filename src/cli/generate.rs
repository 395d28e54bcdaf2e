//! Completions and man pages, made from the command line for the package to install.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::args::Cli;

/// Writes the completions of three shells, and a man page for each command, into a folder.
pub fn write(folder: &Path) -> Result<()> {
    let mut comin = shown(&Cli::command());
    let write = || {
        fs::create_dir_all(folder)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut comin.clone(), "comin", folder)?;
        }
        comin = comin.disable_help_subcommand(true);
        comin.build();
        for command in comin.get_subcommands().chain([&comin]) {
            let source = format!("comin {}", env!("CARGO_PKG_VERSION"));
            Man::new(command.clone())
                .source(source)
                .generate_to(folder)?;
        }
        std::io::Result::Ok(())
    };
    write().with_context(|| format!("Failed to write to {}", folder.display()))
}

/// The command line without the commands that are hidden: completions would offer them.
fn shown(cli: &Command) -> Command {
    let is_shown = |command: &&Command| !command.is_hide_set();
    Command::new("comin")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .about(cli.get_about().cloned().unwrap_or_default())
        .after_help(cli.get_after_help().cloned().unwrap_or_default())
        .args(cli.get_arguments())
        .subcommands(cli.get_subcommands().filter(is_shown))
}
