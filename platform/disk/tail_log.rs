//! The tail logs: two preallocated files, appended to in turn, that hold what is not yet sealed into segments.
//!
//! The log of generation g is file `g mod 2`. Writing a new generation starts at the file's first byte and overwrites
//! what an older one left there in place: blocks that have been written before cost no change of file system metadata
//! at each sync. So behind the last frame lie old bytes, and the reader tells them by the generation in each frame.
//!
//! What a sync brought to the medium is not written again: the next append begins on the next page. Else each flush would
//! write its predecessor's last page once more, and a power cut then could tear what was safe already.

use super::{DiskError, directory::TAIL_LOGS};
use holdfast_core::spill::LOG_PAGE_BYTES;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fdatasync};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

pub struct TailLog {
    files: [LogFile; 2],
    current: Option<Current>,
}

struct LogFile {
    path: PathBuf,
    file: File,
    reserved_bytes: u64,
}

struct Current {
    generation: u64,
    /// Everything before this is on the medium.
    synced_bytes: u64,
    written_bytes: u64,
    /// The first append that failed since the last sync.
    failure: Option<String>,
}

impl TailLog {
    /// Opens both files, and makes them `reserved_bytes` long where they are shorter.
    pub fn open(directory: &Path, reserved_bytes: u64) -> Result<Self, DiskError> {
        let [first, second] = TAIL_LOGS.map(|name| LogFile::open(directory.join(name), reserved_bytes));
        Ok(Self { files: [first?, second?], current: None })
    }

    /// Appends; see [`super::Disk::log_append`].
    pub fn append(&mut self, generation: u64, bytes: &[u8]) {
        if self.current.as_ref().is_none_or(|current| current.generation != generation) {
            self.files[slot(generation)].cut();
            self.resume(generation, 0);
        }
        let Some(current) = &mut self.current else { return };
        if current.failure.is_some() {
            return;
        }
        let log_file = &self.files[slot(generation)];
        match log_file.file.write_all_at(bytes, current.written_bytes) {
            Ok(()) => current.written_bytes += bytes.len() as u64,
            Err(error) => current.failure = Some(log_file.failed(error).to_string()),
        }
    }

    /// Brings all appended bytes to the medium; the next append begins on the next page. After an error the file's end is where it was at the last sync: the
    /// kernel may have dropped what it could not write, so only writing it again is safe.
    pub fn sync(&mut self) -> Result<(), String> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let log_file = &self.files[slot(current.generation)];
        let result = match current.failure.take() {
            Some(failure) => Err(failure),
            None if current.written_bytes == current.synced_bytes => Ok(()),
            None => fdatasync(&log_file.file).map_err(|error| log_file.failed(error.into()).to_string()),
        };
        // Nobody reads it again. Kept in the page cache it would take memory, and where the kernel keeps pages in groups,
        // one page written would make it count, and perhaps write, the whole group. A kernel that does not care is fine.
        let _ = fadvise(&log_file.file, 0, None, Advice::DontNeed);
        match &result {
            Ok(()) => {
                current.written_bytes = current.written_bytes.next_multiple_of(LOG_PAGE_BYTES);
                current.synced_bytes = current.written_bytes;
            }
            Err(_) => current.written_bytes = current.synced_bytes,
        }
        result
    }

    /// The next append of this generation goes to `offset_bytes`.
    pub fn resume(&mut self, generation: u64, offset_bytes: u64) {
        self.current =
            Some(Current { generation, synced_bytes: offset_bytes, written_bytes: offset_bytes, failure: None });
    }

    /// Reads of the file of `generation`; 0 at its end.
    pub fn read(&self, generation: u64, offset_bytes: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let log_file = &self.files[slot(generation)];
        loop {
            match log_file.file.read_at(buf, offset_bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(|error| log_file.failed(error)),
            }
        }
    }
}

