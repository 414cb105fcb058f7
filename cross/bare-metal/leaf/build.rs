//! Lays the board's memory map where the linker looks for it.

use std::{env, fs, path::PathBuf};

fn main() {
    let boards = ["lm3s6965evb", "mps2-an386", "microbit"];
    let chosen: Vec<_> = boards
        .iter()
        .filter(|board| env::var_os(format!("CARGO_FEATURE_{}", board.to_uppercase().replace('-', "_"))).is_some())
        .collect();
    let [board] = chosen[..] else {
        panic!("choose one board: --features {}", boards.join(" or "));
    };
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let source = format!("memory/{board}.x");
    fs::copy(&source, folder.join("memory.x")).unwrap_or_else(|error| panic!("{source}: {error}"));
    println!("cargo:rustc-link-search={}", folder.display());
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rerun-if-changed={source}");
    println!("cargo:rerun-if-changed=build.rs");
}
