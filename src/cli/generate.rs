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
            let man = Man::new(command.clone()).source(source);
            let mut page = Vec::new();
            man.render(&mut page)?;
            page.extend_from_slice(include_bytes!("sections.man"));
            fs::write(folder.join(man.get_filename()), page)?;
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
        .args(cli.get_arguments())
        .subcommands(cli.get_subcommands().filter(is_shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_command_as_the_command_describes_itself() {
        let help = include_str!("help.txt");
        for command in shown(&Cli::command()).get_subcommands() {
            let (name, about) = (command.get_name(), command.get_about().unwrap());
            let line = format!("  {name:<12}  {about}\n");
            assert!(help.contains(&line), "{line}");
        }
    }
}
