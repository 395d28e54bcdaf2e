//! Links the unwinder of GCC into the program. Rust asks for the shared one, `libgcc_s`, which asks the
//! processor for all of its features whenever a program starts: in a virtual machine, that is a twentieth of
//! a poll. Where a linker finds the shared one first, everything works all the same.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=src/build.rs");
    if env::var_os("CARGO_CFG_TARGET_ENV").is_none_or(|env| env != "gnu") {
        return Ok(());
    }
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    // A script for the linker, in place of the library: see "Implicit Linker Scripts" of ld's manual.
    fs::write(folder.join("libgcc_s.so"), "GROUP ( -lgcc_eh -lgcc )\n")?;
    println!("cargo:rustc-link-search=native={}", folder.display());
    Ok(())
}
