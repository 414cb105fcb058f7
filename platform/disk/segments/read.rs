//! What the core may ask of stored segments, answered from the database.

use super::{Segments, mend::is_of};
use holdfast_core::{
    spill::{LayoutHead, SegmentHead, SegmentReader},
    store::{
        TimelineKey,
        stored::{LayoutPart, PartPlace, PartVisit, SegmentBytes, SegmentMeta, SegmentVisit, Stored, StoredError},
    },
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row, blob::Blob, params};

macro_rules! segments {
    ($rest:literal) => {
        concat!(
            "SELECT sequence, timeline, layout, row_from, row_count, column_from, column_count, t_min, t_max, \
             length(bytes) FROM segments ",
            $rest
        )
    };
}

// Each in the order of an index, so that nothing is sorted and nothing is kept; a test looks at the plans.
const LAYOUTS: &str = "SELECT part, layout, column_from, length(bytes), EXISTS (SELECT 1 FROM segments AS s WHERE s.layout = l.layout \
     AND s.t_max >= ?1 AND s.t_max <= ?3 AND s.t_min <= ?2 \
     AND s.column_from + s.column_count > l.column_from) \
     FROM layouts AS l WHERE (layout, column_from) > (?4, ?5) ORDER BY layout, column_from";
const LAYOUT: &str = "SELECT timeline, layout, column_from, column_count, bytes FROM layouts \
     WHERE layout = ?1 ORDER BY column_from";
const SEGMENTS: &str = segments!(
    "WHERE layout = ?1 AND t_max >= ?2 AND t_max <= ?4 AND t_min <= ?3 \
     ORDER BY t_max, t_min, column_from, column_count, sequence"
);
const SEGMENT: &str = segments!("WHERE sequence = ?1");
const ROWS: &str = segments!(
    "WHERE timeline = ?1 AND row_from > ?3 AND row_from + row_count > ?2 \
     ORDER BY row_from, column_from, row_count, sequence"
);
const SEALED: &str = segments!("WHERE sequence >= ?1 ORDER BY sequence");
pub(super) const TIMELINES: &str = "SELECT timeline, max(row_from + row_count) FROM segments GROUP BY timeline";
pub(super) const OLDEST: &str = "SELECT min(t_min) FROM segments";

impl Stored for Segments {
    fn layouts(
        &mut self,
        start_ms: i64,
        end_ms: i64,
        after: Option<PartPlace>,
        visit: &mut PartVisit<'_>,
    ) -> Result<(), StoredError> {
        let (layout, column_from) =
            after.map_or((i64::MIN, -1), |place| (place.layout as i64, i64::from(place.column_from)));
        let mut bytes = BlobBytes::new(self, "layouts");
        self.each(LAYOUTS, params![start_ms, end_ms, self.t_max_until(end_ms), layout, column_from], |row| {
            (bytes.row, bytes.length, bytes.is_open) = (row.get(0)?, row.get::<_, u32>(3)? as usize, false);
            let place = PartPlace { layout: row.get::<_, i64>(1)? as u64, column_from: row.get(2)? };
            bytes.numbers = Numbers::ToBeCompared(Expected::Part(place));
            Ok(visit(place, row.get(4)?, &mut bytes))
        })
    }

