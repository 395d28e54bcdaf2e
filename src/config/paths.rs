//! Where everything lies, below one root.

use std::path::{Path, PathBuf};

use crate::config::STATE_DIR;
use crate::model::{Before, RemoteName};

/// The ref of the commit that Nix reads from a repository of ours: the remote's own branch may move meanwhile.
pub const TARGET_REF: &str = "refs/comin/target";

/// Every path that comin reads or writes, apart from `/nix/store`, which stays the real one.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
    state_dir: PathBuf,
}

impl Paths {
    /// The paths below `root`; `state_dir` is absolute, seen from inside of the root.
    pub fn new(root: &Path, state_dir: &Path) -> Self {
        let mut paths = Self {
            root: root.to_path_buf(),
            state_dir: PathBuf::new(),
        };
        paths.state_dir = paths.below(state_dir);
        paths
    }

    /// The paths where no configuration is at hand: those outside of the state folder.
    pub fn outside_state(root: &Path) -> Self {
        Self::new(root, Path::new(STATE_DIR))
    }

    fn below(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn in_state(&self, name: &str) -> PathBuf {
        self.state_dir.join(name)
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is the running machine and not a scratch root.
    pub fn is_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The paths of what is evaluated where no fetch can write.
    pub fn of_verified(&self) -> Self {
        Self {
            root: self.root.clone(),
            state_dir: self.verified(),
        }
    }

    /// The folder of the state.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// How the latest fetch of a remote ended. Writer: fetch, and a rollback that finds it unreachable.
    pub fn remote(&self, name: &RemoteName) -> PathBuf {
        self.below(format!("run/comin/remotes/{name}.json"))
    }

    /// Held by the one process that fetches this remote.
    pub fn remote_lock(&self, name: &RemoteName) -> PathBuf {
        self.below(format!("run/comin/remotes/{name}.lock"))
    }

    /// The gate at which an attempt waits before a stage. Writer: deploy.
    pub fn gate(&self, before: Before) -> PathBuf {
        self.below(format!("run/comin/gate-{before}.json"))
    }

    /// The folders in which files change when the status does.
    pub fn watched_dirs(&self) -> Vec<PathBuf> {
        vec![
            self.below("run"),
            self.below("run/comin"),
            self.below("run/comin/remotes"),
            self.state_dir.clone(),
        ]
    }

    /// A system profile: `system`, or another one below `system-profiles`, as nixos-rebuild has it.
    pub fn profile(&self, name: &str) -> PathBuf {
        let profiles = self.below("nix/var/nix/profiles");
        if name == "system" {
            profiles.join(name)
        } else {
            profiles.join("system-profiles").join(name)
        }
    }
}

/// Makes a function of each line, for a path in the state folder or below the root.
macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident: $folder:ident($path:literal);)*) => {
        impl Paths {
            $($(#[$doc])*
            pub fn $name(&self) -> PathBuf {
                self.$folder($path)
            })*
        }
    };
}

paths! {
    /// The bare mirror of the remotes. Writer: fetch; deploy keeps its own refs there, and repacks.
    repository: in_state("repository");

    /// The folder of files that need not survive a boot.
    run: below("run/comin");

    /// The folder to which a fetch may write its records, which need not survive a boot.
    fetches: below("run/comin/remotes");

    /// Held by the one process that makes the mirror, or changes its refs. No remote's name begins with a dot.
    repository_lock: below("run/comin/remotes/.repository.lock");

    /// What is evaluated if signatures or confirmers guard the machine, or if another user fetches. Writer: deploy. Where
    /// no fetch can write.
    verified: in_state("verified");

    /// Accepted main and attempts. Writer: whoever holds the deploy lock: deploy, keep, rollback, the rollback timer.
    state: in_state("state.json");

    /// What the Go comin deployed. Writer: none any more.
    go_store: in_state("store.json");

    /// A rewrite of main that the operator accepts. Writer: accept; deploy removes it.
    rewrite: in_state("accept.json");

    /// The order to deploy nothing. Writer: suspend and resume.
    suspension: in_state("suspended.json");

    /// The order to try again what failed. Writer: retry; deploy removes it.
    retry: in_state("retry");

    /// The order to go on with what waits for a confirmation. Writer: confirm; deploy removes it.
    confirmation: in_state("confirm.json");

    /// The order to let a commit through every gate. Writer: confirm; deploy removes it.
    past_gates: in_state("past-gates.json");

    /// Held by the one process that deploys.
    deploy_lock: in_state("lock");

    /// Nix GC roots. Writer: deploy, keep and rollback.
    gcroots: in_state("gcroots");

    /// The GC root of what waits to be built.
    derivation_root: in_state("gcroots/derivation");

    /// The GC root of the system that ran before the latest activation.
    before_root: in_state("gcroots/before");

    /// The request to deploy. Writer: fetch and the operator's commands; deploy removes it.
    wanted: below("run/comin/wanted");

    /// The request to deploy of a fetch that is not root's. Writer: fetch; deploy removes it.
    wanted_by_fetch: below("run/comin/remotes/.wanted");

    /// The heads on which the latest deploy decided, and who deploys. Writer: deploy, keep and rollback; accept and confirm
    /// if the keys of the signers cannot be read.
    decided: below("run/comin/decided.json");

    /// What the latest deploy found about every head. Writer: deploy.
    judgement: below("run/comin/judgement.json");

    /// The temporary directories of signature checks: no other user can enter or fill it. Writer: root's commands that
    /// verify signatures.
    private: below("run/comin/private");

    /// What other users are handed for a fetch or an evaluation. Writer: root's fetch, deploy and plan.
    handed_over: below("run/comin/handed-over");

    /// How far the evaluation or build is that is under way. Writer: deploy.
    progress: below("run/comin/progress.json");

    /// The cache of Nix during evaluations, of the user who evaluates. Writer: Nix; deploy empties it when it is damaged.
    nix_cache: below("var/cache/comin");

    /// How git reaches SSH servers when Nix runs it. Writer: deploy. Where no fetch can write: ssh runs what it
    /// says, as root.
    ssh_config: in_state("ssh_config");

    /// Where git finds relative submodules when Nix runs it. Writer: deploy. Where no fetch can write, too: git
    /// runs what its settings say.
    submodules: in_state("submodules");

    /// The order for an activation, and how it ended. Writer: deploy, keep, rollback or the rollback timer, then the
    /// activation runner.
    activation: below("run/comin/activation.json");

    /// Held by the activation runner as long as it runs.
    activation_lock: below("run/comin/activation.lock");

    /// The units that were up before the latest activation. Writer: deploy and keep.
    units: below("run/comin/units.json");

    /// What systemd says of the units that fetch and deploy. Writer: root, before each scrape.
    timers: below("run/comin/timers.json");

    /// The system that runs.
    current_system: below("run/current-system");

    /// The system that booted.
    booted_system: below("run/booted-system");

    /// The kernel's name for this boot.
    boot_id: below("proc/sys/kernel/random/boot_id");

    /// The folder in which a switch that has not ended keeps its lists.
    switch_lists: below("run/nixos");

    /// `passwd(5)`.
    users: below("etc/passwd");

    /// `machine-id(5)`.
    machine_id: below("etc/machine-id");
}
