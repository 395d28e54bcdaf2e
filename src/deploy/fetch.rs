//! The fetch of one remote.

use std::process::Stdio;
use std::slice;
use std::time::Duration;

use anyhow::{ensure, Result};
use jiff::{SignedDuration, Timestamp};
use log::Level;

use crate::config::{paths::Paths, url::Url, Remote};
use crate::deploy::context::{Completion, Context};
use crate::deploy::observe;
use crate::git::{fetch::as_fetcher, heads, incoming::Extent, mirror::Mirror, source::Source};
use crate::state::{deploy_record::DeployRecord, fetch_record::FetchRecord, requests};
use crate::sys::{
    command, credential_file, diagnosis::explained, fs::Lock, hand_over::hand_over, journal,
    owner::Owner, signal::SignalGuard, text,
};

/// How long nothing is looked for in the mirror again after a fetch that failed: a server may break each fetch in another
/// way, and all of the mirror is read.
const MIRROR_CHECKED: SignedDuration = SignedDuration::from_hours(1);

/// How much longer than the remote's timeout a fetch takes at most, by its unit or by another process.
const GRACE: Duration = Duration::from_secs(30);

/// What a fetch that root starts as another user is given the configuration as.
const CONFIG: &str = "config.json";

/// Fetches one remote and says what changed: its heads, or whether it can be reached.
///
/// # Errors
/// The record of the fetch cannot be written. A fetch that fails is no error: it is recorded.
fn fetch_remote(ctx: &Context, remote: &Remote) -> Result<Completion> {
    let _alone = Lock::wait(&ctx.paths.remote_lock(&remote.name))?;
    let before = FetchRecord::read(&ctx.paths, remote);
    let told = before.as_ref().and_then(|before| before.error.as_deref());
    let mut checked_at = before.as_ref().and_then(|before| before.mirror_checked_at);
    let error = update_mirror(ctx, remote, before.as_ref(), &mut checked_at).err();
    let error = error.map(|error| text::printable(&explained(&format!("{error:#}"))).into_owned());
    match &error {
        // The journal is told once, and anybody else may not have heard it.
        Some(error) if told.is_none() || !journal::reads_us() => log::warn!(
            "Failed to fetch {} from {}; its branches do not count until it is back: {error}",
            remote.name,
            remote.url
        ),
        None if told.is_some() => log::info!("{} can be fetched again", remote.name),
        Some(_) | None => {}
    }
    let failed = error.is_some();
    let mut record = FetchRecord::record(remote, before.as_ref(), error);
    record.mirror_checked_at = checked_at.filter(|_| failed);
    record.write(&ctx.paths, remote)?;
    Ok(Completion::failed_if(failed))
}

/// An idle poll ends after the comparison: of a local path it has read six small files, of an HTTP server one answer.
fn update_mirror(
    ctx: &Context,
    remote: &Remote,
    before: Option<&FetchRecord>,
    checked_at: &mut Option<Timestamp>,
) -> Result<()> {
    let in_mirror = heads::known_heads(&ctx.paths, remote).ok();
    let mut source = Source::new(remote)?;
    let answered = source.ask()?;
    if answered.is_some() && answered == in_mirror {
        return Ok(());
    }
    FetchRecord::begin(remote, before)?.write(&ctx.paths, remote)?;
    let advertised = match (&remote.url, answered) {
        (Url::Local(_), Some(heads)) => heads,
        // Git finds out where the branches are. Which ones there are, it would have to be told.
        (Url::Http(_), Some(heads))
            if in_mirror.as_ref().is_some_and(|it| it.has_refs_of(&heads)) =>
        {
            heads
        }
        _ => source.list()?,
    };
    if in_mirror.as_ref() == Some(&advertised) {
        return Ok(());
    }
    let open = || Mirror::open_or_create(&ctx.paths, slice::from_ref(remote));
    let mirror = open()?;
    let fetched = mirror.fetch(&source, remote, &advertised, Extent::News);
    let fetched = fetched.or_else(|error| {
        let now = Timestamp::now();
        if checked_at.is_some_and(|at| now.duration_since(at).abs() < MIRROR_CHECKED) {
            return Err(error);
        }
        let Some(damage) = mirror.find_corruption() else {
            *checked_at = Some(now);
            log::debug!("Fetching everything, because the mirror may lack some of it: {error:#}");
            // A head may have moved meanwhile.
            let whole = |now| mirror.fetch(&source, remote, &now, Extent::Everything);
            return source.list().and_then(whole).map_err(|_| error);
        };
        log::warn!("The mirror is damaged and is made anew from the remotes: {damage:#}");
        mirror.discard()?;
        open()?.fetch(&source, remote, &advertised, Extent::News)
    })?;
    let before = in_mirror.unwrap_or_default();
    for (branch, old, new) in [
        (&remote.main, before.main, fetched.main),
        (&remote.testing, before.testing, fetched.testing),
    ] {
        let Some(branch) = branch else { continue };
        let name = format!("{}/{}", remote.name, branch.name);
        match (old, new) {
            (old, Some(new)) if old.as_ref() != Some(&new) => {
                log::info!("{name} is at {}", new.short());
            }
            (Some(_), None) => log::info!("{name} is gone"),
            (_, _) => {}
        }
    }
    Ok(())
}

