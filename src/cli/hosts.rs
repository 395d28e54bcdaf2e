//! Any flake, by hand: its hosts are listed, evaluated and built as whoever asks, on any machine.

use std::path::{absolute, Path, PathBuf};

use anyhow::{ensure, Context, Result};
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};
use serde::Serialize;

use crate::deploy::context::Completion;
use crate::nix::{self, Evaluation};
use crate::report::{page::Page, target::Report};
use crate::sys::{progress, text::printable};
use crate::system;

/// What stays as it is in the name of a link.
const SAFE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The names of a flake's hosts.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct HostList(Vec<String>);

/// What became of hosts that were evaluated or built.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct SystemList(Vec<System>);

#[derive(Debug, Default, Serialize)]
struct System {
    host: String,
    derivation: Option<String>,
    out: Option<PathBuf>,
    machine_id: Option<String>,
    link: Option<PathBuf>,
    error: Option<String>,
}

/// Lists the hosts of a flake.
pub fn list(flake: &str) -> Result<HostList> {
    let hosts = progress::during("Listing the hosts", || nix::hosts(flake));
    let hosts = hosts.with_context(|| format!("Failed to list the hosts of {flake}"))?;
    Ok(HostList(hosts))
}

/// Evaluates these hosts, or each host of the flake if none is named, and with an `out_link` also builds them. If one host
/// is named, `out_link` becomes a GC root of its system, else `out_link-<host>` for each. A host that fails is reported,
/// and does not stop the others.
pub fn systems(flake: &str, hosts: &[&str], out_link: Option<&Path>) -> Result<SystemList> {
    let out_link = out_link.map(absolute).transpose();
    let out_link = out_link.context("--out-link is no path")?;
    let names = match hosts {
        [] => list(flake)?.0,
        hosts => hosts.iter().map(ToString::to_string).collect(),
    };
    ensure!(
        !names.is_empty(),
        "{flake} has no hosts: its nixosConfigurations is empty"
    );
    let count = names.len();
    let systems = (1..).zip(names).map(|(number, name)| {
        let link = out_link.as_ref().map(|link| match hosts {
            [_] => link.clone(),
            _ => link_of(link, &name),
        });
        let shown = match count {
            1 => printable(&name).into_owned(),
            count => format!("{} ({number} of {count})", printable(&name)),
        };
        let made = evaluate_and_build(flake, &name, &shown, link.as_deref());
        System::of(name, made, link)
    });
    Ok(SystemList(systems.collect()))
}

/// Evaluates a host, and with a link also builds it.
fn evaluate_and_build(
    flake: &str,
    name: &str,
    shown: &str,
    link: Option<&Path>,
) -> Result<Evaluation> {
    let evaluate = || nix::evaluate_host(flake, name);
    let evaluation = progress::during_told(&format!("Evaluating {shown}"), evaluate)
        .with_context(|| format!("Failed to evaluate {}", printable(name)))?;
    if let Some(link) = link {
        let build = || {
            nix::build(Path::new(&evaluation.derivation), link, None, None)?;
            // What is refused is not linked to.
            system::check_is_nixos(&evaluation.out)
                .inspect_err(|_| drop(std::fs::remove_file(link)))
        };
        progress::during_told(&format!("Building {shown}"), build)
            .with_context(|| format!("Failed to build {}", printable(name)))?;
    }
    Ok(evaluation)
}

/// The link to the system of one host of many; its name may be any text.
fn link_of(link: &Path, host: &str) -> PathBuf {
    let mut name = link.as_os_str().to_os_string();
    name.push("-");
    name.push(utf8_percent_encode(host, SAFE).to_string());
    name.into()
}

impl System {
    /// Reports a failure, too.
    fn of(host: String, made: Result<Evaluation>, link: Option<PathBuf>) -> Self {
        match made {
            Ok(evaluation) => Self {
                host,
                derivation: Some(evaluation.derivation),
                out: Some(evaluation.out),
                machine_id: evaluation.machine_id,
                link,
                error: None,
            },
            Err(error) => {
                log::error!("{error:#}");
                Self {
                    host,
                    error: Some(format!("{error:#}")),
                    ..Self::default()
                }
            }
        }
    }

    /// Its lines; `None` if it has failed.
    fn text(&self) -> Option<String> {
        let (derivation, out) = (self.derivation.as_ref()?, self.out.as_ref()?);
        let mut lines = vec![
            printable(&self.host).into_owned(),
            format!("  derivation  {}", printable(derivation)),
            format!("  output      {}", out.display()),
        ];
        let machine_id = self.machine_id.iter();
        lines.extend(machine_id.map(|id| format!("  machine id  {}", printable(id))));
        let link = self.link.iter();
        lines.extend(link.map(|link| format!("  link        {}", link.display())));
        Some(lines.join("\n") + "\n")
    }
}

impl SystemList {
    /// The hosts that were made, with their systems.
    pub fn built(&self) -> impl Iterator<Item = (&str, &Path)> {
        let systems = self.0.iter();
        systems.filter_map(|system| Some((&*system.host, system.out.as_deref()?)))
    }

    /// Whether no host failed. Logs which ones failed, if there were others.
    pub fn ending(&self) -> Completion {
        let failed = self.0.iter().filter(|system| system.error.is_some());
        let failed: Vec<_> = failed.map(|system| printable(&system.host)).collect();
        let count = self.0.len();
        if !failed.is_empty() && count > 1 {
            log::error!(
                "{} of {count} hosts failed: {}",
                failed.len(),
                failed.join(", ")
            );
        }
        Completion::failed_if(!failed.is_empty())
    }
}

impl Report for HostList {
    fn text(&self, _: &Page) -> String {
        let names: Vec<_> = self.0.iter().map(|name| printable(name)).collect();
        names.join("\n")
    }
}

/// The systems that there are. Failures have been logged.
impl Report for SystemList {
    fn text(&self, _: &Page) -> String {
        self.0.iter().filter_map(System::text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_lies_beside_the_others_whatever_the_host_is_called() {
        let link = |host| link_of(Path::new("/w/result"), host).display().to_string();
        assert_eq!(link("web.example"), "/w/result-web.example");
        assert_eq!(link("../a b\n"), "/w/result-..%2Fa%20b%0A");
    }
}
