//! The accepted main is in the state and in the mirror, so that it survives the loss of either one. On the first run after
//! the Go comin, it comes from the file of that one.

use anyhow::{Error, Result};

use crate::config::paths::Paths;
use crate::git::mirror::Mirror;
use crate::model::{Commit, State};
use crate::state::go_comin;
use crate::state::store::{self, Store};

/// The state with the accepted main that a deploy would go by, without changing anything.
pub fn presumed(paths: &Paths, mirror: Option<&Mirror>) -> Result<State> {
    let mut state = store::read(paths)?;
    if state.accepted_main.is_none() {
        state.accepted_main = match Found::find(&state, mirror, paths) {
            Ok(Found::InMirror(main) | Found::InGoStore(main)) => Some(main),
            Ok(Found::Nowhere) => None,
            Ok(Found::Unusable(error)) | Err(error) => {
                log::debug!("No accepted main is known: {error:#}");
                None
            }
        };
    }
    Ok(state)
}

/// Lets the state and the mirror have the same accepted main. Returns a notice, to be logged once.
pub fn reconcile(store: &mut Store, mirror: &Mirror, paths: &Paths) -> Result<Option<String>> {
    if store.state().accepted_main.is_none() {
        match Found::find(store.state(), Some(mirror), paths)? {
            Found::InMirror(main) => {
                log::warn!(
                    "The state has no accepted main; the mirror has {}",
                    main.short()
                );
                store.accept(main)?;
            }
            Found::InGoStore(main) => {
                log::info!(
                    "The accepted main is {main}, because the Go comin deployed it; its history stays in {}",
                    paths.go_store().display()
                );
                store.accept(main)?;
            }
            Found::Nowhere => {}
            Found::Unusable(error) => {
                return Ok(Some(format!(
                    "Cannot tell what the Go comin deployed, so main is accepted even if it is older: {error:#}"
                )));
            }
        }
    }
    if let Some(accepted) = &store.state().accepted_main {
        // A mirror made anew does not have the commit before its remote has been fetched.
        if let Err(error) = mirror.keep_accepted(accepted) {
            log::debug!("The mirror cannot keep the accepted main yet: {error:#}");
        }
    }
    Ok(None)
}

/// Where an accepted main is that the state does not have.
enum Found {
    /// The state was lost.
    InMirror(Commit),
    /// This comin runs for the first time.
    InGoStore(Commit),
    /// There is none.
    Nowhere,
    /// The Go comin was here, but what it left does not tell.
    Unusable(Error),
}

impl Found {
    fn find(state: &State, mirror: Option<&Mirror>, paths: &Paths) -> Result<Self> {
        if let Some(kept) = mirror.map(Mirror::accepted).transpose()?.flatten() {
            return Ok(Self::InMirror(kept));
        }
        // Once comin has tried something itself, this is no first run any more.
        if state.latest().is_some() {
            return Ok(Self::Nowhere);
        }
        Ok(match go_comin::accepted_main(paths) {
            Ok(Some(main)) => Self::InGoStore(main),
            Ok(None) => Self::Nowhere,
            Err(error) => Self::Unusable(error),
        })
    }
}
