//! Segments, layouts and small state in one SQLite file, as opaque blobs with the few numbers by which they are found.
//!
//! Rollback journal kept in place, `synchronous=FULL`: measured on flash this writes 1.1 bytes per byte stored where
//! each transaction carries a few large blobs. Nothing is held in RAM per stored segment.
//!
//! Room is made before it is needed: a segment that would pass the quota first pushes out the oldest ones, in the same
//! transaction. When the medium itself is full, the transaction fails as a whole and the oldest segments go in one of
//! their own, so that the next attempt finds free pages inside the file.

mod mend;
mod read;
mod room;
mod schema;
mod sums;

use super::{
    DiskError, DiskLoss,
    directory::{self, DATABASE, Directory, TAIL_LOGS},
};
use holdfast_core::{
    daemon::output::Put,
    ledger::Reason,
    store::stored::{LayoutPart, SegmentMeta},
    time::Rfc3339Ms,
};
use room::Dropped;
use rusqlite::{Connection, ErrorCode, OptionalExtension, ffi, params, types::ValueRef};
use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use sums::{Change, PartRow, Sums};

/// What a transaction leaves of the rollback journal; a larger one is cut back afterwards.
pub const JOURNAL_BYTES_MAX: u64 = 1 << 20;
/// The database below which a quota makes no sense.
pub const DATABASE_BYTES_MIN: u64 = 1 << 20;
/// `DropBefore` deletes at most so many segments per call, so that no call stalls the loop for long. The rest goes with
/// the next ones.
pub const EXPIRED_PER_CALL_MAX: u32 = 256;

/// A damaged database, for whoever can still read it.
const DATABASE_ASIDE: &str = "holdfast.db.damaged";
const PAGE_BYTES: u64 = 4096;
/// Pages that a transaction may need besides its blobs: index leaves, pointer maps, the freelist.
const SPARE_PAGES: u64 = 64;
/// A layout whose last segment has gone is kept while its timeline may still write: the core stores a layout once.
const LAYOUT_IDLE_MIN: Duration = Duration::from_secs(7 * 24 * 3600);

pub struct Segments {
    connection: Connection,
    path: PathBuf,
    store_uuid: [u8; 16],
    pages_max: u64,
    bounds: Bounds,
    /// Of what the indexes hold: with the open transaction, and as the file has them.
    sums: Sums,
    sums_committed: Sums,
    /// Sequences of rows that say other things than their segments' headers.
    rows_damaged: RefCell<Vec<i64>>,
    /// The smallest sample timestamp, when it is known without asking.
    oldest: Option<Option<i64>>,
    /// Timelines that have written since start.
    written: HashSet<u64>,
    opened: Instant,
    transaction: Transaction,
    dropped: Dropped,
    expired: Dropped,
    /// Told to nobody yet. One for each reason at most, but for what [`Segments::tell`] told.
    losses: Vec<DiskLoss>,
    /// SQLite has met damage: nothing more is put until a new database has its place.
    is_damaged: Cell<bool>,
    heap_bytes_max: u64,
}

/// The largest stored, so that an index scan knows how far back it must begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bounds {
    row_count_max: u32,
    span_ms_max: i64,
}

/// What became of the open transaction so far.
#[derive(Debug, Default)]
struct Transaction {
    failure: Option<String>,
    full: bool,
    put_bytes: u64,
    dropped: Dropped,
    expired: Dropped,
}

