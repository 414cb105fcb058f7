//! The tail logs: two files, appended to in turn, that hold what is not yet sealed into segments.
//!
//! The log of generation g is file `g mod 2`. Writing a new generation starts at the file's first byte and overwrites
//! what an older one left there in place: blocks that have been written before cost no change of file system metadata
//! at each sync. So behind the last frame lie old bytes, and the reader tells them by the generation in each frame.
//!
//! Files grow in steps, and space that was taken is kept for the next generation, unless the file would be a large part of a
//! young data directory: then a file whose generation nobody needs any more gives its space back.
//!
//! What a sync brought to the medium is not written again: the next append begins on the next page. Else each flush would
//! write its predecessor's last page once more, and a power cut then could tear what was safe already.

use super::{
    DiskError,
    directory::{TAIL_LOGS, allocated_bytes},
};
use holdfast_core::spill::LOG_PAGE_BYTES;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fdatasync};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// A file takes so much more space at once, so that its length does not change at each sync. Measured on ext4, a flush of three
/// pages twice a minute: 4.1 pages are written with steps of 256 KiB, 5.4 with 64 KiB, whose pieces lie apart and need an
/// extent tree, 7 where each flush takes its own. So a file begins with some, grows by little while it is short, then by half.
const FIRST_BYTES: u64 = 128 * 1024;
const STEP_BYTES: u64 = 32 * 1024;
const STEP_BYTES_MAX: u64 = 256 * 1024;
const SHORT_BYTES_MAX: u64 = 192 * 1024;

pub struct TailLog {
    files: [LogFile; 2],
    current: Option<Current>,
}

struct LogFile {
    path: PathBuf,
    file: File,
    /// A generation is closed before it would be longer.
    bytes_max: u64,
}

struct Current {
    generation: u64,
    /// Everything before this is on the medium.
    synced_bytes: u64,
    written_bytes: u64,
    /// The first append that failed since the last sync.
    failure: Option<String>,
    /// A sync of this generation, begun by this process, has worked: the one before is not needed.
    is_filled: bool,
}

impl TailLog {
    /// Opens both files, which are made where they are missing. They grow up to `bytes_max`, and by a flush that does not
    /// know its length before beyond that.
    pub fn open(directory: &Path, bytes_max: u64) -> Result<Self, DiskError> {
        let [first, second] = TAIL_LOGS.map(|name| LogFile::open(directory.join(name), bytes_max));
        Ok(Self { files: [first?, second?], current: None })
    }

