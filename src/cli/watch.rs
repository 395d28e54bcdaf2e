//! The status again whenever it changes, until somebody has seen enough.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::Errno;
use signal_hook::consts::SIGTSTP;
use signal_hook::low_level::emulate_default_handler;

use crate::cli::args::Style;
use crate::cli::watch_events::{Changes, WatchEvent};
use crate::config::paths::Paths;
use crate::report::page::{Page, Tone};
use crate::report::{status::Status, target::Report};
use crate::sys::terminal::Screen;
use crate::sys::text::{printable, printable_json};

/// After this time, the whole status is read again: not all of it is in files whose changes are seen.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often times in minutes are drawn anew.
const CALM: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// Shows the status, and again whenever it changes: on a terminal in place of the one before, else below it.
///
/// # Errors
/// The first look fails, or nothing can be watched. A later look that fails is shown as what it is: in the
/// middle of a switch, the configuration may be away for a moment.
pub fn follow(look: impl Fn() -> Result<Status>, style: Style, paths: &Paths) -> Result<()> {
    let mut changes = Changes::of(paths)?;
    let mut status = look()?;
    let mut looked = Instant::now();
    let mut fault = None;
    let is_screen = io::stdout().is_terminal() && anstyle_query::term_supports_color();
    let mut view = match style {
        Style::Text if is_screen => View::Picture(Screen::enter()?),
        Style::Text | Style::Oneline | Style::Json => View::Lines(style, None),
    };
    loop {
        if changes.are_over() {
            return Ok(());
        }
        match view.show(&status, fault.as_deref()) {
            Ok(()) => {}
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error).context("Failed to write the status"),
        }
        let patience = match fault {
            Some(_) => SECOND,
            None => view.patience(&status),
        };
        let is_old = match changes.next(patience)? {
            WatchEvent::Changed => true,
            WatchEvent::Tick => fault.is_some() || looked.elapsed() >= PATIENCE,
            WatchEvent::Stop => {
                view.pause()?;
                true
            }
            WatchEvent::End => return Ok(()),
        };
        if is_old {
            match look() {
                Ok(seen) => (status, fault) = (seen, None),
                Err(error) => {
                    let seen = format!("{error:#}");
                    // A picture shows why the status is not known.
                    if fault.as_ref() != Some(&seen) && matches!(view, View::Lines(_, _)) {
                        log::warn!("{seen}");
                    }
                    fault = Some(seen);
                }
            }
            looked = Instant::now();
        }
    }
}

/// Where the status is shown.
enum View {
    /// In place of what was there before.
    Picture(Screen),
    /// Below what was there before: what that was, in the same style.
    Lines(Style, Option<String>),
}

impl View {
    fn show(&mut self, status: &Status, fault: Option<&str>) -> io::Result<()> {
        match self {
            Self::Picture(screen) => screen.show(&picture(status, fault)),
            Self::Lines(style, before) => {
                let (key, text) = lines(status, *style)?;
                if before.as_ref() == Some(&key) {
                    return Ok(());
                }
                *before = Some(key);
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes())?;
                out.flush()
            }
        }
    }

    /// How long it stays true by itself.
    fn patience(&self, status: &Status) -> Duration {
        match self {
            Self::Lines(_, _) => PATIENCE,
            Self::Picture(_) => {
                let now = Page::here();
                let later = Page {
                    now: now.now + SECOND,
                    ..now.clone()
                };
                if status.text(&now) == status.text(&later) {
                    CALM
                } else {
                    SECOND
                }
            }
        }
    }

    /// Gives the terminal to the shell until that gives it back.
    fn pause(&mut self) -> Result<()> {
        let is_picture = matches!(self, Self::Picture(_));
        if is_picture {
            *self = Self::Lines(Style::Text, None);
        }
        emulate_default_handler(SIGTSTP)?;
        if is_picture {
            *self = Self::Picture(Screen::enter()?);
        }
        Ok(())
    }
}

/// The status on a terminal of its own.
fn picture(status: &Status, fault: Option<&str>) -> String {
    let page = Page::here();
    let fault = fault.map_or(String::new(), |fault| {
        let fault = page.paint(Tone::Bad, &printable(fault));
        page.wrapped("", 2, &fault)
    });
    let help = page.paint(Tone::Aside, "Ctrl-C to leave");
    format!("{}{fault}\n{help}", status.text(&page))
}

/// The status below the one before, and what of it must have changed for that.
fn lines(status: &Status, style: Style) -> io::Result<(String, String)> {
    Ok(match style {
        Style::Oneline => {
            let line = status.oneline(&Page::here());
            (line.clone(), format!("{line}\n"))
        }
        Style::Text => {
            let text = status.text(&Page::here());
            (status.news()?.to_string(), format!("{text}\n"))
        }
        Style::Json => {
            let json = printable_json(&serde_json::to_string(status)?);
            (status.news()?.to_string(), format!("{json}\n"))
        }
    })
}

fn is_gone(error: &io::Error) -> bool {
    // The second is what a terminal says that has been closed.
    error.kind() == ErrorKind::BrokenPipe || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}