impl Segments {
    /// Opens or makes the database. What is not a readable database is set aside under another name, with a log line,
    /// and an empty one is made in its place; a foreign database is an error. [`refuse_newer`] comes first.
    pub fn open(directory: &Directory, quota_bytes: u64, heap_bytes_max: u64) -> Result<Self, DiskError> {
        let path = directory.file(DATABASE);
        let mut losses = Vec::new();
        let failed = |source| DiskError::File { path: path.clone(), source };
        if schema::mend_header(&path).map_err(failed)? {
            let subject = format!("{DATABASE}: its header had a flipped bit, which was turned back");
            log::error!("{subject}");
            losses.push(DiskLoss { reason: Reason::Damage, subject, span_ms: None, samples: 0 });
        }
        let log_owner = log_owner(directory);
        let (connection, store_uuid) = match schema::open(&path, heap_bytes_max, log_owner) {
            Err(DiskError::Database { source, .. }) if is_damage(&source) => {
                let aside = set_aside(directory, &path)?;
                log::error!(
                    "{} is damaged ({source}); it was set aside as {} and history starts anew",
                    path.display(),
                    aside.display()
                );
                losses.push(set_aside_loss(&aside));
                // What memory and logs have belongs to the same store.
                schema::open(&path, heap_bytes_max, log_owner)?
            }
            result => result?,
        };
        let mut segments = Self::over(connection, path, store_uuid, quota_bytes, heap_bytes_max);
        segments.losses = losses;
        let looked_through =
            segments.probe().and_then(|()| segments.check_indexes()).and_then(|()| segments.shrink_to_quota());
        match looked_through {
            Err(source) if is_damage(&source) => segments.begin_anew(directory, quota_bytes)?,
            result => result.map_err(|source| segments.error(source))?,
        }
        Ok(segments)
    }

    /// Opens a database that is there for reading alone: nothing is mended, dropped or made.
    pub fn open_to_read(directory: &Directory) -> Result<Self, DiskError> {
        let path = directory.file(DATABASE);
        let (connection, store_uuid) = schema::open_to_read(&path)?;
        let mut segments = Self::over(connection, path, store_uuid, u64::MAX, 0);
        segments.look_at_indexes().map_err(|source| segments.error(source))?;
        Ok(segments)
    }

    fn over(
        connection: Connection,
        path: PathBuf,
        store_uuid: [u8; 16],
        quota_bytes: u64,
        heap_bytes_max: u64,
    ) -> Self {
        Self {
            connection,
            path,
            store_uuid,
            pages_max: quota_bytes / PAGE_BYTES,
            bounds: Bounds::default(),
            sums: Sums::default(),
            sums_committed: Sums::default(),
            rows_damaged: RefCell::default(),
            oldest: None,
            written: HashSet::new(),
            opened: Instant::now(),
            transaction: Transaction::default(),
            dropped: Dropped::default(),
            expired: Dropped::default(),
            losses: Vec::new(),
            is_damaged: Cell::new(false),
            heap_bytes_max,
        }
    }

