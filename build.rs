//! Compresses the built-in page's files and numbers them by content, for `platform/ui/mod.rs` to embed.
//!
//! All files but `index.html` get the path `/assets/HASH/NAME`, HASH being that of all of them together, so that modules
//! import each other by relative names without being rewritten. In `index.html` the folder stands as `assets/HASH/`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

const ASSETS: &str = "platform/ui/assets";
const LEVEL: u8 = 10;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={ASSETS}");
    let out_directory = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut files = read_assets(Path::new(ASSETS));
    let hash = folder_hash(&files);

    let mut table = String::from("static PAGE_FILES: &[(&str, PageFile)] = &[\n");
    for (name, content) in &mut files {
        let immutable = name != "index.html";
        if !immutable {
            let text = str::from_utf8(content).expect("index.html is UTF-8");
            assert!(text.contains("assets/HASH/"), "index.html names its assets as assets/HASH/NAME");
            *content = text.replace("assets/HASH/", &format!("assets/{hash}/")).into_bytes();
        }
        let path = if immutable { format!("/assets/{hash}/{name}") } else { format!("/{name}") };
        let compressed = out_directory.join(format!("{name}.gz"));
        fs::write(&compressed, gzip(content)).expect("OUT_DIR is writable");
        writeln!(
            table,
            "    ({path:?}, PageFile {{ gzip: include_bytes!({compressed:?}), content_type: {:?}, etag: {:?}, \
             immutable: {immutable} }}),",
            content_type(name),
            format!("\"{:016x}\"", fnv1a(FNV_START, content)),
        )
        .expect("a String takes everything");
    }
    table.push_str("];\n");
    fs::write(out_directory.join("page_files.rs"), table).expect("OUT_DIR is writable");
}

/// Name and content, sorted by name so that the build is the same everywhere.
fn read_assets(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(directory)
        .expect("the page's folder exists")
        .map(|entry| {
            let entry = entry.expect("the page's folder is readable");
            let name = entry.file_name().into_string().expect("the page's file names are UTF-8");
            (name, fs::read(entry.path()).expect("the page's files are readable"))
        })
        // What editors leave beside their files.
        .filter(|(name, _)| !name.starts_with('.') && !name.ends_with('~'))
        .collect();
    files.sort();
    files
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => panic!("{name}: add its content type to build.rs"),
    }
}

fn folder_hash(files: &[(String, Vec<u8>)]) -> String {
    let hash = files.iter().filter(|(name, _)| name != "index.html").fold(FNV_START, |hash, (name, content)| {
        // The zero keeps name and content apart.
        fnv1a(fnv1a(fnv1a(hash, name.as_bytes()), &[0]), content)
    });
    format!("{hash:016x}")
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits: tells versions of our own files apart, no more is asked of it.
fn fnv1a(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// One gzip member (RFC 1952) without name and time, so that the same content gives the same bytes.
fn gzip(content: &[u8]) -> Vec<u8> {
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    member.extend(miniz_oxide::deflate::compress_to_vec(content, LEVEL));
    member.extend(crc32(content).to_le_bytes());
    let length = u32::try_from(content.len()).expect("a page's file is under 4 GiB");
    member.extend(length.to_le_bytes());
    member
}

/// CRC-32 as gzip wants it (RFC 1952, section 8), bit by bit: a few hundred kB once per build.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
