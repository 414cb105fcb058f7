//! Indexes and rows whose numbers were damaged are made right again from what has a checksum, and whatever is lacking is told.
//!
//! ```text
//! start:   sums of the indexes != sums that are kept -> REINDEX from the table's rows -> as kept: nothing is missing
//!                                                                                  |-> still not: told
//!                                                                                  `-> unlike the rows: set aside
//! reading: a row's numbers != its segment's header   -> left out and named; the row gets the header's numbers afterwards
//! ```

use super::{
    Segments,
    schema::{CACHE_KIB, ROOT_COUNT, ROOT_FIRST},
    sums::{Along, SUMS_KEY, Sums},
};
use crate::disk::{DiskLoss, directory::DATABASE};
use holdfast_core::{ledger::Reason, spill::SegmentHead, store::stored::SegmentMeta};
use rusqlite::{Connection, OptionalExtension, ffi, params};

/// Rows that wait to be made right. Those beyond are met again.
const ROWS_MAX: usize = 32;
/// A disk with more room than this beside what was put is not full.
const FREE_BYTES_MIN: u64 = 4 << 20;
/// SQLite's cache while it sorts.
const SORT_KIB: i64 = 128;

/// What the database says of its own indexes.
enum Known {
    /// From before there were sums.
    Nothing,
    Damaged,
    Sums(Sums),
}

impl Segments {
    /// Compares the indexes with their sums, and makes those anew that differ.
    ///
    /// # Errors
    ///
    /// SQLite cannot read the database, or what it reads makes no sense.
    pub(super) fn check_indexes(&mut self) -> rusqlite::Result<()> {
        let (found, bounds) = Sums::read(&self.connection, Along::Indexes)?;
        self.bounds = bounds;
        match self.known_sums()? {
            Known::Nothing => self.set_sums(found),
            Known::Damaged => {
                self.tell(format!("{DATABASE}: the sums of its indexes are damaged and were taken anew"));
                self.set_sums(found);
            }
            Known::Sums(known) if known == found => self.set_sums(found),
            Known::Sums(known) => self.mend_indexes(known, found)?,
        }
        Ok(())
    }

    /// Compares the indexes with their sums and mends nothing; what differs is said in the log.
    pub(super) fn look_at_indexes(&mut self) -> rusqlite::Result<()> {
        let (found, bounds) = Sums::read(&self.connection, Along::Indexes)?;
        self.bounds = bounds;
        let damaged: Vec<&str> = match self.known_sums()? {
            Known::Nothing => Vec::new(),
            Known::Damaged => vec!["the sums"],
            Known::Sums(known) => found.differing(&known).iter().map(|index| index.name).collect(),
        };
        if !damaged.is_empty() {
            let (path, names) = (self.path.display(), damaged.join(", "));
            log::warn!(
                "{path}: {names} damaged; what is read may be lacking. A start of the daemon mends what can be mended"
            );
        }
        Ok(())
    }

    /// As of the last commit.
    fn set_sums(&mut self, sums: Sums) {
        (self.sums, self.sums_committed) = (sums, sums);
    }

    fn known_sums(&self) -> rusqlite::Result<Known> {
        let sql = "SELECT value FROM state WHERE key = ?1";
        let bytes: Option<Vec<u8>> = self.connection.query_row(sql, [SUMS_KEY], |row| row.get(0)).optional()?;
        Ok(match bytes.map(|bytes| Sums::decode(&bytes)) {
            None => Known::Nothing,
            Some(None) => Known::Damaged,
            Some(Some(sums)) => Known::Sums(sums),
        })
    }

    /// Puts the sums into the open transaction and ends it.
    pub(super) fn end_transaction(&mut self) -> rusqlite::Result<()> {
        if self.sums != self.sums_committed {
            put_sums(&self.connection, &self.sums)?;
        }
        self.connection.execute_batch("COMMIT")?;
        self.sums_committed = self.sums;
        Ok(())
    }

    fn mend_indexes(&mut self, known: Sums, found: Sums) -> rusqlite::Result<()> {
        check_roots(&self.connection)?;
        let names: Vec<&str> = found.differing(&known).iter().map(|index| index.name).collect();
        let names = names.join(", ");
        match self.reindex(&names) {
            Err(error) if super::is_damage(&error) => return Err(error),
            Err(error) => {
                // The kept sums stay, so that the next start tries again.
                self.tell(format!("{DATABASE}: {names} damaged, and cannot be made anew now ({error}); restart with free space for temporary files, some megabytes in TMPDIR"));
                self.set_sums(known);
                return Ok(());
            }
            Ok(()) => {}
        }
        let (again, bounds) = Sums::read(&self.connection, Along::Indexes)?;
        if again != Sums::read(&self.connection, Along::Tables)?.0 {
            return Err(damaged("its indexes are unlike its tables"));
        }
        self.bounds = bounds;
        if again == known {
            self.tell(format!("{DATABASE}: {names} damaged and made anew; nothing is missing"));
        } else {
            let lacking: Vec<&str> = again.differing(&known).iter().map(|index| index.name).collect();
            self.tell(format!(
                "{DATABASE}: what {} told is not what was put: {} segments are there of {}",
                lacking.join(", "),
                again.segment_count,
                known.segment_count
            ));
            put_sums(&self.connection, &again)?;
        }
        self.set_sums(again);
        Ok(())
    }