    /// Reads what a start will ask for, so that damage there is met while nothing depends on it.
    fn probe(&self) -> rusqlite::Result<()> {
        let states = "SELECT key, value FROM state INDEXED BY sqlite_autoindex_state_1 WHERE key >= ''";
        for sql in [states, read::TIMELINES, read::OLDEST] {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
        }
        // As numbers: a flipped bit in a record's header makes them something else.
        let mut statement = self.connection.prepare_cached(read::TIMELINES)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let _: (i64, i64) = (row.get(0)?, row.get(1)?);
        }
        Ok(())
    }

    pub fn store_uuid(&self) -> [u8; 16] {
        self.store_uuid
    }

    /// Length of the database's file; 0 when it cannot be told.
    pub fn file_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// What was deleted for room since start.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// What was deleted because its time was over, since start.
    pub fn expired(&self) -> Dropped {
        self.expired
    }

    /// The oldest loss that nobody was told of.
    pub fn take_loss(&mut self) -> Option<DiskLoss> {
        (!self.losses.is_empty()).then(|| self.losses.remove(0))
    }

    /// Adds to the open transaction, beginning one when there is none. After a failure the rest of the transaction is
    /// ignored; [`Segments::commit`] tells.
    pub fn put(&mut self, put: Put<'_>) {
        if self.transaction.failure.is_some() {
            return;
        }
        if self.is_damaged.get() {
            self.transaction.failure = Some(format!("{}: the database is damaged", self.path.display()));
            return self.roll_back();
        }
        if let Put::Segment { bytes, .. }
        | Put::Replace { bytes, .. }
        | Put::State { bytes, .. }
        | Put::Layout(LayoutPart { bytes, .. }) = &put
        {
            self.transaction.put_bytes += bytes.len() as u64;
        }
        if let Err(error) = self.try_put(put) {
            self.fail(&error);
        }
    }

    /// Ends the transaction. Everything since the last commit is kept, or nothing of it.
    pub fn commit(&mut self) -> Result<(), String> {
        if self.transaction.failure.is_none()
            && !self.connection.is_autocommit()
            && let Err(error) = self.end_transaction()
        {
            self.fail(&PutError::Database(error));
        }
        let ended = std::mem::take(&mut self.transaction);
        let Some(failure) = ended.failure else {
            self.expired.merge(&ended.expired);
            if let Some((t_min_ms, t_max_ms)) = ended.expired.range_ms {
                log::info!(
                    "retention: {} segments ({} bytes) with samples from {} to {} were dropped",
                    ended.expired.segment_count,
                    ended.expired.bytes,
                    Rfc3339Ms(t_min_ms),
                    Rfc3339Ms(t_max_ms)
                );
                self.lose(Reason::Retention, &ended.expired);
            }
            self.account(ended.dropped, "the disk quota is reached");
            return Ok(());
        };
        self.oldest = None;
        if ended.full && self.is_full_by_damage() {
            self.is_damaged.set(true);
        } else if ended.full {
            let freed = self.free_inside(ended.put_bytes);
            self.account(freed, "the disk is full");
        }
        Err(failure)
    }

    /// Small state by name, as last put.
    pub fn state(&self, key: &str) -> Result<Option<Vec<u8>>, DiskError> {
        let mut statement =
            self.connection.prepare_cached("SELECT value FROM state WHERE key = ?1").map_err(|e| self.error(e))?;
        statement.query_row([key], |row| row.get(0)).optional().map_err(|source| self.error(source))
    }

    fn try_put(&mut self, put: Put<'_>) -> Result<(), PutError> {
        if self.connection.is_autocommit() {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        match put {
            Put::Segment { meta, bytes } => self.put_segment(&meta, bytes),
            Put::Replace { meta, bytes } => self.replace_segment(&meta, bytes),
            Put::Layout(part) => self.put_layout(&part),
            Put::State { key, bytes } => self.put_state(key, bytes),
            Put::DropBefore { t_ms } => self.drop_before(t_ms),
        }
    }

    fn put_segment(&mut self, meta: &SegmentMeta, bytes: &[u8]) -> Result<(), PutError> {
        self.make_room(bytes.len())?;
        let sequence = i64::try_from(meta.sequence).map_err(|_| PutError::Number { what: "sequence" })?;
        let row_from = i64::try_from(meta.row_from).map_err(|_| PutError::Number { what: "row number" })?;
        let put = self
            .connection
            .prepare_cached(
                "INSERT INTO segments (sequence, timeline, layout, row_from, row_count, column_from, column_count, \
                 t_min, t_max, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                sequence,
                meta.timeline.0 as i64,
                meta.layout as i64,
                row_from,
                meta.row_count,
                meta.column_from,
                meta.column_count,
                meta.t_min_ms,
                meta.t_max_ms,
                bytes
            ]);
        if let Err(error) = put {
            let is_taken = error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation);
            return Err(match is_taken && self.is_row_unknown(sequence) {
                true => mend::damaged("a row has a number that was not given").into(),
                false => error.into(),
            });
        }
        self.bounds.row_count_max = self.bounds.row_count_max.max(meta.row_count);
        self.bounds.span_ms_max = self.bounds.span_ms_max.max(meta.t_max_ms.saturating_sub(meta.t_min_ms));
        self.sums.segment(Change::Put, meta);
        if let Some(oldest) = &mut self.oldest {
            *oldest = Some(oldest.map_or(meta.t_min_ms, |known| known.min(meta.t_min_ms)));
        }
        self.written.insert(meta.timeline.0);
        Ok(())
    }

    /// The same samples in other bytes. No room is made: there are fewer of them.
    fn replace_segment(&mut self, meta: &SegmentMeta, bytes: &[u8]) -> Result<(), PutError> {
        let sequence = i64::try_from(meta.sequence).map_err(|_| PutError::Number { what: "sequence" })?;
        self.connection
            .prepare_cached("UPDATE segments SET bytes = ?2 WHERE sequence = ?1")?
            .execute(params![sequence, bytes])?;
        Ok(())
    }

    fn put_layout(&mut self, part: &LayoutPart<'_>) -> Result<(), PutError> {
        self.make_room(part.bytes.len())?;
        let before = self
            .connection
            .prepare_cached(
                "SELECT part, timeline, layout, column_from FROM layouts WHERE layout = ?1 AND column_from = ?2",
            )?
            .query_row(params![part.layout as i64, part.column_from], PartRow::read)
            .optional()?;
        let row = self
            .connection
            .prepare_cached(
                "INSERT INTO layouts (timeline, layout, column_from, column_count, bytes) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (layout, column_from) DO UPDATE SET timeline = excluded.timeline, \
                 column_count = excluded.column_count, bytes = excluded.bytes \
                 RETURNING part, timeline, layout, column_from",
            )?
            .query_row(
                params![part.timeline.0 as i64, part.layout as i64, part.column_from, part.column_count, part.bytes],
                PartRow::read,
            )?;
        if let Some(before) = before {
            self.sums.layout(Change::Gone, &before);
        }
        self.sums.layout(Change::Put, &row);
        self.written.insert(part.timeline.0);
        Ok(())
    }

    fn put_state(&mut self, key: &str, bytes: &[u8]) -> Result<(), PutError> {
        let mut before = None;
        self.connection
            .prepare_cached("SELECT value FROM state WHERE key = ?1")?
            .query_row([key], |row| {
                before = Some(state_bytes(row.get_ref(0)?).to_vec());
                Ok(())
            })
            .optional()?;
        if let Some(before) = before {
            self.sums.state(Change::Gone, key, &before);
        }
        if bytes.is_empty() {
            self.connection.prepare_cached("DELETE FROM state WHERE key = ?1")?.execute([key])?;
            return Ok(());
        }
        self.make_room(bytes.len())?;
        self.connection
            .prepare_cached(
                "INSERT INTO state (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )?
            .execute(params![key, bytes])?;
        self.sums.state(Change::Put, key, bytes);
        Ok(())
    }

    /// SQLite has met damage, at a read, a put or a commit.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.get()
    }

    /// Sets the damaged database aside and goes on with a new one of the same store. The open transaction fails. Where the
    /// disk does not let us, nothing is put until it does.
    pub fn begin_anew(&mut self, directory: &Directory, quota_bytes: u64) -> Result<(), DiskError> {
        self.roll_back();
        if self.transaction.put_bytes > 0 {
            self.transaction.failure.get_or_insert_with(|| format!("{}: the database is damaged", self.path.display()));
        }
        // Closed before its file gets another name; should the new one fail, what is put goes nowhere and says so.
        self.connection = Connection::open_in_memory().map_err(|source| self.error(source))?;
        let aside = set_aside(directory, &self.path)?;
        bound_aside(directory, quota_bytes);
        let (connection, _) = schema::open(&self.path, self.heap_bytes_max, Some(self.store_uuid))?;
        let failed = |source| DiskError::Directory { path: directory.path().to_path_buf(), source };
        let bytes = database_quota_bytes(directory, quota_bytes).map_err(failed)?.max(DATABASE_BYTES_MIN);
        self.pages_max = bytes / PAGE_BYTES;
        self.connection = connection;
        self.bounds = Bounds::default();
        (self.sums, self.sums_committed) = (Sums::default(), Sums::default());
        self.rows_damaged.take();
        self.oldest = None;
        self.connection
            .pragma_update(None, "max_page_count", self.pages_max as i64)
            .map_err(|source| self.error(source))?;
        self.is_damaged.set(false);
        log::error!(
            "{} is damaged; it was set aside as {}, and a new one begins with what memory has",
            self.path.display(),
            aside.display()
        );
        self.losses.push(set_aside_loss(&aside));
        Ok(())
    }

    fn fail(&mut self, error: &PutError) {
        if let PutError::Database(error) = error {
            self.is_damaged.set(self.is_damaged.get() || is_damage(error));
        }
        self.transaction.full = error.is_full();
        self.transaction.failure = Some(format!("{}: {error}", self.path.display()));
        self.roll_back();
    }

    /// SQLite has rolled back by itself after some errors.
    fn roll_back(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            log::error!("{}: {error}", self.path.display());
        }
        self.oldest = None;
        self.sums = self.sums_committed;
    }

    fn error(&self, source: rusqlite::Error) -> DiskError {
        self.is_damaged.set(self.is_damaged.get() || is_damage(&source));
        DiskError::Database { path: self.path.clone(), source }
    }
}

