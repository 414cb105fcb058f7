//! The data directory itself: made, checked for strangers, locked, measured.
//!
//! Everything is looked at before anything is written, so that a directory of another program, or of a running
//! holdfast, is left as it was found.

use super::DiskError;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

pub const DATABASE: &str = "holdfast.db";
pub const LOCK: &str = "lock";
pub const TAIL_LOGS: [&str; 2] = ["tail-0.log", "tail-1.log"];

/// A locked data directory. The lock goes with the value, or with the process, however that ends.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory when it is missing, and takes it for this process.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let failed = |source: io::Error| DiskError::Directory { path: path.to_path_buf(), source };
        fs::create_dir_all(path).map_err(failed)?;
        refuse_strangers(path)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message; the holder may be about to write it.
                let _ = (&mut lock).take(20).read_to_string(&mut pid);
                let pid = pid.trim();
                let pid = if pid.is_empty() { "unknown".to_owned() } else { pid.to_owned() };
                return Err(DiskError::InUse { path: path.to_path_buf(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Only for a second process' message. On a full disk it may fail, and that must not keep us from starting.
        let written =
            lock.rewind().and_then(|()| lock.set_len(0)).and_then(|()| writeln!(lock, "{}", std::process::id()));
        if let Err(error) = written {
            log::warn!("{}: the process number could not be written: {error}", path.join(LOCK).display());
        }
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Brings the names of newly made files to the medium. Their contents are synced by whoever writes them.
    pub fn sync(&self) -> Result<(), DiskError> {
        let result = File::open(&self.path).and_then(|directory| directory.sync_all());
        result.map_err(|source| DiskError::Directory { path: self.path.clone(), source })
    }

    /// Space taken by all files of the directory, as allocated (a preallocated log counts in full).
    pub fn size_bytes(&self) -> io::Result<u64> {
        let mut total = 0_u64;
        for entry in fs::read_dir(&self.path)? {
            match entry?.metadata() {
                Ok(metadata) if metadata.is_file() => total += allocated_bytes(&metadata),
                Ok(_) => {}
                // SQLite's journal may go while we look.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }
}

/// What the file takes on the medium. Some file systems report no blocks; there its length counts.
pub fn allocated_bytes(metadata: &fs::Metadata) -> u64 {
    (metadata.blocks() * 512).max(metadata.len())
}

/// A directory without our database must be empty, but for what a first start that was cut short leaves behind.
fn refuse_strangers(path: &Path) -> Result<(), DiskError> {
    let failed = |source: io::Error| DiskError::Directory { path: path.to_path_buf(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    if names.iter().any(|name| name == DATABASE) {
        return Ok(());
    }
    names.sort();
    let foreign =
        |found: &str, owner| Err(DiskError::Foreign { path: path.to_path_buf(), found: found.to_owned(), owner });
    if let Some(found) = names.iter().find(|name| is_prometheus(name)) {
        return foreign(found, "a Prometheus server");
    }
    match names.iter().find(|name| !is_ours(name)) {
        Some(found) => foreign(found, "another program"),
        None => Ok(()),
    }
}

/// `lost+found` is what a file system of our own has at its top.
fn is_ours(name: &str) -> bool {
    name == LOCK || name == "lost+found" || TAIL_LOGS.contains(&name) || name.starts_with(DATABASE)
}

/// The write-ahead log, the head's chunks, the query log, or a block: a ULID of 26 characters of Crockford's base 32.
fn is_prometheus(name: &str) -> bool {
    let is_block = name.len() == 26
        && name.starts_with('0')
        && name.bytes().all(|byte| byte.is_ascii_digit() || (byte.is_ascii_uppercase() && !b"ILOU".contains(&byte)));
    matches!(name, "wal" | "wbl" | "chunks_head" | "queries.active") || is_block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(path)
            .expect("readable")
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_second_process_is_told_who_holds_the_directory() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let path = parent.path().join("deep/data");
        let first = Directory::open(&path).expect("made and locked");
        let error = Directory::open(&path).expect_err("it is held");
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        Directory::open(&path).expect("free again");
    }

    #[test]
    fn a_prometheus_directory_is_refused_and_left_as_it_was() {
        for stranger in ["wal", "chunks_head", "01HQXW5P7R8GZYFQ4T6WJ9K2AB"] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            fs::create_dir(directory.path().join(stranger)).expect("made");
            fs::write(directory.path().join("lock"), "").expect("written");
            let before = names(directory.path());
            let error = Directory::open(directory.path()).expect_err("foreign");
            let words = error.to_string();
            assert!(words.contains("Prometheus") && words.contains(stranger) && words.contains("--storage.tsdb.path"));
            assert_eq!(names(directory.path()), before);
        }
    }

    #[test]
    fn a_directory_with_unknown_files_is_refused_unless_our_database_is_there() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("thesis.tex"), "x").expect("written");
        let error = Directory::open(directory.path()).expect_err("foreign");
        assert!(error.to_string().contains("thesis.tex"), "{error}");
        assert_eq!(names(directory.path()), ["thesis.tex"]);
        fs::write(directory.path().join(DATABASE), "").expect("written");
        Directory::open(directory.path()).expect("ours, with a guest");
    }

    #[test]
    fn what_a_cut_first_start_leaves_behind_is_no_stranger() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for name in [LOCK, "tail-0.log", "holdfast.db-journal"] {
            fs::write(directory.path().join(name), "").expect("written");
        }
        Directory::open(directory.path()).expect("ours");
    }

    #[test]
    fn a_path_that_is_a_file_is_one_clear_error() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        fs::write(&path, "x").expect("written");
        let words = Directory::open(&path).expect_err("a file").to_string();
        assert!(words.starts_with(&path.display().to_string()) && words.contains("--storage.tsdb.path"), "{words}");
    }

    #[test]
    fn a_preallocated_file_counts_in_full() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let directory = Directory::open(parent.path()).expect("opened");
        let before = directory.size_bytes().expect("measured");
        fs::write(directory.file("tail-0.log"), vec![1; 100_000]).expect("written");
        assert!(directory.size_bytes().expect("measured") >= before + 100_000);
    }
}
