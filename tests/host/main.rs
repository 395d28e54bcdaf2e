//! comin on whole machines with a real systemd.

#![allow(clippy::unwrap_used)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;
#[macro_use]
mod machine;

mod boot_check;
mod closures;
mod costs;
mod deployments;
mod desktop;
mod drift;
mod evaluation;
mod fetcher;
mod gates;
mod moving;
mod pages;
mod prebuilt;
mod reboot;
mod rollback;
mod sweep;
mod units;
mod watch;
