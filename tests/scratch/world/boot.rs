//! Boots of a machine below a scratch root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::World;

/// The machine is in its first boot from now on.
pub fn begin(world: &World) {
    fs::create_dir_all(world.path("root/proc/sys/kernel/random")).unwrap();
    fs::write(boot_id(world), "0\n").unwrap();
}

fn boot_id(world: &World) -> PathBuf {
    world.path("root/proc/sys/kernel/random/boot_id")
}

/// Boots what the boot loader was last told to boot.
pub fn boot(world: &World) {
    let system = fs::read_to_string(world.path("root/boot/loader-default")).unwrap();
    boot_into(world, Path::new(system.trim()));
}

/// Boots a system that was chosen in the boot loader.
pub fn boot_into(world: &World, system: &Path) {
    let id: u32 = fs::read_to_string(boot_id(world))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    fs::write(boot_id(world), format!("{}\n", id + 1)).unwrap();
    fs::remove_dir_all(world.path("root/run")).unwrap();
    fs::create_dir_all(world.path("root/run")).unwrap();
    link(world, "booted-system", system);
    link(world, "current-system", system);
}

/// What a link of `/run` to a system leads to from now on.
pub fn link(world: &World, name: &str, system: &Path) {
    let link = world.path("root/run").join(name);
    let _ = fs::remove_file(&link);
    symlink(system, link).unwrap();
}
