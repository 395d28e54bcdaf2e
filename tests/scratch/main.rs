//! comin below a scratch root, on real Git and real Nix.

#![allow(clippy::unwrap_used)]
#![allow(clippy::unnecessary_debug_formatting)] // Quotes as Nix wants them.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;
mod world;

mod boot_check;
mod closures;
mod commands;
mod confirm;
mod cycle;
mod desktop;
mod drift;
mod exporter;
mod failures;
mod fleet;
mod gates;
mod hostile;
mod http;
mod limits;
mod moving;
mod networks;
mod pages;
mod prebuilt;
mod private;
mod progress;
mod publish;
mod reboot;
mod remotes;
mod repositories;
mod retention;
mod rollback;
mod selection;
mod ssh;
mod sweep;
mod watch;
