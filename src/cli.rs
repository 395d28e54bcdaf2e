//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Shows the metrics for Prometheus, or answers the one HTTP request that systemd has accepted.
    Exporter,
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