impl PartRow {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { part: row.get(0)?, timeline: row.get(1)?, layout: row.get(2)?, column_from: row.get(3)? })
    }
}

/// A value of another type is damage, and is replaced like any other.
fn state_bytes(value: ValueRef<'_>) -> &[u8] {
    value.as_bytes().unwrap_or_default()
}

#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    #[error("a {what} above 2^63 cannot be stored")]
    Number { what: &'static str },
    #[error(
        "the quota of {quota_bytes} bytes for the database is full, and no segment is left to drop; raise --storage.tsdb.retention.size"
    )]
    QuotaTooSmall { quota_bytes: u64 },
}

impl PutError {
    fn is_full(&self) -> bool {
        matches!(self, Self::Database(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }
}

/// SQLite says so; or a field is not what we wrote; or a statement means nothing to it. Ours are fixed, and transactions are begun
/// and ended only where that can be done: so what SQLite has no other code for is a schema with a flipped bit.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, SqlInputError, Utf8Error,
    };
    let primary = error.sqlite_error().map(|error| error.extended_code & 0xff);
    matches!(primary, Some(ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB | ffi::SQLITE_ERROR))
        || matches!(
            error,
            SqlInputError { .. }
                | InvalidColumnType(..)
                | IntegralValueOutOfRange(..)
                | FromSqlConversionFailure(..)
                | Utf8Error(..)
        )
}