impl LogFile {
    fn open(path: PathBuf, reserved_bytes: u64) -> Result<Self, DiskError> {
        let failed = |source: io::Error| DiskError::File { path: path.clone(), source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if length < reserved_bytes {
            reserve(&file, length, reserved_bytes).map_err(failed)?;
        }
        Ok(Self { path, file, reserved_bytes })
    }

    /// A new generation begins: nothing in the file is needed any more, and what it has beyond its reserved length, from a
    /// time of other settings, is given back.
    fn cut(&self) {
        let cut = self.file.metadata().and_then(|metadata| match metadata.len() > self.reserved_bytes {
            true => self.file.set_len(self.reserved_bytes),
            false => Ok(()),
        });
        if let Err(error) = cut {
            log::warn!("{}: it is longer than it has to be and cannot be cut: {error}", self.path.display());
        }
    }

    fn failed(&self, source: io::Error) -> DiskError {
        DiskError::File { path: self.path.clone(), source }
    }
}

fn slot(generation: u64) -> usize {
    (generation % 2) as usize
}

/// Takes the space now, so that a full disk later cannot stop the log. File systems without `fallocate` get zeros
/// written, which comes to the same.
fn reserve(file: &File, length: u64, reserved_bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), length, reserved_bytes - length) {
        Ok(()) => {}
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            let zeros = [0; 4096];
            let mut offset = length;
            while offset < reserved_bytes {
                let piece = (reserved_bytes - offset).min(zeros.len() as u64) as usize;
                file.write_all_at(&zeros[..piece], offset)?;
                offset += piece as u64;
            }
        }
        Err(error) => return Err(error.into()),
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVED_BYTES: u64 = 8192;

    fn beginning(log: &TailLog, generation: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        assert_eq!(log.read(generation, 0, &mut bytes).expect("readable"), length);
        bytes
    }

    #[test]
    fn what_was_synced_is_read_back_after_reopening_and_can_be_gone_on_with() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut log = TailLog::open(directory.path(), RESERVED_BYTES).expect("opened");
        log.append(4, b"one ");
        log.append(4, b"two ");
        log.sync().expect("synced");
        drop(log);
        let mut log = TailLog::open(directory.path(), RESERVED_BYTES).expect("reopened");
        log.resume(4, 8);
        log.append(4, b"three");
        log.sync().expect("synced");
        assert_eq!(beginning(&log, 4, 14), b"one two three\0");
    }

    #[test]
    fn a_new_generation_starts_the_other_file_and_leaves_the_old_one_whole() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut log = TailLog::open(directory.path(), RESERVED_BYTES).expect("opened");
        log.append(1, b"old old old");
        log.append(2, b"new");
        log.sync().expect("synced");
        assert_eq!(beginning(&log, 1, 11), b"old old old");
        assert_eq!(beginning(&log, 2, 4), b"new\0");
        log.append(3, b"newest");
        log.sync().expect("synced");
        assert_eq!(beginning(&log, 3, 11), b"newestd old", "in place, over what was there");
    }

    #[test]
    fn both_files_are_reserved_at_once_and_the_end_is_told() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let log = TailLog::open(directory.path(), RESERVED_BYTES).expect("opened");
        for generation in [0, 1] {
            let mut buffer = [0; 16];
            assert_eq!(log.read(generation, RESERVED_BYTES - 1, &mut buffer).expect("readable"), 1);
            assert_eq!(log.read(generation, RESERVED_BYTES, &mut buffer).expect("readable"), 0);
        }
    }

    #[test]
    fn a_longer_file_is_cut_by_the_next_generation_in_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        TailLog::open(directory.path(), 4 * RESERVED_BYTES).expect("opened");
        let mut log = TailLog::open(directory.path(), RESERVED_BYTES).expect("opened");
        let lengths = |log: &TailLog| [0, 1].map(|slot| log.files[slot].file.metadata().expect("there").len());
        assert_eq!(lengths(&log), [4 * RESERVED_BYTES; 2], "what is in it may be needed");
        log.append(6, b"new");
        assert_eq!(lengths(&log), [RESERVED_BYTES, 4 * RESERVED_BYTES]);
        // Longer than it should be again, in the middle of a generation: nothing is cut.
        log.append(6, &[1; 3 * RESERVED_BYTES as usize]);
        log.append(6, b"more");
        assert_eq!(lengths(&log)[0], 3 * RESERVED_BYTES + 7);
    }

    /// A write error must surface at the sync, once, and what it concerned must be written anew in the same place.
    #[test]
    fn after_a_failed_append_the_log_goes_back_to_its_last_sync() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut log = TailLog::open(directory.path(), RESERVED_BYTES).expect("opened");
        log.append(0, b"kept");
        log.sync().expect("synced");
        // A file opened for reading only takes no bytes, as a failing medium does.
        let path = directory.path().join(TAIL_LOGS[0]);
        let broken = File::open(&path).expect("opened");
        let whole = std::mem::replace(&mut log.files[0].file, broken);
        log.append(0, b"lost");
        log.append(0, b"lost too");
        let words = log.sync().expect_err("the append failed");
        assert!(words.contains("tail-0.log"), "{words}");
        log.files[0].file = whole;
        log.append(0, b"again");
        log.sync().expect("synced");
        let bytes = beginning(&log, 0, 4096 + 6);
        assert!(bytes.starts_with(b"kept\0") && bytes.ends_with(b"again\0"), "on a page of its own");
    }
}
