//! The data directory: what is kept when the power goes.
//!
//! ```text
//! lock         held by the running process; a second one is refused
//! holdfast.db  SQLite: segments, layouts and small state, as opaque blobs
//! tail-0.log   append logs of what is not yet sealed, used in turn: the log of generation g is tail-(g mod 2).log
//! tail-1.log
//! ```
//!
//! [`Disk`] is the seam: [`flash::Flash`] keeps the directory, [`ram::Ram`] keeps nothing, for hosts without a disk.
//! Calls are made inline by the one loop; how long they took is in [`DiskUsage`].

pub mod directory;
pub mod flash;
pub mod for_start;
pub mod ram;
pub mod segments;
pub mod tail_log;

use holdfast_core::{
    daemon::output::Put,
    ledger::{Loss, Reason},
    store::stored::Stored,
};
use std::{io, path::PathBuf};

/// What the daemon asks of its disk. Failed writes are remembered and told once, by the sync or commit they belong to.
pub trait Disk {
    /// Stored segments and layouts, for reading. Rows put since the last commit are already visible.
    fn stored(&mut self) -> &mut dyn Stored;

    /// Appends to the tail log of `generation`. The first append of a generation starts the log file `generation mod 2`
    /// over; generations go up by one.
    fn log_append(&mut self, generation: u64, bytes: &[u8]);
    /// Brings what was appended since the last sync to the medium; the next append begins on the next page
    /// (`holdfast_core::spill::LOG_PAGE_BYTES`), so that nothing that was synced is written again. The first sync of a generation ends the need
    /// for the one before, whose bytes may be gone then. After an error none of that counts as written: the
    /// next append takes its place in the file, so the caller appends it again.
    fn log_sync(&mut self) -> Result<(), String>;
    /// Goes on with a log that a predecessor wrote: the next append of `generation` goes to `offset_bytes`.
    fn log_resume(&mut self, generation: u64, offset_bytes: u64);
    /// Reads of the log file `generation mod 2`, for recovery. The number of bytes read; 0 at the end. What lies behind
    /// the last frame of a generation is whatever an older one left there.
    fn log_read(&mut self, generation: u64, offset_bytes: u64, buf: &mut [u8]) -> Result<usize, DiskError>;

    /// Adds to the open transaction, beginning one when there is none.
    fn put(&mut self, put: Put<'_>);
    /// Ends the transaction: everything since the last commit is kept, or nothing of it.
    fn commit(&mut self) -> Result<(), String>;
    /// Small state by name, as last put.
    fn state(&mut self, key: &str) -> Result<Option<Vec<u8>>, DiskError>;
    /// Made at random with the store and kept as long as it.
    fn store_uuid(&self) -> [u8; 16];

    fn usage(&mut self) -> DiskUsage;
    /// What was dropped or set aside and not taken yet, oldest first; each was logged when it happened.
    fn take_loss(&mut self) -> Option<DiskLoss>;
}

/// Stored samples that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskLoss {
    pub reason: Reason,
    /// The file.
    pub subject: String,
    /// Smallest and largest timestamp among them.
    pub span_ms: Option<(i64, i64)>,
    /// At most so many: places of the segments where a series was absent are counted too.
    pub samples: u64,
}

impl DiskLoss {
    pub fn loss(&self) -> Loss<'_> {
        Loss::new(self.reason, &self.subject, self.samples).over(self.span_ms)
    }
}

#[derive(Clone, Debug)]
pub struct DiskSettings {
    /// `--storage.tsdb.path`; made when it is missing.
    pub path: PathBuf,
    /// Hard quota for all files of the directory together. Before it would be passed the oldest segments go.
    pub quota_bytes: u64,
    /// Space that each of the two tail logs may take.
    pub log_bytes: u64,
    /// SQLite's heap: it fails a statement rather than use more.
    pub heap_bytes_max: u64,
}

/// What the lock's file takes of the medium.
const LOCK_BYTES: u64 = 4096;

impl DiskSettings {
    /// The quota below which nothing useful can be kept: two tail logs, a rollback journal, some segments, and a page for
    /// the lock.
    pub fn quota_bytes_min(&self) -> u64 {
        2 * self.log_bytes + segments::JOURNAL_BYTES_MAX + segments::DATABASE_BYTES_MIN + LOCK_BYTES
    }
}

/// Counters since start, and what the directory holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// All files of the directory, as allocated.
    pub disk_bytes: u64,
    pub quota_bytes: u64,
    /// Segments deleted for the quota or because the medium is full, and the newest instant among them.
    pub dropped_segment_count: u64,
    pub dropped_bytes: u64,
    pub dropped_until_ms: Option<i64>,
    /// Segments deleted because their time was over (`DropBefore`).
    pub expired_segment_count: u64,
    /// Syncs and commits that failed.
    pub failure_count: u64,
    /// The longest sync or commit.
    pub stall_ms_max: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error(
        "{path}: {source}; give --storage.tsdb.path a directory that can be written, or make this one writable for the user that runs holdfast"
    )]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "{path} is in use by another holdfast process (process {pid}); stop that one, or give this one its own --storage.tsdb.path"
    )]
    InUse { path: PathBuf, pid: String },
    #[error(
        "{path} holds {found}, which is the data of {owner}, and none of holdfast's; nothing was touched. Give --storage.tsdb.path a directory of its own"
    )]
    Foreign { path: PathBuf, found: String, owner: &'static str },
    #[error(
        "{path} has format version {found}, and this holdfast knows versions up to {known}; run the newer holdfast that wrote it, or move the file away to start empty"
    )]
    NewerVersion { path: PathBuf, found: i64, known: i64 },
    #[error(
        "a disk quota of {quota_bytes} bytes is too small: {quota_bytes_min} are needed for the two tail logs, the journal and some history; raise --storage.tsdb.retention.size"
    )]
    QuotaTooSmall { quota_bytes: u64, quota_bytes_min: u64 },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Database { path: PathBuf, source: rusqlite::Error },
}