    /// In bounded memory: SQLite sorts as much at a time as its cache may take, in its heap, and keeps the rest in temporary
    /// files meanwhile.
    fn reindex(&self, names: &str) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "cache_size", -SORT_KIB)?;
        self.connection.pragma_update(None, "temp_store", "FILE")?;
        let work = || {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            for name in names.split(", ") {
                self.connection.execute_batch(&format!("REINDEX {name}"))?;
            }
            self.connection.execute_batch("COMMIT")
        };
        let result = work();
        if result.is_err() && !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        self.connection.pragma_update(None, "temp_store", "MEMORY")?;
        self.connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        result
    }

    /// A reader has met a row that says other things than its segment's header.
    pub(super) fn row_is_damaged(&self, sequence: i64) {
        let mut rows = self.rows_damaged.borrow_mut();
        if rows.len() < ROWS_MAX && !rows.contains(&sequence) {
            rows.push(sequence);
        }
    }

    /// Whether there are rows to be made right.
    pub fn has_damaged_rows(&self) -> bool {
        !self.rows_damaged.borrow().is_empty()
    }

    /// Gives rows that readers met the numbers of their segments' headers.
    pub fn mend_rows(&mut self) {
        for sequence in self.rows_damaged.take() {
            match self.mend_row(sequence) {
                Ok(false) => {}
                Ok(true) => {
                    self.tell(format!("{DATABASE}: segment {sequence} had wrong numbers and has its own again"))
                }
                Err(error) => {
                    log::error!(
                        "{}: segment {sequence} has wrong numbers, which cannot be mended: {error}",
                        self.path.display()
                    );
                    self.is_damaged.set(self.is_damaged.get() || super::is_damage(&error));
                }
            }
        }
    }

    /// Gives a row the numbers of its segment's header, if it has others. What the indexes have was right: they have sums.
    pub(super) fn mend_row(&self, sequence: i64) -> rusqlite::Result<bool> {
        let Some((meta, head)) = self.row_and_head(sequence)? else { return Ok(false) };
        if is_of(&meta, &head) {
            return Ok(false);
        }
        // SQLite looks for the damaged numbers' entries, which are not there; this lets it pass them over. Those of the
        // right ones are there and are put in their own place.
        self.connection.pragma_update(None, "writable_schema", true)?;
        let written = self
            .connection
            .prepare_cached(
                "UPDATE segments SET timeline = ?2, layout = ?3, row_from = ?4, row_count = ?5, column_from = ?6, \
                 column_count = ?7, t_min = ?8, t_max = ?9 WHERE sequence = ?1",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    sequence,
                    head.timeline.0 as i64,
                    head.layout as i64,
                    head.row_from as i64,
                    head.row_count,
                    head.column_from,
                    head.column_count,
                    head.t_min_ms,
                    head.t_max_ms
                ])
            });
        self.connection.pragma_update(None, "writable_schema", false)?;
        written.map(|_| true)
    }

    /// Whether a row that has a new segment's sequence is there by a flipped bit in its number: no index has it.
    pub(super) fn is_row_unknown(&self, sequence: i64) -> bool {
        let sql = "SELECT count(*) FROM segments INDEXED BY segments_by_end \
                   WHERE t_max = (SELECT t_max FROM segments NOT INDEXED WHERE sequence = ?1) AND sequence = ?1";
        matches!(self.connection.query_row(sql, [sequence], |row| row.get(0)), Ok(0_i64))
    }

    /// SQLite says that the disk is full also where a flipped bit leads it beyond the last page that the quota allows. Looked
    /// at only when the disk has room: it reads all of the file.
    pub(super) fn is_full_by_damage(&self) -> bool {
        let free_bytes = rustix::fs::statvfs(&self.path).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        let has_room = free_bytes > self.transaction.put_bytes + FREE_BYTES_MIN;
        let words = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        has_room
            && match self.connection.query_row("PRAGMA quick_check(1)", [], words) {
                Ok(words) => words != "ok",
                Err(error) => super::is_damage(&error),
            }
    }

    /// Told to whoever takes losses, and to the log.
    pub(super) fn tell(&mut self, subject: String) {
        log::error!("{subject}");
        self.losses.push(DiskLoss { reason: Reason::Damage, subject, span_ms: None, samples: 0 });
    }
}

/// Whether a row has the numbers of its segment's header.
pub fn is_of(meta: &SegmentMeta, head: &SegmentHead) -> bool {
    let of_head = SegmentMeta {
        sequence: meta.sequence,
        timeline: head.timeline,
        layout: head.layout,
        row_from: head.row_from,
        row_count: head.row_count,
        column_from: head.column_from,
        column_count: head.column_count,
        t_min_ms: head.t_min_ms,
        t_max_ms: head.t_max_ms,
    };
    *meta == of_head
}

/// In place: the row is made with the tables, so that it lies on a page that the spill's state has in every transaction.
pub fn put_sums(connection: &Connection, sums: &Sums) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO state (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )?
        .execute(params![SUMS_KEY, sums.encode()])?;
    Ok(())
}

/// An index made anew on another one's page would take that one's entries.
fn check_roots(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT count(DISTINCT rootpage), min(rootpage), max(rootpage) FROM sqlite_schema WHERE rootpage <> 0";
    let roots: (i64, i64, i64) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (count, first) = (i64::from(ROOT_COUNT), i64::from(ROOT_FIRST));
    match roots == (count, first, first + count - 1) {
        true => Ok(()),
        false => Err(damaged("its schema names other pages than it was made with")),
    }
}

/// What SQLite would say if it had noticed.
pub fn damaged(what: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(what.to_owned()))
}

#[cfg(test)]
#[path = "mend_tests.rs"]
mod tests;