    fn layout(&mut self, layout: u64, visit: &mut dyn FnMut(LayoutPart<'_>) -> bool) -> Result<(), StoredError> {
        self.each(LAYOUT, params![layout as i64], |row| {
            let (layout, bytes) = (row.get::<_, i64>(1)? as u64, row.get_ref(4)?.as_blob()?);
            // The header has a checksum, the row has none.
            let of_row = || -> rusqlite::Result<LayoutHead> {
                let timeline = TimelineKey(row.get::<_, i64>(0)? as u64);
                Ok(LayoutHead { timeline, layout, column_from: row.get(2)?, column_count: row.get(3)? })
            };
            let head = LayoutHead::read(bytes).ok().map_or_else(of_row, Ok)?;
            let LayoutHead { timeline, column_count, .. } = head;
            // Layout and column are the index's. Another part, found by a damaged row number, is given as what it is here: damage.
            let place = PartPlace { layout, column_from: row.get(2)? };
            let bytes = if place_of(&head) == place { bytes } else { &[] };
            Ok(visit(LayoutPart { timeline, layout, column_from: place.column_from, column_count, bytes }))
        })
    }

    fn segments(
        &mut self,
        layout: u64,
        start_ms: i64,
        end_ms: i64,
        visit: &mut SegmentVisit<'_>,
    ) -> Result<(), StoredError> {
        let until = self.t_max_until(end_ms);
        self.visit_segments(SEGMENTS, params![layout as i64, start_ms, end_ms, until], visit)
    }

    fn segment(&mut self, sequence: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        self.visit_segments(SEGMENT, params![i64::try_from(sequence).unwrap_or(-1)], visit)
    }

    fn rows(&mut self, timeline: TimelineKey, row_from: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        let row_from = i64::try_from(row_from).unwrap_or(i64::MAX);
        let begin = row_from.saturating_sub(i64::from(self.bounds.row_count_max));
        self.visit_segments(ROWS, params![timeline.0 as i64, row_from, begin], visit)
    }

    fn sealed_from(&mut self, sequence: u64, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        self.visit_segments(SEALED, params![i64::try_from(sequence).unwrap_or(i64::MAX)], visit)
    }

    fn timelines(&mut self, visit: &mut dyn FnMut(TimelineKey, u64) -> bool) -> Result<(), StoredError> {
        self.each(TIMELINES, [], |row| {
            Ok(visit(TimelineKey(row.get::<_, i64>(0)? as u64), row.get::<_, i64>(1)? as u64))
        })
    }

    fn oldest_ms(&mut self) -> Result<Option<i64>, StoredError> {
        if let Some(oldest) = self.oldest {
            return Ok(oldest);
        }
        let mut oldest = None;
        self.each(OLDEST, [], |row| {
            oldest = row.get(0)?;
            Ok(false)
        })?;
        self.oldest = Some(oldest);
        Ok(oldest)
    }
}

impl Segments {
    /// No segment that begins at or before `end_ms` ends later than this.
    fn t_max_until(&self, end_ms: i64) -> i64 {
        end_ms.saturating_add(self.bounds.span_ms_max)
    }

    fn visit_segments(&self, sql: &str, params: impl Params, visit: &mut SegmentVisit<'_>) -> Result<(), StoredError> {
        let mut bytes = BlobBytes::new(self, "segments");
        self.each(sql, params, |row| {
            let (meta, length) = meta_and_length(row)?;
            bytes.row = meta.sequence as i64;
            bytes.length = length;
            bytes.is_open = false;
            bytes.numbers = Numbers::ToBeCompared(Expected::Segment(meta));
            Ok(visit(&meta, &mut bytes))
        })
    }

    /// A segment's row, and how many bytes it has.
    pub(super) fn row(&self, sequence: i64) -> rusqlite::Result<Option<(SegmentMeta, u64)>> {
        let mut statement = self.connection.prepare_cached(SEGMENT)?;
        let row = statement.query_row([sequence], meta_and_length).optional()?;
        Ok(row.map(|(meta, length)| (meta, length as u64)))
    }

    /// A segment's row and its header, if there are both.
    pub(super) fn row_and_head(&self, sequence: i64) -> rusqlite::Result<Option<(SegmentMeta, SegmentHead)>> {
        let Some((meta, length)) = self.row(sequence)? else { return Ok(None) };
        let mut bytes = BlobBytes::new(self, "segments");
        (bytes.row, bytes.length) = (sequence, length as usize);
        Ok(SegmentReader::head(&mut bytes).ok().map(|head| (meta, head)))
    }

    /// Steps through a statement's rows until `visit` says no.
    fn each(
        &self,
        sql: &str,
        params: impl Params,
        mut visit: impl FnMut(&Row<'_>) -> rusqlite::Result<bool>,
    ) -> Result<(), StoredError> {
        let step = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                if !visit(row)? {
                    break;
                }
            }
            Ok(())
        };
        step().map_err(|error| self.unreadable(&error))
    }

    /// The words for the core; the details go to the log.
    fn unreadable(&self, error: &rusqlite::Error) -> StoredError {
        log::warn!("{}: stored samples cannot be read: {error}", self.path.display());
        self.is_damaged.set(self.is_damaged.get() || super::is_damage(error));
        if super::is_damage(error) {
            return StoredError::DAMAGED;
        }
        StoredError {
            reason: match error.sqlite_error_code() {
                Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => "the disk does not answer",
                Some(ErrorCode::OutOfMemory) => "the database has used up its memory",
                _ => "the database refused to read",
            },
        }
    }
}

fn meta_and_length(row: &Row<'_>) -> rusqlite::Result<(SegmentMeta, usize)> {
    let meta = SegmentMeta {
        sequence: row.get::<_, i64>(0)? as u64,
        timeline: TimelineKey(row.get::<_, i64>(1)? as u64),
        layout: row.get::<_, i64>(2)? as u64,
        row_from: row.get::<_, i64>(3)? as u64,
        row_count: row.get(4)?,
        column_from: row.get(5)?,
        column_count: row.get(6)?,
        t_min_ms: row.get(7)?,
        t_max_ms: row.get(8)?,
    };
    Ok((meta, row.get::<_, u32>(9)? as usize))
}

