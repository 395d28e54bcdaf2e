//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueHint};
use jiff::{SignedDuration, Span, SpanRelativeTo};

use crate::deploy::confirm::ConfirmRequest;
use crate::model::Operation;

/// The configuration, and the machine, unless others are named.
pub const CONFIG: &str = "/etc/comin/config.json";
const ROOT: &str = "/";

/// Pull-mode deployment for NixOS: fetches this machine's configuration from Git and deploys it
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    help_template = include_str!("help.txt")
)]
pub struct Cli {
    /// The configuration of this machine
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "FILE",
        default_value = CONFIG
    )]
    pub config: PathBuf,

    /// Work on the machine below DIR: its state, /run, profiles and current system
    ///
    /// Not below DIR are /nix/store, the configuration file, and the files that the configuration names.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "DIR",
        default_value = ROOT
    )]
    pub root: PathBuf,

    /// Print more about what happens
    #[arg(long, global = true, help_heading = "Global options")]
    pub debug: bool,

    /// What to do; `None` is to show the status.
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Cli {
    /// Whether pkexec may start it. Polkit may let users who are not root give four orders to this machine. By a
    /// configuration of their own they would become root, and by other commands, which only a root shell may run. A script
    /// around comin looks like a shell, and is started for those four alone.
    pub fn is_for_pkexec(&self, is_in_shell: bool) -> bool {
        use MachineCommand::{Confirm, Resume, Retry, Suspend};
        let is_order = matches!(
            &self.command,
            Some(Command::Machine(
                Confirm(_) | Resume | Retry | Suspend { .. }
            ))
        );
        if is_order {
            self.config == Path::new(CONFIG) && self.root == Path::new(ROOT)
        } else {
            is_in_shell
        }
    }

    /// Whether it may work at an attempt to deploy something.
    pub fn may_deploy(&self) -> bool {
        use MachineCommand::{Deploy, Keep, Rollback, Run};
        matches!(
            &self.command,
            Some(
                Command::Machine(Run { .. } | Deploy | Keep | Rollback { .. })
                    | Command::Standalone(StandaloneCommand::Undo { .. })
            )
        )
    }
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One about the machine that the configuration describes.
    #[command(flatten)]
    Machine(MachineCommand),
    /// One that needs no configuration.
    #[command(flatten)]
    Standalone(StandaloneCommand),
}