/// Fetches. If this `requests_deploy`, a deploy is requested if there is something to decide.
pub fn fetch(ctx: &Context, remotes: &[&Remote], requests_deploy: bool) -> Result<Completion> {
    let ending = fetch_all(ctx, remotes)?;
    if !requests_deploy {
        return Ok(ending);
    }
    let decided = DeployRecord::read(&ctx.paths)?;
    let seen = observe::remotes(ctx);
    if decided.is_none_or(|decided| {
        decided.needs_deploy(&ctx.config, &ctx.paths, &seen, Timestamp::now())
    }) {
        requests::request_deploy(&ctx.paths)?;
    }
    Ok(ending)
}

/// Fetches. Root fetches with the rights of the user who owns the mirror. A remote that cannot be fetched keeps no other
/// from it.
pub fn fetch_all(ctx: &Context, remotes: &[&Remote]) -> Result<Completion> {
    let fetcher = Owner::other_than_root(&ctx.paths.repository())?;
    let mut ending = Completion::Failure;
    for remote in remotes {
        let ended = match fetcher {
            Some(fetcher) => fetch_as(ctx, fetcher, remote).or_else(|error| {
                let error = format!(
                    "the fetch could not be run as the user who owns the mirror: {error:#}"
                );
                log::warn!("Failed to fetch {}: {error}", remote.name);
                record_failure(&ctx.paths, remote, error)
            }),
            None => fetch_remote(ctx, remote),
        };
        match ended {
            Err(error) if remotes.len() > 1 => log::error!("{error:#}"),
            ended => {
                if ended? == Completion::Success {
                    ending = Completion::Success;
                }
            }
        }
    }
    Ok(ending)
}

/// Records that a remote could not be fetched. A fetch that is at work records itself what it finds.
pub fn record_failure(paths: &Paths, remote: &Remote, error: String) -> Result<Completion> {
    let _owner = as_fetcher(paths)?;
    if let Some(_alone) = Lock::take_if_free(&paths.remote_lock(&remote.name))? {
        let before = FetchRecord::read(paths, remote);
        FetchRecord::record(remote, before.as_ref(), Some(error)).write(paths, remote)?;
    }
    Ok(Completion::Failure)
}

/// Fetches one remote in a process of another user's, as the remote's unit does: the process is given the files that the
/// configuration names, and may read every repository on this machine if the remote is one. It may be anybody's by then:
/// it has no terminal, and what it says is printed by us.
///
/// # Errors
/// It could not be run, and has recorded nothing.
fn fetch_as(ctx: &Context, fetcher: Owner, remote: &Remote) -> Result<Completion> {
    // What is handed over goes also if a signal ends comin.
    let _signals = SignalGuard::begin()?;
    drop(as_fetcher(&ctx.paths)?);
    let mut files = credential_file::copies(remote.url.files());
    files.push((CONFIG.to_string(), std::fs::read(&ctx.own_config_file)?));
    let given = hand_over(fetcher, &ctx.paths.handed_over(), |_| files)?;
    let is_local = matches!(remote.url, Url::Local(_));
    let mut comin = fetcher.command(std::env::current_exe()?, is_local);
    if log::log_enabled!(Level::Debug) {
        comin.arg("--debug");
    }
    comin
        .arg("--config")
        .arg(given.path().join(CONFIG))
        .arg("--root")
        .arg(ctx.paths.root())
        .args(["fetch", "--without-request", remote.name.as_str()])
        .env(credential_file::FOLDER, given.path());
    // The fetch by its unit may be at work, and comes first.
    let patience = remote.timeout.map(|timeout| (timeout + GRACE) * 2);
    let answer = command::ask(&mut comin, "setpriv", Stdio::null(), patience)?;
    ensure!(answer.code <= 1, "{}", answer.stderr_words());
    let has_failed = answer.code != 0;
    let level = if has_failed { Level::Warn } else { Level::Info };
    for line in answer.stderr_lines() {
        log::log!(level, "{line}");
    }
    Ok(Completion::failed_if(has_failed))
}
