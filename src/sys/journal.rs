//! What is said while comin works: to the journal with severities, to a person without.

use std::borrow::Cow;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use log::Level;
use textwrap::{Options, WordSeparator, WordSplitter};

use crate::sys::terminal::{paint, width, ASIDE, BAD, NOTABLE};
use crate::sys::text::{printable, without_codes};
use crate::sys::{journald::JournalSocket, progress};

/// The target of lines that a child process printed; they are info where our own are notices.
pub const CHILD: &str = "child";

/// Starts the logger. Where the journal reads standard error, each line gets the severity of
/// sd-daemon(3). Our own `info` is a *notice* there: `LogLevelMax=notice` silences systemd's lines
/// about an idle poll, and must not silence ours.
///
/// The lines of whoever may deploy have fields there as well. All of them, and no others: between the two
/// ways the order is lost. A fetch has no attempt to tell of, and may have no socket.
pub fn start(debug: bool, may_deploy: bool) {
    let journal = reads_us();
    let socket = (journal && may_deploy).then(JournalSocket::open);
    let socket = socket.and_then(Result::ok);
    let level = if debug {
        log::LevelFilter::Debug
    } else {
        log::LevelFilter::Info
    };
    env_logger::Builder::new()
        .filter_module("comin", level)
        .filter_module(CHILD, level)
        .format(move |out, record| {
            let severity = match record.level() {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info if record.target() == CHILD => 6,
                Level::Info => 5,
                Level::Debug | Level::Trace => 7,
            };
            let text = record.args().to_string();
            let text = if record.target() == CHILD {
                printable(&text)
            } else {
                printable(&without_codes(&text)).into_owned().into()
            };
            let send = |socket: &JournalSocket| socket.send(severity, &text).is_ok();
            if socket.as_ref().is_some_and(send) {
                Ok(())
            } else if journal {
                writeln!(out, "<{severity}>{text}")
            } else {
                let text = match record.level() {
                    // As it has aligned it.
                    _ if record.target() == CHILD => paint(ASIDE, &text),
                    Level::Error => paint(BAD, &fitted(&text, width())),
                    Level::Warn => paint(NOTABLE, &fitted(&text, width())),
                    Level::Info | Level::Debug | Level::Trace => {
                        fitted(&text, width()).into_owned()
                    }
                };
                out.write_all(progress::above(&text).as_bytes())
            }
        })
        .init();
}

/// Whether the journal reads our standard error, and not a person. systemd tells in
/// `JOURNAL_STREAM` which file that is; somebody may have redirected it since.
pub fn reads_us() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream.to_str() == Some(&format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// A sentence in lines of that width, each but the first a little indented. A path or URL that is longer
/// stays in one piece, to be copied.
fn fitted(text: &str, width: Option<usize>) -> Cow<'_, str> {
    let Some(width) = width else {
        return Cow::Borrowed(text);
    };
    let options = Options::new(width)
        .subsequent_indent("  ")
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    Cow::Owned(textwrap::fill(text, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_as_wide_as_a_terminal_and_no_word_is_torn() {
        let text = "There is no configuration /etc/comin/config.json: name one with --config FILE";
        assert_eq!(fitted(text, None), text);
        assert_eq!(
            fitted(text, Some(30)),
            "There is no configuration\n  /etc/comin/config.json: name\n  one with --config FILE"
        );
        assert_eq!(
            fitted("at /nix/store/0123", Some(9)),
            "at\n  /nix/store/0123"
        );
    }
}