/// A command about the machine that the configuration describes.
#[derive(Debug, Subcommand)]
// What the other commands take is not made for every poll: that is a tenth of it.
#[command(defer = true)]
pub enum MachineCommand {
    /// Fetch and deploy, once
    ///
    /// Use this in a shell, or with an init system other than systemd.
    Run {
        /// A remote to fetch; by default all
        #[arg(value_name = "REMOTE")]
        remotes: Vec<String>,
    },
    /// Fetch remotes, and request a deploy if there is something to decide
    ///
    /// The timers run this command. If somebody pushed, or something is due, it writes the file /run/comin/wanted. systemd
    /// then starts `comin deploy`.
    Fetch {
        /// Leave it to who began this to ask for a deploy
        #[arg(long, hide = true)]
        without_request: bool,
        /// A remote to fetch; by default all
        #[arg(value_name = "REMOTE")]
        remotes: Vec<String>,
    },
    /// Deploy what has been fetched
    ///
    /// Selects a commit, evaluates, builds and activates it. If nothing has changed, it does nothing.
    Deploy,
    /// Wait until the first boot of a system is judged, and fail if the machine goes back
    #[command(hide = true)]
    BootCheck,
    /// Show what is deployed, what is selected, and what is wrong
    Status {
        /// How to show it.
        #[command(flatten)]
        format: StatusFormat,
        /// Show it again whenever it changes, until Ctrl-C
        #[arg(long, short)]
        watch: bool,
        /// Print the line of --oneline, and exit with a code for the state
        ///
        /// 0: up to date or testing. 3: something is under way, due, or waits; or a reboot or retry is needed to run the
        /// selected commit. 4: failed, rolled back, held, skipped, refused, unreachable, not fetched, not polled or not
        /// deploying. 5: suspended. 6: drift: another system runs, was booted or boots next. If the selected commit is not
        /// deployed either, or comin is suspended, the code is 3, 4 or 5, and the line names the drift, too.
        #[arg(long, conflicts_with_all = ["watch", "json", "oneline"])]
        check: bool,
    },
    /// Follow the status: `comin status --watch`
    Watch(StatusFormat),
    /// Show what a deploy would do, and the verdict on every branch
    ///
    /// Changes nothing.
    Plan {
        /// Also evaluate and build the selected commit, and show what it would change
        ///
        /// Shows the packages that differ from those of the running system. For root, it also shows the units that a
        /// switch would restart. Activates nothing and keeps nothing.
        #[arg(long)]
        build: bool,
        /// How to show it.
        #[command(flatten)]
        output: Output,
    },
    /// Accept a main that was rewound or rewritten, once
    ///
    /// Otherwise, comin never deploys a main that does not contain the last main that it activated.
    Accept {
        /// The present commit of that main: its id, or at least the first 7 digits, as in `comin status`
        commit: String,
    },
    /// Deploy nothing until further notice
    ///
    /// Fetches go on, and `comin status` shows which commit would be deployed.
    Suspend {
        /// The reason, for `comin status`
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// For how long, such as 90m, 8h or 3d; by default until `comin resume`
        #[arg(long = "for", value_name = "TIME", value_parser = time)]
        time: Option<SignedDuration>,
        /// What people write without the option.
        #[arg(hide = true, value_name = "TIME", value_parser = not_without_for)]
        rest: Option<String>,
    },
    /// End a suspension
    Resume,
    /// Try again what failed, is held or has drifted
    ///
    /// Also redeploys a system that was deployed but not booted, and allows one more automatic reboot.
    Retry,
    /// Approve the deployment that is waiting
    ///
    /// For machines whose configuration has a `build_confirmer` or `deploy_confirmer`. Refused if another commit has been
    /// selected meanwhile. Use --past-gates for a commit that waits at a gate, or that a gate holds.
    Confirm(ConfirmRequest),
    /// Switch to the previous generation and stay there until the next push
    ///
    /// comin deploys nothing until somebody pushes, or you run `comin retry`.
    Rollback {
        /// The generation to go back to; by default the previous one
        #[arg(long, value_name = "GENERATION", value_parser = number)]
        to: Option<u64>,
    },
    /// Keep what is tested: it boots next, until main moves on
    ///
    /// The running system of the testing branch becomes a generation of the profile and the default of the boot menu. A
    /// push to main replaces it.
    Keep,
    /// List the latest deployments, or show one in full
    ///
    /// With NUMBER, shows how long each stage took, which packages changed, and which units were started or restarted.
    History {
        /// The number of the deployment to show, as in the list
        #[arg(value_name = "NUMBER", value_parser = number)]
        number: Option<u64>,
        /// Show the whole log of the failed build, or else all lines of the deployment in the journal
        #[arg(long, requires = "number", conflicts_with = "json")]
        log: bool,
        /// How to show it.
        #[command(flatten)]
        output: Output,
    },
    /// Show notifications of deployments on the desktop
    ///
    /// The user unit comin-desktop runs this command in a session with a notification server. It shows what is new, asks
    /// for confirmations, and ends.
    Desktop {
        /// The title of the notifications
        #[arg(long, default_value = "comin")]
        title: String,
    },
    /// Show the metrics for Prometheus
    ///
    /// If systemd passes a connection, the command answers one HTTP request there.
    Exporter {
        /// Record what systemd says of the units, for a scrape that must not ask systemd.
        #[arg(long, hide = true)]
        record: bool,
    },
}

impl MachineCommand {
    /// Whether it only looks, which everybody may; a command that is not in this list is only for root.
    pub fn is_read_only(&self) -> bool {
        matches!(
            self,
            Self::Status { .. }
                | Self::Watch(_)
                | Self::Plan { .. }
                | Self::History { .. }
                | Self::Exporter { .. }
                | Self::Desktop { .. }
        )
    }

    /// Whether it does something about a commit, which keys that cannot be read would always refuse.
    pub fn depends_on_signers(&self) -> bool {
        matches!(
            self,
            Self::Run { .. } | Self::Deploy | Self::Accept { .. } | Self::Confirm(_)
        )
    }
}

/// A command that needs no configuration.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum StandaloneCommand {
    /// List the hosts of a flake
    ///
    /// Prints the attributes of nixosConfigurations, one in each line. Needs no configuration.
    List {
        /// The flake.
        #[command(flatten)]
        flake: Flake,
        /// How to show them.
        #[command(flatten)]
        output: Output,
    },
    /// Evaluate hosts of a flake
    ///
    /// Prints the derivation and the output path of each host's system. If a host fails, the
    /// others are still evaluated. Needs no configuration.
    Eval {
        /// The hosts.
        #[command(flatten)]
        hosts: HostArgs,
        /// How to show them.
        #[command(flatten)]
        output: Output,
    },
    /// Build hosts of a flake
    ///
    /// Activates nothing. If a host fails, the others are still built. Needs no configuration.
    Build {
        /// The hosts.
        #[command(flatten)]
        hosts: HostArgs,
        /// The link to the built system; without a host, LINK-HOST for each host
        #[arg(long, short, value_name = "LINK", default_value = "result")]
        out_link: PathBuf,
        /// How to show them.
        #[command(flatten)]
        output: Output,
    },
    /// Build hosts of the flake here for machines that deploy prebuilt systems
    ///
    /// CI runs this command in a clone of the repository. It builds the hosts and copies them to a binary cache. Then it
    /// names them in the note of the commit, and pushes the notes. If a host fails, the others are still published. Needs
    /// no configuration.
    Publish(Publication),
    /// Check a configuration file
    CheckConfig {
        /// The file to check
        file: PathBuf,
    },
    /// Tell git the token for a server, when Nix runs git
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
    /// Roll back the activation of an attempt that did not come to an end in time
    #[command(hide = true)]
    Undo {
        /// The folder of the state: the configuration may be gone.
        #[arg(long)]
        state_dir: PathBuf,
        /// The attempt.
        attempt: u64,
    },
    /// Write shell completions and man pages, for the package
    #[command(hide = true)]
    Generate {
        /// Where to.
        folder: PathBuf,
    },
    /// Run switch-to-configuration and leave its result in a file
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