/// The store whose rows the newer of the two logs has.
fn log_owner(directory: &Directory) -> Option<[u8; 16]> {
    let owner = |name: &&str| {
        let mut beginning = [0; 128];
        File::open(directory.file(name)).and_then(|mut file| file.read_exact(&mut beginning)).ok()?;
        holdfast_core::spill::log_owner(&beginning)
    };
    TAIL_LOGS.iter().filter_map(owner).max().map(|(_, store_uuid)| store_uuid)
}

/// What is set aside may take half of the quota, lest new history find no room.
pub fn bound_aside(directory: &Directory, quota_bytes: u64) {
    let path = directory.file(DATABASE_ASIDE);
    let Ok(metadata) = fs::metadata(&path) else { return };
    let bytes = directory::allocated_bytes(&metadata);
    if bytes > quota_bytes / 2 {
        let removed = fs::remove_file(&path);
        match removed {
            Ok(()) => log::error!("{}: {bytes} bytes are more than half of the disk quota; removed", path.display()),
            Err(error) => log::error!("{}: it takes {bytes} bytes and cannot be removed: {error}", path.display()),
        }
    }
}

/// Renames the database, with its journal, in place of one that was set aside earlier.
fn set_aside(directory: &Directory, path: &Path) -> Result<PathBuf, DiskError> {
    let failed = |source: io::Error| DiskError::File { path: path.to_path_buf(), source };
    let aside = directory.file(DATABASE_ASIDE);
    match fs::rename(path, &aside) {
        // Done by an attempt that failed later.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result.map_err(failed)?,
    }
    match fs::rename(directory.file("holdfast.db-journal"), directory.file("holdfast.db.damaged-journal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    Ok(aside)
}

/// Nobody knows what was in it.
fn set_aside_loss(aside: &Path) -> DiskLoss {
    let subject = aside.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    DiskLoss { reason: Reason::DatabaseSetAside, subject, span_ms: None, samples: 0 }
}

/// Looks at the version before anything is written beside the database.
pub fn refuse_newer(directory: &Directory) -> Result<(), DiskError> {
    schema::refuse_newer(&directory.file(DATABASE))
}

/// What the database may use of the directory's quota: all but the logs, the journal and whatever else lies there.
pub fn database_quota_bytes(directory: &Directory, quota_bytes: u64) -> io::Result<u64> {
    let own = [DATABASE, "holdfast.db-journal"]
        .iter()
        .filter_map(|name| fs::metadata(directory.file(name)).ok())
        .map(|metadata| directory::allocated_bytes(&metadata))
        .sum::<u64>();
    let others = directory.size_bytes()?.saturating_sub(own);
    Ok(quota_bytes.saturating_sub(others + JOURNAL_BYTES_MAX))
}

#[cfg(test)]
#[path = "segments/tests.rs"]
mod tests;
