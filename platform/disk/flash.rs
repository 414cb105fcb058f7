//! A data directory on a disk: lock, tail logs and database together.

use super::{
    Disk, DiskError, DiskLoss, DiskSettings, DiskUsage,
    directory::Directory,
    segments::{self, Segments},
    tail_log::TailLog,
};
use holdfast_core::{daemon::output::Put, store::stored::Stored};
use std::time::Instant;

/// A tail log that nobody needs keeps its space for the next one when it is at most this part of the database: in a young
/// directory it would be a large part of all there is, in an old one taking it anew again and again would wear the medium.
const IDLE_LOG_PARTS: u64 = 32;

pub struct Flash {
    directory: Directory,
    log: TailLog,
    segments: Segments,
    quota_bytes: u64,
    failure_count: u64,
    stall_ms_max: u64,
}

impl Flash {
    /// Opens or makes the directory and its files. Errors say what to change; nothing is touched in a directory that
    /// is not ours, in use, or of a newer version.
    pub fn open(settings: &DiskSettings) -> Result<Self, DiskError> {
        let quota_bytes = settings.quota_bytes;
        let too_small = |quota_bytes_min| DiskError::QuotaTooSmall { quota_bytes, quota_bytes_min };
        if quota_bytes < settings.quota_bytes_min() {
            return Err(too_small(settings.quota_bytes_min()));
        }
        let directory = Directory::open(&settings.path)?;
        segments::refuse_newer(&directory)?;
        let log = TailLog::open(directory.path(), settings.log_bytes)?;
        directory.sync()?;
        segments::bound_aside(&directory, quota_bytes);
        // What the logs have not taken yet is theirs all the same.
        let quota_bytes = quota_bytes.saturating_sub(log.growth_bytes());
        let database_bytes = segments::database_quota_bytes(&directory, quota_bytes)
            .map_err(|source| DiskError::Directory { path: settings.path.clone(), source })?;
        if database_bytes < segments::DATABASE_BYTES_MIN {
            // Other files of the directory count as well.
            return Err(too_small(settings.quota_bytes + segments::DATABASE_BYTES_MIN - database_bytes));
        }
        let segments = Segments::open(&directory, database_bytes, settings.heap_bytes_max)?;
        let quota_bytes = settings.quota_bytes;
        Ok(Self { directory, log, segments, quota_bytes, failure_count: 0, stall_ms_max: 0 })
    }

    /// Rows with damaged numbers are made right; a database that SQLite has found damaged makes room for a new one.
    fn mend(&mut self) {
        if self.segments.has_damaged_rows() {
            self.segments.mend_rows();
        }
        if self.segments.is_damaged()
            && let Err(error) =
                self.segments.begin_anew(&self.directory, self.quota_bytes.saturating_sub(self.log.growth_bytes()))
        {
            log::error!("the damaged database cannot be set aside now and is tried again: {error}");
        }
    }

    fn measured(&mut self, work: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        let started = Instant::now();
        let result = work(self);
        self.stall_ms_max = self.stall_ms_max.max(started.elapsed().as_millis() as u64);
        self.failure_count += u64::from(result.is_err());
        result
    }
}

impl Disk for Flash {
    fn stored(&mut self) -> &mut dyn Stored {
        &mut self.segments
    }

    fn log_append(&mut self, generation: u64, bytes: &[u8]) {
        self.log.append(generation, bytes);
    }

    fn log_sync(&mut self) -> Result<(), String> {
        self.measured(|disk| {
            disk.log.sync()?;
            let database_bytes = disk.segments.file_bytes();
            disk.log.free_idle(database_bytes / IDLE_LOG_PARTS);
            Ok(())
        })
    }

    fn log_resume(&mut self, generation: u64, offset_bytes: u64) {
        self.log.resume(generation, offset_bytes);
    }

    fn log_read(&mut self, generation: u64, offset_bytes: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        self.log.read(generation, offset_bytes, buf)
    }

    fn put(&mut self, put: Put<'_>) {
        self.segments.put(put);
    }

    fn commit(&mut self) -> Result<(), String> {
        let result = self.measured(|disk| disk.segments.commit());
        self.mend();
        result
    }

    fn state(&mut self, key: &str) -> Result<Option<Vec<u8>>, DiskError> {
        match self.segments.state(key) {
            // The new one has nothing.
            Err(_) if self.segments.is_damaged() => {
                self.mend();
                self.segments.state(key)
            }
            result => result,
        }
    }

    fn store_uuid(&self) -> [u8; 16] {
        self.segments.store_uuid()
    }

    fn usage(&mut self) -> DiskUsage {
        self.mend();
        let dropped = self.segments.dropped();
        let disk_bytes = self.directory.size_bytes().unwrap_or_else(|error| {
            log::warn!(
                "{}: its size cannot be read: {error}; if the directory was moved or removed, what is written now ends \
                 with this process: restart it",
                self.directory.path().display()
            );
            0
        });
        DiskUsage {
            disk_bytes,
            quota_bytes: self.quota_bytes,
            dropped_segment_count: dropped.segment_count,
            dropped_bytes: dropped.bytes,
            dropped_until_ms: dropped.range_ms.map(|(_, t_max_ms)| t_max_ms),
            expired_segment_count: self.segments.expired().segment_count,
            failure_count: self.failure_count,
            stall_ms_max: self.stall_ms_max,
        }
    }

    fn take_loss(&mut self) -> Option<DiskLoss> {
        self.segments.take_loss()
    }
}