fn place_of(head: &LayoutHead) -> PartPlace {
    PartPlace { layout: head.layout, column_from: head.column_from }
}

/// Whether the row's numbers, which have no checksum, are those of the header in its bytes.
enum Numbers {
    /// They are, or the header is to be read for its own sake.
    Right,
    ToBeCompared(Expected),
    Wrong,
}

#[derive(Clone, Copy)]
enum Expected {
    Segment(SegmentMeta),
    Part(PartPlace),
}

/// One segment's or layout part's blob, opened when its first byte is wanted. The handle moves from row to row, which costs less than a
/// new one.
struct BlobBytes<'c> {
    connection: &'c Connection,
    segments: &'c Segments,
    table: &'static str,
    blob: Option<Blob<'c>>,
    row: i64,
    length: usize,
    is_open: bool,
    numbers: Numbers,
}

impl<'c> BlobBytes<'c> {
    fn new(segments: &'c Segments, table: &'static str) -> Self {
        Self {
            connection: &segments.connection,
            segments,
            table,
            blob: None,
            row: 0,
            length: 0,
            is_open: false,
            numbers: Numbers::Right,
        }
    }

    fn open(&mut self) -> rusqlite::Result<()> {
        if !self.is_open {
            match &mut self.blob {
                Some(blob) => blob.reopen(self.row)?,
                none => *none = Some(self.connection.blob_open("main", self.table, "bytes", self.row, true)?),
            }
            self.is_open = true;
        }
        Ok(())
    }
}

impl BlobBytes<'_> {
    /// Before the first byte is given: another segment's samples, or other rows' or times', are not to be taken for these.
    fn compare(&mut self) -> Result<(), StoredError> {
        const WRONG: StoredError = StoredError { reason: "its numbers in the database are not those of its header" };
        let expected = match self.numbers {
            Numbers::Right => return Ok(()),
            Numbers::Wrong => return Err(WRONG),
            Numbers::ToBeCompared(expected) => expected,
        };
        self.numbers = Numbers::Right;
        // A header that cannot be read is found by who asked for the bytes.
        let is_right = match expected {
            Expected::Segment(meta) => SegmentReader::head(self).map_or(true, |head| is_of(&meta, &head)),
            Expected::Part(place) => {
                let mut header = [0; LayoutHead::BYTES];
                let read = self.length >= header.len() && self.read_at(0, &mut header).is_ok();
                !read || LayoutHead::read(&header).map_or(true, |head| place_of(&head) == place)
            }
        };
        if is_right {
            return Ok(());
        }
        self.numbers = Numbers::Wrong;
        if matches!(expected, Expected::Segment(_)) {
            self.segments.row_is_damaged(self.row);
        }
        Err(WRONG)
    }
}

impl SegmentBytes for BlobBytes<'_> {
    fn len(&self) -> usize {
        self.length
    }

    fn read_at(&mut self, offset: usize, buf: &mut [u8]) -> Result<(), StoredError> {
        if offset.checked_add(buf.len()).is_none_or(|end| end > self.length) {
            return Err(StoredError { reason: "a read past the end of the segment" });
        }
        if buf.is_empty() {
            return Ok(());
        }
        self.compare()?;
        let result = self.open().and_then(|()| match &self.blob {
            Some(blob) => blob.read_at_exact(buf, offset),
            None => Ok(()),
        });
        result.map_err(|error| {
            // A handle that failed cannot be moved any more.
            self.blob = None;
            self.is_open = false;
            self.segments.unreadable(&error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::directory::Directory;

    /// A sort would hold every row it found, and a scan of the table would read every blob's first page.
    #[test]
    fn every_question_is_answered_along_an_index() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let directory = Directory::open(directory.path()).expect("locked");
        let segments = Segments::open(&directory, 8 << 20, 4 << 20).expect("opened");
        for sql in [LAYOUTS, LAYOUT, SEGMENTS, SEGMENT, ROWS, SEALED, TIMELINES, OLDEST] {
            let mut statement = segments.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("valid");
            let parameter_count = statement.parameter_count();
            let steps: Vec<String> = statement
                .query_map(rusqlite::params_from_iter(std::iter::repeat_n(1, parameter_count)), |row| row.get(3))
                .expect("planned")
                .collect::<rusqlite::Result<_>>()
                .expect("planned");
            assert!(!steps.is_empty());
            for step in steps {
                let is_by_index =
                    step.contains("INDEX") || step.contains("INTEGER PRIMARY KEY") || step.starts_with("CORRELATED");
                assert!(is_by_index && !step.contains("TEMP B-TREE"), "{step}: {sql}");
            }
        }
    }
}
