//! Who evaluates: the user who runs comin, or one who has nothing of root's but the credentials for private inputs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Error, Result};
use serde_json::Value;

use super::{command::Settings, events};
use crate::config::Remote;
use crate::sys::{
    credential_file,
    fs::{create_private_folder, remove_all},
    hand_over::hand_over,
    owner::{AsOwner, Owner},
    temp_dir::TempDir,
};

/// The name of the user.
pub const USER: &str = "comin-eval";

/// The files that the user is handed, by the names by which git, curl and Nix look for them.
const GIT_CONFIG: &str = ".gitconfig";
const NETRC: &str = ".netrc";
const NIX_CONF: &str = "nix.conf";
const REGISTRY: &str = "registry.json";

/// What an error says if root's files or keys might have helped.
const LACKS_RIGHTS: [&str; 5] = [
    "Permission denied",
    "Host key verification failed",
    "could not read Username",
    "dubious ownership",
    "not owned by current user",
];
/// What an error says if the daemon of Nix does not serve the user.
const LACKS_DAEMON: [&str; 3] = [
    "cannot connect to socket",
    "cannot open connection to remote store",
    "Nix daemon disconnected",
];

/// Who evaluates, and with what.
pub struct Evaluator {
    /// The variables for the git that Nix runs.
    pub git: Vec<(String, String)>,
    /// Another user than root.
    pub user: Option<User>,
    /// The cache of Nix; without one, Nix uses that of its user.
    pub cache: Option<PathBuf>,
}

/// A user who is not root, and a home of that user's for as long as this is there.
pub struct User {
    owner: Owner,
    home: TempDir,
}

impl Evaluator {
    /// Runs Nix by this, and once more with an empty cache if the error names a file in the cache: a power cut can damage
    /// it, and Nix fails each time until somebody deletes it.
    pub(super) fn run<T>(
        self,
        mut nix: Command,
        run: impl Fn(&mut Command) -> Result<T>,
    ) -> Result<T> {
        nix.envs(self.git);
        let user = self.user.as_ref();
        let run = |nix: &mut Command| match user {
            None => run(nix),
            Some(user) => run(&mut user.isolated(nix)).map_err(explained),
        };
        let Some(cache) = self.cache else {
            return run(&mut nix);
        };
        let in_cache = cache.display().to_string();
        let failed = || format!("Failed to prepare the cache {in_cache} for Nix");
        prepare_cache(&cache, user.map(|user| user.owner)).with_context(failed)?;
        nix.env("XDG_CACHE_HOME", &cache)
            .env_remove("NIX_CACHE_HOME");
        match run(&mut nix) {
            Err(error) if format!("{error:#}").contains(&in_cache) => {
                log::warn!("Nix failed with its cache {in_cache}; emptying it and trying again");
                remove_all(&cache.join("nix")).with_context(failed)?;
                run(&mut nix)
            }
            ended => ended,
        }
    }
}

/// Makes a cache that nobody but who evaluates can read: what is fetched from a private repository is in there. Nobody
/// uses what another user has written.
fn prepare_cache(cache: &Path, user: Option<Owner>) -> Result<()> {
    create_private_folder(cache)?;
    if Owner::other_than_root(cache)? != user {
        remove_all(&cache.join("nix"))?;
        user.unwrap_or(Owner::ROOT).give(cache)?;
    }
    Ok(())
}

/// An error of an evaluation by a user, with a hint if root would not have had the error.
fn explained(error: Error) -> Error {
    let text = format!("{error:#}");
    let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if has(&LACKS_DAEMON) {
        events::with_hint(error, "The user comin-eval evaluates through the Nix daemon. The daemon must run, and nix.settings.allowed-users must include this user. To evaluate as root, set services.comin.evaluateAsRoot = true")
    } else if has(&LACKS_RIGHTS) {
        events::with_hint(error, "The user comin-eval evaluates, and has no files or keys of root. If the configuration needs them, set services.comin.evaluateAsRoot = true")
    } else {
        error
    }
}

