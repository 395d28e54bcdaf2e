//! Where everything lies, below one root.

use std::path::{Path, PathBuf};

use crate::config::STATE_DIR;
use crate::model::names::RemoteName;

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

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether this is the running machine and not a scratch root.
    pub fn is_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The bare mirror of the remotes. Writer: fetch; deploy keeps its own refs there, and repacks.
    pub fn repository(&self) -> PathBuf {
        self.state_dir.join("repository")
    }

    /// What a boot may forget.
    pub fn run(&self) -> PathBuf {
        self.below("run/comin")
    }

    /// Held by the one process that makes the mirror. In the state folder a fetch may write nothing else.
    pub fn repository_lock(&self) -> PathBuf {
        self.below("run/comin/repository.lock")
    }

    /// Accepted main and attempts. Writer: whoever holds the deploy lock: deploy, rollback, the rollback timer.
    pub fn state(&self) -> PathBuf {
        self.state_dir.join("state.json")
    }

    /// What the Go comin deployed. Writer: none any more.
    pub fn go_store(&self) -> PathBuf {
        self.state_dir.join("store.json")
    }

    /// A rewrite of main that the operator accepts. Writer: accept; deploy removes it.
    pub fn rewrite(&self) -> PathBuf {
        self.state_dir.join("accept.json")
    }

    /// The order to deploy nothing. Writer: suspend and resume.
    pub fn suspension(&self) -> PathBuf {
        self.state_dir.join("suspended.json")
    }

    /// The order to try again what failed. Writer: retry; deploy removes it.
    pub fn retry(&self) -> PathBuf {
        self.state_dir.join("retry")
    }

    /// The order to go on with what waits for a confirmation. Writer: confirm; deploy removes it.
    pub fn confirmation(&self) -> PathBuf {
        self.state_dir.join("confirm.json")
    }

    /// The folder of the state.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Held by the one process that deploys.
    pub fn deploy_lock(&self) -> PathBuf {
        self.state_dir.join("lock")
    }

    /// Nix GC roots. Writer: deploy.
    pub fn gcroots(&self) -> PathBuf {
        self.state_dir.join("gcroots")
    }

    /// How the latest fetch of a remote ended. Writer: fetch, and a rollback that finds it unreachable.
    pub fn remote(&self, name: &RemoteName) -> PathBuf {
        self.below(format!("run/comin/remotes/{name}.json"))
    }

    /// Held by the one process that fetches this remote.
    pub fn remote_lock(&self, name: &RemoteName) -> PathBuf {
        self.below(format!("run/comin/remotes/{name}.lock"))
    }

    /// The request to deploy. Writer: fetch and the operator's commands; deploy removes it.
    pub fn wanted(&self) -> PathBuf {
        self.below("run/comin/wanted")
    }

    /// The heads on which the latest deploy decided. Writer: deploy.
    pub fn decided(&self) -> PathBuf {
        self.below("run/comin/decided.json")
    }

    /// What the latest deploy found about every head. Writer: deploy.
    pub fn judgement(&self) -> PathBuf {
        self.below("run/comin/judgement.json")
    }

    /// How far the evaluation or build is that is under way. Writer: deploy.
    pub fn progress(&self) -> PathBuf {
        self.below("run/comin/progress.json")
    }

    /// The cache of Nix during the evaluations of a deploy. Writer: Nix; deploy empties it when it is damaged.
    pub fn nix_cache(&self) -> PathBuf {
        self.below("var/cache/comin")
    }

    /// How git reaches SSH servers when Nix runs it. Writer: deploy. Where no fetch can write: ssh runs what it
    /// says, as root.
    pub fn ssh_config(&self) -> PathBuf {
        self.state_dir.join("ssh_config")
    }

    /// Where git finds relative submodules when Nix runs it. Writer: deploy. Where no fetch can write, too: git
    /// runs what its settings say.
    pub fn submodules(&self) -> PathBuf {
        self.state_dir.join("submodules")
    }

    /// The order for an activation, and how it ended. Writer: deploy, then the activation runner.
    pub fn activation(&self) -> PathBuf {
        self.below("run/comin/activation.json")
    }

    /// Held by the activation runner as long as it runs.
    pub fn activation_lock(&self) -> PathBuf {
        self.below("run/comin/activation.lock")
    }

    /// The units that were up before the latest activation. Writer: deploy.
    pub fn units(&self) -> PathBuf {
        self.below("run/comin/units.json")
    }

    /// The system that runs.
    pub fn current_system(&self) -> PathBuf {
        self.below("run/current-system")
    }

    /// The system that booted.
    pub fn booted_system(&self) -> PathBuf {
        self.below("run/booted-system")
    }

    /// The kernel's name for this boot.
    pub fn boot_id(&self) -> PathBuf {
        self.below("proc/sys/kernel/random/boot_id")
    }

    /// The folder in which a switch that has not ended keeps its lists.
    pub fn switch_lists(&self) -> PathBuf {
        self.below("run/nixos")
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

    /// `machine-id(5)`.
    pub fn machine_id(&self) -> PathBuf {
        self.below("etc/machine-id")
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