// What several commands take has no doc comment: clap would say it of the command, in place of its own.

// What is published, and where.
#[derive(Debug, Args)]
pub struct Publication {
    /// Hosts, as attributes of nixosConfigurations; by default all
    #[arg(value_name = "HOST")]
    pub hosts: Vec<String>,
    /// The binary cache to copy the systems to, as in `nix copy --to`; by default nothing is copied
    #[arg(long, value_name = "CACHE")]
    pub to: Option<String>,
    /// The name of the notes, as in services.comin.prebuilt.notes
    #[arg(long, default_value = "comin")]
    pub notes: String,
    /// The remote to push the notes to
    #[arg(long, default_value = "origin")]
    pub remote: String,
}

// How to show something.
#[derive(Debug, Args)]
pub struct Output {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

// How to show the status.
#[derive(Debug, Default, Args)]
pub struct StatusFormat {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print one short line for a status bar: the state, the commit, and a problem if there is one
    #[arg(long, conflicts_with = "json")]
    oneline: bool,
}

/// What a status is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A picture of everything.
    Text,
    /// One short line.
    Oneline,
    /// JSON.
    Json,
}

impl StatusFormat {
    /// What was asked for.
    pub fn style(&self) -> Style {
        match (self.json, self.oneline) {
            (true, _) => Style::Json,
            (false, true) => Style::Oneline,
            (false, false) => Style::Text,
        }
    }
}

/// A time of days, hours, minutes and seconds.
fn time(text: &str) -> Result<SignedDuration, String> {
    let span = text.parse::<Span>().ok();
    span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok())
        .filter(SignedDuration::is_positive)
        .ok_or_else(|| "use a time such as 90m, 8h or 3d".to_string())
}

/// Names the option that a time needs.
fn not_without_for(text: &str) -> Result<String, String> {
    Err(format!("use --for {text}, or --reason TEXT"))
}

/// The number of something that comin lists.
fn number(text: &str) -> Result<u64, String> {
    let number = text.parse();
    number.map_err(|_| "use a number such as 3".to_string())
}

// A flake.
#[derive(Debug, Args)]
pub struct Flake {
    /// The flake: a directory, or a URL as for Nix
    #[arg(long, value_name = "URL", default_value = ".", value_parser = flake_url, value_hint = ValueHint::AnyPath)]
    flake_url: String,
    /// The flake in place of --flake-url, optionally with a host: .#laptop
    #[arg(value_name = "FLAKE", conflicts_with = "flake_url", value_hint = ValueHint::AnyPath)]
    installable: Option<String>,
}

impl Flake {
    /// The flake, and the host that stands beside it.
    pub fn parts(&self) -> (&str, Option<&str>) {
        match &self.installable {
            None => (&self.flake_url, None),
            Some(installable) => match installable.split_once('#') {
                None => (installable, None),
                Some((flake, host)) => {
                    let flake = if flake.is_empty() { "." } else { flake };
                    (flake, Some(host).filter(|host| !host.is_empty()))
                }
            },
        }
    }
}

// Hosts of a flake.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// Where they are.
    #[command(flatten)]
    pub flake: Flake,
    /// One host, as an attribute of nixosConfigurations; by default all
    #[arg(long, value_name = "HOST", conflicts_with = "installable")]
    hostname: Option<String>,
}

impl HostArgs {
    /// The flake, and the host if one is meant.
    pub fn parts(&self) -> (&str, Option<&str>) {
        let (flake, host) = self.flake.parts();
        (flake, host.or(self.hostname.as_deref()))
    }
}

/// Refuses what Nix would not take for a flake, and what people are used to from nixos-rebuild.
fn flake_url(url: &str) -> Result<String, String> {
    if let Some((flake, host)) = url.split_once('#') {
        return Err(format!(
            "the URL names a host: use --flake-url {flake} --hostname {host}"
        ));
    }
    if url.starts_with('-') {
        return Err("Nix would read this as an option: begin a directory with ./".to_string());
    }
    Ok(url.to_string())
}
