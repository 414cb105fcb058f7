//! Room for new segments: by the quota, on a full disk, by age. The oldest go first, counted and with their range.

use super::{
    Change, DATABASE, EXPIRED_PER_CALL_MAX, LAYOUT_IDLE_MIN, PAGE_BYTES, PartRow, PutError, SPARE_PAGES, Segments, mend,
};
use crate::disk::DiskLoss;
use holdfast_core::{ledger::Reason, time::Rfc3339Ms};
use rusqlite::{OptionalExtension, params};

/// Segments that were deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub segment_count: u64,
    pub bytes: u64,
    /// Samples at most: places where a series was absent are counted too.
    pub samples: u64,
    /// Smallest and largest sample timestamp among them.
    pub range_ms: Option<(i64, i64)>,
}

impl Segments {
    pub(super) fn drop_before(&mut self, t_ms: i64) -> Result<(), PutError> {
        for _ in 0..EXPIRED_PER_CALL_MAX {
            let expired: Option<i64> = self
                .connection
                .prepare_cached("SELECT sequence FROM segments WHERE t_max < ?1 ORDER BY t_max LIMIT 1")?
                .query_row([t_ms], |row| row.get(0))
                .optional()?;
            let Some(sequence) = expired else { break };
            let gone = self.delete(sequence)?;
            self.transaction.expired.merge(&gone);
        }
        Ok(())
    }

    /// Deletes the oldest segments until `bytes` more fit into the quota.
    pub(super) fn make_room(&mut self, bytes: usize) -> Result<(), PutError> {
        let wanted = bytes as u64 / (PAGE_BYTES - 4) + 1 + SPARE_PAGES;
        while self.used_pages()? + wanted > self.pages_max {
            let Some(sequence) = self.oldest_segment()? else {
                return Err(PutError::QuotaTooSmall { quota_bytes: self.pages_max * PAGE_BYTES });
            };
            let gone = self.delete(sequence)?;
            self.transaction.dropped.merge(&gone);
        }
        Ok(())
    }

    fn used_pages(&self) -> rusqlite::Result<u64> {
        Ok(self.pragma_u64("page_count")?.saturating_sub(self.pragma_u64("freelist_count")?))
    }

    pub(super) fn pragma_u64(&self, name: &str) -> rusqlite::Result<u64> {
        let value: i64 = self.connection.prepare_cached(&format!("PRAGMA {name}"))?.query_row([], |row| row.get(0))?;
        Ok(value.max(0) as u64)
    }

    fn oldest_segment(&self) -> rusqlite::Result<Option<i64>> {
        let mut statement =
            self.connection.prepare_cached("SELECT sequence FROM segments ORDER BY sequence LIMIT 1")?;
        statement.query_row([], |row| row.get(0)).optional()
    }

    /// Deletes a segment, and its layout when nothing needs that any more. Its row is to have the numbers by which the indexes
    /// have it, or SQLite would not find its entries there.
    fn delete(&mut self, sequence: i64) -> rusqlite::Result<Dropped> {
        if self.mend_row(sequence)? {
            self.tell(format!("{DATABASE}: segment {sequence} had wrong numbers and has gone by its own ones"));
        }
        let (meta, bytes) = self.row(sequence)?.ok_or_else(|| mend::damaged("a row is met and is not found"))?;
        self.connection.prepare_cached("DELETE FROM segments WHERE sequence = ?1")?.execute([sequence])?;
        self.sums.segment(Change::Gone, &meta);
        self.oldest = None;
        let may_write_again = self.written.contains(&meta.timeline.0) || self.opened.elapsed() < LAYOUT_IDLE_MIN;
        // The newest layout of a timeline that may write again is still the one its next segment names.
        let mut statement = self.connection.prepare_cached(
            "DELETE FROM layouts WHERE layout = ?1 \
             AND NOT EXISTS (SELECT 1 FROM segments WHERE segments.layout = ?1) \
             AND (NOT ?3 OR layout <> (SELECT newest.layout FROM layouts AS newest WHERE newest.timeline = ?2 \
             ORDER BY newest.part DESC LIMIT 1)) RETURNING part, timeline, layout, column_from",
        )?;
        let mut rows = statement.query(params![meta.layout as i64, meta.timeline.0 as i64, may_write_again])?;
        while let Some(row) = rows.next()? {
            self.sums.layout(Change::Gone, &PartRow::read(row)?);
        }
        Ok(Dropped {
            segment_count: 1,
            bytes,
            samples: u64::from(meta.row_count) * u64::from(meta.column_count),
            range_ms: Some((meta.t_min_ms, meta.t_max_ms)),
        })
    }