    /// Appends; see [`super::Disk::log_append`].
    pub fn append(&mut self, generation: u64, bytes: &[u8]) {
        if self.current.as_ref().is_none_or(|current| current.generation != generation) {
            let log_file = &self.files[slot(generation)];
            log_file.cut(log_file.bytes_max);
            self.resume(generation, 0);
        }
        let Some(current) = &mut self.current else { return };
        if current.failure.is_some() {
            return;
        }
        let log_file = &self.files[slot(generation)];
        let end_bytes = current.written_bytes + bytes.len() as u64;
        log_file.reach(end_bytes);
        match log_file.file.write_all_at(bytes, current.written_bytes) {
            Ok(()) => current.written_bytes = end_bytes,
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

    /// Once, behind the first sync of a generation that this process began: the other file gives its space back where it is longer
    /// than `kept_bytes_max`.
    pub fn free_idle(&mut self, kept_bytes_max: u64) {
        let Some(current) = self.current.as_mut().filter(|current| !current.is_filled && current.synced_bytes > 0)
        else {
            return;
        };
        current.is_filled = true;
        let idle = &self.files[1 - slot(current.generation)];
        if idle.length_bytes() > kept_bytes_max {
            idle.cut(0);
        }
    }

    /// What the files may still take of the medium.
    pub fn growth_bytes(&self) -> u64 {
        self.files.iter().map(|log_file| log_file.bytes_max.saturating_sub(log_file.length_bytes())).sum()
    }

    /// The next append of this generation goes to `offset_bytes`.
    pub fn resume(&mut self, generation: u64, offset_bytes: u64) {
        self.current = Some(Current {
            generation,
            synced_bytes: offset_bytes,
            written_bytes: offset_bytes,
            failure: None,
            // What a predecessor wrote into it may be less than the one before has.
            is_filled: offset_bytes > 0,
        });
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
    fn open(path: PathBuf, bytes_max: u64) -> Result<Self, DiskError> {
        let failed = |source: io::Error| DiskError::File { path: path.clone(), source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        Ok(Self { path, file, bytes_max })
    }

    /// Space taken of the medium.
    fn length_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| allocated_bytes(&metadata))
    }

    /// Takes the space for what is about to be written up to here, and the rest of a step. Where that cannot be done, for want
    /// of room or because the file system knows no such thing, the space is taken by the write, which tells when there is none.
    fn reach(&self, end_bytes: u64) {
        let length_bytes = self.file.metadata().map_or(end_bytes, |metadata| metadata.len());
        if length_bytes < end_bytes {
            let step_bytes = match length_bytes {
                0 => FIRST_BYTES.min(self.bytes_max),
                1..SHORT_BYTES_MAX => STEP_BYTES,
                _ => (length_bytes / 2).min(STEP_BYTES_MAX),
            };
            let taken_bytes = end_bytes.max(length_bytes + step_bytes).next_multiple_of(STEP_BYTES) - length_bytes;
            let _ = fallocate(&self.file, FallocateFlags::empty(), length_bytes, taken_bytes);
        }
    }

    /// Nothing in the file is needed any more, and what it has beyond this length is given back.
    fn cut(&self, length_bytes: u64) {
        let cut = self.file.metadata().and_then(|metadata| match metadata.len() > length_bytes {
            true => self.file.set_len(length_bytes),
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

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: u64 = 8192;

    fn beginning(log: &TailLog, generation: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        assert_eq!(log.read(generation, 0, &mut bytes).expect("readable"), length);
        bytes
    }

    #[test]
    fn what_was_synced_is_read_back_after_reopening_and_can_be_gone_on_with() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut log = TailLog::open(directory.path(), BYTES_MAX).expect("opened");
        log.append(4, b"one ");
        log.append(4, b"two ");
        log.sync().expect("synced");
        drop(log);
        let mut log = TailLog::open(directory.path(), BYTES_MAX).expect("reopened");
        log.resume(4, 8);
        log.append(4, b"three");
        log.sync().expect("synced");
        assert_eq!(beginning(&log, 4, 14), b"one two three\0");
    }

    #[test]
    fn a_new_generation_starts_the_other_file_and_leaves_the_old_one_whole() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut log = TailLog::open(directory.path(), BYTES_MAX).expect("opened");
        log.append(1, b"old old old");
        log.append(2, b"new");
        log.sync().expect("synced");
        assert_eq!(beginning(&log, 1, 11), b"old old old");
        assert_eq!(beginning(&log, 2, 4), b"new\0");
        log.append(3, b"newest");
        log.sync().expect("synced");
        assert_eq!(beginning(&log, 3, 11), b"newestd old", "in place, over what was there");
    }

    fn lengths(log: &TailLog) -> [u64; 2] {
        [0, 1].map(|slot| log.files[slot].file.metadata().expect("there").len())
    }

    #[test]
    fn files_take_space_in_steps_and_the_end_is_told() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut log = TailLog::open(directory.path(), 4 * FIRST_BYTES).expect("opened");
        assert_eq!((lengths(&log), log.growth_bytes()), ([0, 0], 8 * FIRST_BYTES));
        log.append(1, b"x");
        assert_eq!((lengths(&log), log.growth_bytes()), ([0, FIRST_BYTES], 7 * FIRST_BYTES));
        let mut buffer = [7; 16];
        assert_eq!(log.read(1, FIRST_BYTES - 1, &mut buffer).expect("readable"), 1);
        assert_eq!(buffer[0], 0);
        assert_eq!(log.read(1, FIRST_BYTES, &mut buffer).expect("readable"), 0);
        log.append(1, &[1; FIRST_BYTES as usize - 1]);
        assert_eq!(lengths(&log), [0, FIRST_BYTES]);
        log.append(1, b"x");
        assert_eq!(lengths(&log), [0, FIRST_BYTES + STEP_BYTES]);
        log.append(1, &[1; STEP_BYTES as usize]);
        assert_eq!(lengths(&log), [0, SHORT_BYTES_MAX]);
        log.append(1, &[1; STEP_BYTES as usize]);
        assert_eq!(lengths(&log), [0, SHORT_BYTES_MAX * 3 / 2], "by half");
        log.files[1].file.set_len(4 * STEP_BYTES_MAX).expect("longer");
        log.files[1].reach(4 * STEP_BYTES_MAX + 1);
        assert_eq!(lengths(&log), [0, 5 * STEP_BYTES_MAX], "and by no more than the greatest step");
    }

    #[test]
    fn a_longer_file_is_cut_by_the_next_generation_in_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for slot in TAIL_LOGS {
            std::fs::write(directory.path().join(slot), [1; 4 * BYTES_MAX as usize]).expect("written");
        }
        let mut log = TailLog::open(directory.path(), BYTES_MAX).expect("opened");
        assert_eq!(lengths(&log), [4 * BYTES_MAX; 2], "what is in it may be needed");
        assert_eq!(log.growth_bytes(), 0);
        log.append(6, b"new");
        assert_eq!(lengths(&log), [BYTES_MAX, 4 * BYTES_MAX]);
    }

    /// The generation before is needed until the new one has been synced, and a large one is given back then.
    #[test]
    fn an_idle_file_gives_its_space_back_behind_the_first_sync_of_its_successor() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut log = TailLog::open(directory.path(), 4 * FIRST_BYTES).expect("opened");
        log.append(4, b"needed");
        log.sync().expect("synced");
        log.free_idle(0);
        log.append(5, b"the successor");
        log.free_idle(0);
        assert_eq!(lengths(&log), [FIRST_BYTES; 2], "it may be needed");
        log.sync().expect("synced");
        log.free_idle(FIRST_BYTES);
        assert_eq!(lengths(&log), [FIRST_BYTES; 2], "small enough to be kept");
        log.append(6, b"needed");
        log.sync().expect("synced");
        log.free_idle(FIRST_BYTES - 1);
        assert_eq!(lengths(&log), [FIRST_BYTES, 0]);
        // A generation that somebody else began may hold less than the one before.
        let mut log = TailLog::open(directory.path(), 4 * FIRST_BYTES).expect("reopened");
        log.resume(7, 4096);
        log.append(7, b"more");
        log.sync().expect("synced");
        log.free_idle(0);
        assert_eq!(lengths(&log), [FIRST_BYTES; 2]);
    }

    #[test]
    fn a_full_medium_fails_the_sync_and_the_other_file_goes_on() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut log = TailLog::open(directory.path(), 4 * STEP_BYTES).expect("opened");
        log.append(0, b"kept");
        log.sync().expect("synced");
        // Takes no byte, for want of space.
        log.files[1].file = OpenOptions::new().read(true).write(true).open("/dev/full").expect("opened");
        log.append(1, b"no room");
        let words = log.sync().expect_err("full");
        assert!(words.contains("tail-1.log") && words.contains("space"), "{words}");
        log.free_idle(0);
        assert_eq!(beginning(&log, 0, 5), b"kept\0", "it is still needed");
        log.append(2, b"the first one again");
        log.sync().expect("synced");
    }

    /// A write error must surface at the sync, once, and what it concerned must be written anew in the same place.
    #[test]
    fn after_a_failed_append_the_log_goes_back_to_its_last_sync() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut log = TailLog::open(directory.path(), BYTES_MAX).expect("opened");
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
