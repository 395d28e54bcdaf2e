//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jiff::{SignedDuration, Span, SpanRelativeTo};

use crate::config::Operation;

/// Pull-mode deployment for NixOS: fetches this machine's configuration from Git and deploys it.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/comin/config.json"
    )]
    pub config: PathBuf,

    /// Puts every path but /nix/store below DIR.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Says more about what happens.
    #[arg(long, global = true)]
    pub debug: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetches and deploys, once.
    Run {
        /// The remotes to fetch [default: all].
        remotes: Vec<String>,
    },
    /// Fetches, and asks for a deploy if there is something to decide.
    Fetch {
        /// The remotes to fetch.
        #[arg(required = true)]
        remotes: Vec<String>,
    },
    /// Deploys what has been fetched.
    Deploy,
    /// Shows what is deployed, what is selected, and what is wrong.
    Status(Output),
    /// Shows what a deploy would do, and the verdict on every branch.
    Plan(Output),
    /// Allows a main that was rewound or rewritten, once.
    Accept {
        /// The head of that main, as in the status: the id, or its first 8 digits or more.
        commit: String,
    },
    /// Deploys nothing until further notice; fetches go on.
    Suspend {
        /// Why, for the status.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// For how long, as in 90m, 8h or 3d [default: until comin resume].
        #[arg(long = "for", value_name = "TIME", value_parser = time)]
        time: Option<SignedDuration>,
    },
    /// Ends a suspension.
    Resume,
    /// Tries again what failed or is in quarantine.
    Retry,
    /// Goes back to the system before, and holds there until a head moves or comin retry.
    Rollback {
        /// The generation to go back to [default: the one before].
        #[arg(long, value_name = "GENERATION")]
        to: Option<u64>,
    },
    /// Lists the latest deployments.
    History(Output),
    /// Checks a configuration file.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Tells git the token for a server, when Nix runs git.
    #[command(hide = true)]
    Credential {
        /// The server, as `https://host:port`.
        #[arg(long)]
        origin: String,
        /// The user name that goes with the token.
        #[arg(long)]
        username: String,
        /// The file with the token.
        #[arg(long)]
        token: PathBuf,
        /// What git wants: `get`, `store` or `erase`.
        operation: String,
    },
    /// Rolls back the activation of an attempt that did not come to an end in time.
    #[command(hide = true)]
    Undo {
        /// The folder of the state.
        #[arg(long)]
        state_dir: PathBuf,
        /// The attempt.
        attempt: u64,
    },
    /// Runs switch-to-configuration and leaves its result in a file.
    #[command(hide = true)]
    Activate {
        /// The attempt.
        attempt: u64,
        /// The system.
        toplevel: PathBuf,
        /// What to do with it.
        operation: Operation,
    },
}

/// How to show something.
#[derive(Debug, Args)]
pub struct Output {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// A time of days, hours, minutes and seconds.
fn time(text: &str) -> Result<SignedDuration, String> {
    let span: Span = text
        .parse()
        .map_err(|error: jiff::Error| error.to_string())?;
    let time = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|error| error.to_string())?;
    if time.is_positive() {
        Ok(time)
    } else {
        Err("it is no time to come".to_string())
    }
}