    /// Deletes about twice as much as could not be written, in a transaction of its own. It fits into the journal's
    /// kept space and frees pages inside the file, so it works on a full disk.
    pub(super) fn free_inside(&mut self, bytes: u64) -> Dropped {
        let mut dropped = Dropped::default();
        let mut free = || -> rusqlite::Result<()> {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            while dropped.bytes < bytes.saturating_mul(2) {
                let Some(sequence) = self.oldest_segment()? else { break };
                dropped.merge(&self.delete(sequence)?);
            }
            self.end_transaction()
        };
        match free() {
            Ok(()) => dropped,
            Err(error) => {
                log::error!("{}: no room could be made on the full disk: {error}", self.path.display());
                self.roll_back();
                Dropped::default()
            }
        }
    }

    /// After the quota was lowered: the oldest segments go, and the file is cut.
    pub(super) fn shrink_to_quota(&mut self) -> rusqlite::Result<()> {
        let mut dropped = Dropped::default();
        while self.used_pages()? + SPARE_PAGES > self.pages_max {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            let before = dropped.segment_count;
            while dropped.segment_count - before < u64::from(EXPIRED_PER_CALL_MAX)
                && self.used_pages()? + SPARE_PAGES > self.pages_max
            {
                let Some(sequence) = self.oldest_segment()? else { break };
                dropped.merge(&self.delete(sequence)?);
            }
            self.end_transaction()?;
            if dropped.segment_count == before {
                break;
            }
        }
        self.cut_file()?;
        // SQLite's own bound, in case the counting above should ever be wrong.
        self.connection.pragma_update(None, "max_page_count", self.pages_max as i64)?;
        self.account(dropped, "the disk quota is smaller than what was stored");
        Ok(())
    }

    /// Gives free pages beyond the quota back, a bounded number per transaction so that the journal stays small.
    fn cut_file(&self) -> rusqlite::Result<()> {
        let mut page_count = self.pragma_u64("page_count")?;
        while page_count > self.pages_max {
            let mut statement = self.connection.prepare_cached("PRAGMA incremental_vacuum(128)")?;
            let mut steps = statement.query([])?;
            while steps.next()?.is_some() {}
            let left = self.pragma_u64("page_count")?;
            if left >= page_count {
                break;
            }
            page_count = left;
        }
        Ok(())
    }

    /// Counts what is gone and says it with its exact range.
    pub(super) fn account(&mut self, dropped: Dropped, why: &str) {
        let Some((t_min_ms, t_max_ms)) = dropped.range_ms else { return };
        self.dropped.merge(&dropped);
        self.lose(Reason::Quota, &dropped);
        log::warn!(
            "{why}: {} oldest segments ({} bytes) with samples from {} to {} were dropped",
            dropped.segment_count,
            dropped.bytes,
            Rfc3339Ms(t_min_ms),
            Rfc3339Ms(t_max_ms)
        );
    }

    /// Keeps a loss until it is taken.
    pub(super) fn lose(&mut self, reason: Reason, gone: &Dropped) {
        match self.losses.iter_mut().find(|loss| loss.reason == reason) {
            Some(loss) => {
                let before = Dropped { samples: loss.samples, range_ms: loss.span_ms, ..Dropped::default() };
                let mut all = *gone;
                all.merge(&before);
                (loss.samples, loss.span_ms) = (all.samples, all.range_ms);
            }
            None => {
                let subject = DATABASE.to_owned();
                self.losses.push(DiskLoss { reason, subject, span_ms: gone.range_ms, samples: gone.samples });
            }
        }
    }
}

impl Dropped {
    pub(super) fn merge(&mut self, other: &Self) {
        self.segment_count += other.segment_count;
        self.bytes += other.bytes;
        self.samples += other.samples;
        self.range_ms = match (self.range_ms, other.range_ms) {
            (Some((a_min, a_max)), Some((b_min, b_max))) => Some((a_min.min(b_min), a_max.max(b_max))),
            (one, other) => one.or(other),
        };
    }
}
