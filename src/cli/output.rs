//! What a command prints.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

use super::args::Output;
use crate::report::{page::Page, target::Report};
use crate::sys::text;

pub fn show(report: &impl Report, output: &Output) -> Result<()> {
    print(&if output.json {
        json(report)?
    } else {
        text(report)
    })
}

pub fn text(report: &impl Report) -> String {
    report.text(&Page::here()).trim_end().to_string()
}

pub fn json(report: &impl Report) -> Result<String> {
    let json = serde_json::to_string_pretty(report)?;
    Ok(text::printable_json(&json))
}

pub fn print(text: &str) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    match writeln!(std::io::stdout(), "{text}") {
        // The reader has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("Failed to write the answer"),
    }
}