impl User {
    /// Hands the credentials of all remotes to a user who evaluates a repository of root's.
    ///
    /// # Errors
    /// The user cannot enter the repository, or the credentials cannot be copied.
    pub fn new(
        owner: Owner,
        settings: &Settings,
        folder: &Path,
        remotes: &[Remote],
        repository: &Path,
    ) -> Result<Self> {
        check_reach(owner, repository)?;
        let failed = "Failed to hand the credentials to the user who evaluates";
        let files = remotes.iter().flat_map(|remote| remote.url.files());
        let mut files = credential_file::copies(files);
        // Nix and git refuse a repository that somebody else owns.
        let safe = |path: PathBuf| format!("\tdirectory = {:?}\n", path.display().to_string());
        let safe = [repository.to_path_buf(), repository.join(".git")].map(safe);
        files.push((
            GIT_CONFIG.to_string(),
            format!("[safe]\n{}", safe.concat()).into(),
        ));
        let system = env::var_os("NIX_CONF_DIR");
        let system = system.map_or_else(|| PathBuf::from("/etc/nix"), PathBuf::from);
        let netrc = settings.get("netrc-file").and_then(Value::as_str);
        let copied = [
            (REGISTRY, Some(system.join(REGISTRY))),
            (NETRC, netrc.map(PathBuf::from)),
        ];
        for (name, file) in copied {
            let content = file.and_then(|file| fs::read(file).ok());
            files.extend(content.map(|content| (name.to_string(), content)));
        }
        let tokens = access_tokens(settings.get("access-tokens"));
        let home = hand_over(owner, folder, |home| {
            // As settings of the system: the daemon is told those of a user, and warns that they have no effect.
            let (system, netrc) = (system.join(NIX_CONF), home.join(NETRC));
            let (system, netrc) = (system.display(), netrc.display());
            let conf = format!("!include {system}\n{tokens}netrc-file = {netrc}\n");
            files.push((NIX_CONF.to_string(), conf.into()));
            files
        });
        let home = home.context(failed)?;
        Ok(Self { owner, home })
    }

    /// Where the user finds the copies of credentials.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A Nix of the user's, with nothing of root's.
    fn isolated(&self, nix: &Command) -> Command {
        let home = self.home();
        let mut isolated = self.owner.command(nix.get_program(), false);
        isolated
            .args(nix.get_args())
            // A path by way of the working folder would lead to the copies.
            .current_dir("/")
            .env("NIX_REMOTE", "daemon")
            .envs(env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_kept)))
            .env("HOME", home)
            .env("NIX_CONF_DIR", home)
            .env("NIX_USER_CONF_FILES", "")
            .env(credential_file::FOLDER, home);
        for (name, value) in nix.get_envs() {
            match value {
                Some(value) => isolated.env(name, value),
                None => isolated.env_remove(name),
            };
        }
        isolated
    }
}

/// Whether a user can enter a repository. A folder above it may be closed to everybody else.
fn check_reach(owner: Owner, repository: &Path) -> Result<()> {
    let _owner = AsOwner::take(owner)?;
    fs::metadata(repository.join("HEAD")).map(drop).with_context(|| {
        format!(
            "The user comin-eval evaluates, and cannot enter {}. Open the directories above it to this user. \
             For comin plan, you can also set TMPDIR to another directory, such as /tmp",
            repository.display()
        )
    })
}

/// Whether a variable is for the user as well, because the owner of the machine tells Nix or its git something by it.
fn is_kept(name: &str) -> bool {
    const BEGINNINGS: [&str; 5] = [
        "NIX_",
        "GIT_SSH_COMMAND",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_KEY_",
        "GIT_CONFIG_VALUE_",
    ];
    BEGINNINGS
        .iter()
        .any(|beginning| name.starts_with(beginning))
}

/// The tokens that Nix shows to the hosts of flakes, as a file of settings has them.
fn access_tokens(setting: Option<&Value>) -> String {
    let tokens = setting.and_then(Value::as_object).into_iter().flatten();
    let tokens = tokens.filter_map(|(host, token)| Some(format!("{host}={}", token.as_str()?)));
    let tokens: Vec<String> = tokens.collect();
    format!("access-tokens = {}\n", tokens.join(" "))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::ensure;

    use super::*;

    #[test]
    fn nix_that_fails_with_an_empty_cache_runs_once_more() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let evaluator = Evaluator {
            git: Vec::new(),
            user: None,
            cache: Some(cache.clone()),
        };
        let runs = Cell::new(0);
        let ended = evaluator.run(Command::new("nix"), |_| {
            runs.set(runs.get() + 1);
            ensure!(runs.get() > 1, "cannot open {}", cache.display());
            Ok(())
        });
        assert_eq!(
            (ended.map_err(|it| format!("{it:#}")), runs.get()),
            (Ok(()), 2)
        );
    }

    #[test]
    fn user_gets_the_access_tokens_of_root_and_few_of_the_variables() {
        let tokens = serde_json::json!({"a": "1", "b/c": "2"});
        let settings = access_tokens(Some(&tokens));
        assert_eq!(settings, "access-tokens = a=1 b/c=2\n");
        for name in ["NIX_PATH", "GIT_CONFIG_KEY_0"] {
            assert!(is_kept(name), "{name}");
        }
        for name in ["HOME", "SSH_AUTH_SOCK", "GIT_DIR", "AWS_SECRET_ACCESS_KEY"] {
            assert!(!is_kept(name), "{name}");
        }
    }
}
