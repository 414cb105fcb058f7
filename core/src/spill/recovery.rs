//! Reads a tail log back and replays it into a fresh store.
//!
//! [`Recovery`] finds the whole frames of one generation in a file, whatever a power cut or rot has done to it.
//! [`Replay`] turns them into rows. Both work in bounded memory: one frame, the newest layout of each timeline, and a
//! block of cells.

use super::{
    format::{FRAME_MAGIC, FormatError},
    frame::{FRAME_BYTES_MAX, FRAME_COLUMNS_MAX, FRAME_HEAD_BYTES, Frame, FrameHead, LOG_PAGE_BYTES},
    layout::{LayoutHead, layout_part_read},
    rows::{Block, BlockHead, History, RowsReader},
    segment::{SegmentHead, SegmentReader, SliceBytes},
};
use crate::store::{
    ColumnKind, Missing, Presence, Refused, STALE_NAN_BITS, Store, TimelineId, TimelineKey,
    stored::{Stored, StoredError},
};
use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;

/// What was found in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The newest generation of which a whole frame was found.
    pub generation: Option<u64>,
    /// Whole frames of the generation read.
    pub frames: u64,
    /// Bytes in the middle that were no frame, as so many runs, and where the first one lies in the file.
    pub damaged: u32,
    pub damaged_first: Option<Range<u64>>,
    /// Frames that are missing, told by the numbers of those that are there.
    pub frames_missing: u64,
    /// The last frame is not whole, as after a power cut; or what stands where the next one would looks like one.
    pub torn: bool,
    /// Frames that are whole but for one flipped bit in the header, and where the first one lies. They were read.
    pub mended: u32,
    pub mended_first: Option<u64>,
}

/// Finds frames in a file that comes piece by piece.
///
/// A generation ends where no whole frame of it follows. What lies behind may be zeros, or what a longer predecessor
/// wrote in the same file, or a torn frame: none of these is an error.
pub struct Recovery<'b> {
    buf: &'b mut [u8],
    start: usize,
    end: usize,
    /// Where `buf[0]` lies in the file.
    offset: u64,
    generation: Option<u64>,
    /// Where bytes began that are no frame of the generation, and whether they look like one that broke.
    broken: Option<(u64, bool)>,
    sequence_next: u32,
    /// Where the last whole frame of the generation ended in the file.
    whole_end: u64,
    report: RecoveryReport,
}

impl<'b> Recovery<'b> {
    /// Reads the frames of `generation`. With `None` no frame is given: the report then tells which generation the file
    /// holds.
    ///
    /// # Panics
    ///
    /// When `buf` is shorter than [`FRAME_BYTES_MAX`].
    pub fn new(buf: &'b mut [u8], generation: Option<u64>) -> Self {
        assert!(buf.len() >= FRAME_BYTES_MAX, "a buffer of {} bytes", buf.len());
        let report = RecoveryReport::default();
        Self { buf, start: 0, end: 0, offset: 0, generation, broken: None, sequence_next: 0, whole_end: 0, report }
    }

    /// Takes as much of `piece` as there is room for and returns how much that was. Then [`Recovery::next_frame`] is to be
    /// called until it has none.
    pub fn feed(&mut self, piece: &[u8]) -> usize {
        if piece.len() > self.buf.len() - self.end && self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.offset += self.start as u64;
            self.end -= self.start;
            self.start = 0;
        }
        let taken = piece.len().min(self.buf.len() - self.end);
        self.buf[self.end..self.end + taken].copy_from_slice(&piece[..taken]);
        self.end += taken;
        taken
    }

    /// The next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// A frame of a newer version: nothing of this file is to be used then.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FormatError> {
        while self.end - self.start >= FRAME_HEAD_BYTES {
            let at = self.start;
            let mut header = [0; FRAME_HEAD_BYTES];
            header.copy_from_slice(&self.buf[at..at + FRAME_HEAD_BYTES]);
            let head = match FrameHead::read(&header) {
                Ok(head) => head,
                Err(error @ FormatError::FromNewerVersion { .. }) => return Err(error),
                Err(error) => match self.mended(&header) {
                    Some(head) => head,
                    None => {
                        self.skip(!matches!(error, FormatError::NotThis { .. }) || self.resembles_next(&header));
                        continue;
                    }
                },
            };
            let total = FRAME_HEAD_BYTES + head.payload_bytes as usize;
            if self.end - at < total {
                return Ok(None);
            }
            let payload = at + FRAME_HEAD_BYTES..at + total;
            let whole = head.payload(&self.buf[payload.clone()]).is_ok();
            if !whole {
                self.skip(self.generation.is_none_or(|generation| generation == head.generation));
                continue;
            }
            self.report.generation = self.report.generation.max(Some(head.generation));
            if self.generation != Some(head.generation) {
                self.start += total;
                // Of another generation: the end of this one, unless more of it follows.
                self.broken = self.broken.or(self.generation.map(|_| (self.offset + at as u64, false)));
                continue;
            }
            let here = self.offset + at as u64;
            if let Some((from, _)) = self.broken.take()
                && !self.is_padding(here, head.sequence)
            {
                self.report.damaged += 1;
                self.report.damaged_first.get_or_insert(from..here);
            }
            if FrameHead::read(&header).is_err() {
                self.report.mended += 1;
                self.report.mended_first.get_or_insert(here);
            }
            self.whole_end = here + total as u64;
            self.report.frames_missing += u64::from(head.sequence.saturating_sub(self.sequence_next));
            self.sequence_next = head.sequence.wrapping_add(1);
            self.report.frames += 1;
            self.start += total;
            return head.payload(&self.buf[payload]).map(Some);
        }
        Ok(None)
    }

    /// A header with a flipped bit, where a frame has to begin: right behind the last one, or on the page behind it. What tells
    /// the generation only looks at pages.
    fn mended(&self, header: &[u8; FRAME_HEAD_BYTES]) -> Option<FrameHead> {
        let here = self.offset + self.start as u64;
        match self.generation {
            None if here.is_multiple_of(LOG_PAGE_BYTES) => FrameHead::mended(header),
            Some(generation) if self.is_next_place(here) => FrameHead::mended(header)
                .filter(|head| (head.generation, head.sequence) == (generation, self.sequence_next)),
            _ => None,
        }
    }

    /// Whether these bytes are what is left of the next frame's header.
    fn resembles_next(&self, header: &[u8; FRAME_HEAD_BYTES]) -> bool {
        self.is_next_place(self.offset + self.start as u64)
            && self.generation.is_some_and(|generation| FrameHead::resembles(header, generation, self.sequence_next))
    }

    fn is_next_place(&self, here: u64) -> bool {
        here == self.whole_end || here == self.whole_end.next_multiple_of(LOG_PAGE_BYTES)
    }

    /// Whether what lies between the last frame and the one found here is only the rest of a page.
    fn is_padding(&self, here: u64, sequence: u32) -> bool {
        sequence == self.sequence_next && here == self.whole_end.next_multiple_of(LOG_PAGE_BYTES)
    }

    /// What was found; to be called when the file is at its end.
    pub fn finish(mut self) -> RecoveryReport {
        // A header whose payload the file does not have.
        if let Some(rest) = self.buf[self.start..self.end].first_chunk::<FRAME_HEAD_BYTES>()
            && let Some(head) = FrameHead::read(rest).ok().or_else(|| self.mended(rest))
            && self.generation.is_none_or(|generation| generation == head.generation)
        {
            self.broken = Some((0, true));
        }
        self.report.torn = matches!(self.broken, Some((_, true)));
        self.report
    }

    /// Goes on to the next place where a frame may begin.
    fn skip(&mut self, looks_broken: bool) {
        let at = self.offset + self.start as u64;
        let (_, broken) = self.broken.get_or_insert((at, false));
        *broken |= looks_broken;
        let rest = &self.buf[self.start + 1..self.end];
        let magic = FRAME_MAGIC.to_le_bytes();
        let found = rest.windows(magic.len()).position(|window| *window == magic);
        // The last three bytes may be the beginning of a magic.
        let step = 1 + found.unwrap_or(rest.len().saturating_sub(magic.len() - 1));
        // The page on which the next frame may begin is not passed over: its magic may be what is damaged.
        let page = match self.generation {
            None => (at + 1).next_multiple_of(LOG_PAGE_BYTES),
            Some(_) => self.whole_end.next_multiple_of(LOG_PAGE_BYTES),
        };
        self.start +=
            page.checked_sub(at).filter(|to_page| *to_page > 0).map_or(step, |to_page| step.min(to_page as usize));
    }
}

/// The generation and the store that a log's file belongs to, by its beginning; 128 bytes are enough. `None`: no log, or
/// its first frame is damaged.
pub fn log_owner(beginning: &[u8]) -> Option<(u64, [u8; 16])> {
    let (head, rest) = beginning.split_first_chunk::<FRAME_HEAD_BYTES>()?;
    let head = FrameHead::read(head).ok()?;
    match head.payload(rest.get(..head.payload_bytes as usize)?).ok()? {
        Frame::GenerationStart(start) => Some((head.generation, start.store_uuid)),
        _ => None,
    }
}

/// The row behind a timeline's last stored one; 0 when nothing of it is stored.
pub fn rows_stored(stored: &mut dyn Stored, key: TimelineKey) -> Result<u64, StoredError> {
    let mut found = 0;
    stored.timelines(&mut |timeline, row_end| {
        if timeline == key {
            found = row_end;
        }
        timeline != key
    })?;
    Ok(found)
}

/// To be called after attaching to a predecessor's slab: what the database committed and the predecessor did not live to
/// hear of is marked as spilled, so that no row is sealed twice.
pub fn mark_stored(store: &mut Store<'_>, stored: &mut dyn Stored) -> Result<(), StoredError> {
    stored.timelines(&mut |key, row_end| {
        if let Some(timeline) = store.timeline_find(key)
            && store.rows_spilled(timeline) < row_end
        {
            store.set_rows_spilled(timeline, row_end);
        }
        true
    })
}

/// Opens a timeline so that its rows go on behind what is stored: a timeline that was forgotten in RAM would else begin
/// with row 0 again, and its rows would be taken for copies of the stored ones. Every timeline is to be opened so.
pub fn timeline_open(
    store: &mut Store<'_>,
    stored: &mut dyn Stored,
    key: TimelineKey,
) -> Result<TimelineId, TimelineOpenError> {
    let is_new = store.timeline_find(key).is_none_or(|timeline| store.rows(timeline).is_empty());
    let row_next = if is_new { rows_stored(stored, key)? } else { 0 };
    let timeline = store.timeline_open(key)?;
    store.row_next_at_least(timeline, row_next);
    Ok(timeline)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimelineOpenError {
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error("what is stored of it cannot be read: {0}")]
    Stored(StoredError),
}

impl From<StoredError> for TimelineOpenError {
    fn from(error: StoredError) -> Self {
        Self::Stored(error)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    pub rows: u64,
    pub samples: u64,
    pub states: u64,
    /// Small states that the store had no slot for.
    pub states_refused: u64,
    /// Rows that were stored, or replayed, already.
    pub rows_known: u64,
    /// Rows whose layout, or a part of the row, did not survive.
    pub rows_lost: u64,
    /// Rows and samples the store had no room for, and why the first one.
    pub rows_refused: u64,
    pub samples_refused: u64,
    pub refused_first: Option<Refused>,
    /// Whole frames of a kind that only a newer version knows.
    pub frames_newer: u64,
    /// Frames of a log that belongs to another data directory; nothing of them is used.
    pub frames_foreign: u64,
    /// Frames that match their checksums and still cannot be read.
    pub frames_unreadable: u64,
}

/// A layout part as the log gave it.
struct KeptPart {
    head: LayoutHead,
    bytes: Box<[u8]>,
}

impl KeptPart {
    /// Whether these rows have these columns.
    fn names(&self, piece: &Piece) -> bool {
        (self.head.timeline, self.head.layout) == (piece.timeline, piece.layout)
    }
}

/// Some rows and columns of a timeline, as a frame has them.
struct Piece {
    timeline: TimelineKey,
    layout: u64,
    rows: Range<u64>,
    columns: Range<u32>,
    column_count_total: u32,
    /// So many of the layout's columns are told by the database rather than by the log.
    columns_stored: u32,
}

impl Piece {
    fn is_whole(&self) -> bool {
        self.columns == (0..self.column_count_total)
    }
}

/// A row of which only the first columns have come.
struct OpenRow {
    timeline: TimelineId,
    key: TimelineKey,
    row: u64,
    column_next: u32,
    puts: Puts,
}

#[derive(Clone, Copy, Default)]
struct Puts {
    taken: u64,
    refused: u64,
}

/// Cells that are turned from columns into rows at a time.
const BLOCK_CELLS_MAX: usize = FRAME_COLUMNS_MAX as usize;

/// Puts frames into a store, in the order of the log; with two generations, the older one first.
///
/// Between two frames the store may be sealed. Rows keep their numbers; the store's own layout numbers are new ones.
pub struct Replay {
    store_uuid: [u8; 16],
    is_foreign: bool,
    layouts: Vec<KeptPart>,
    layout_bytes: usize,
    layout_bytes_max: usize,
    reader: SegmentReader,
    open: Option<OpenRow>,
    /// Of each timeline, what its next block is told against.
    histories: Vec<History>,
    block: Block,
    /// The row behind the last stored one, by timeline.
    stored: Vec<(TimelineKey, u64)>,
    report: ReplayReport,
}

impl Replay {
    /// Frames of a generation that began under another UUID are left out. `layout_bytes_max` bounds the heap for layouts (some 20 bytes a series). What goes beyond it is counted as lost.
    pub fn new(store_uuid: [u8; 16], layout_bytes_max: usize) -> Self {
        Self {
            store_uuid,
            is_foreign: false,
            layouts: Vec::new(),
            layout_bytes: 0,
            layout_bytes_max,
            reader: SegmentReader::default(),
            open: None,
            histories: Vec::new(),
            block: Block::default(),
            stored: Vec::new(),
            report: ReplayReport::default(),
        }
    }

    /// # Errors
    ///
    /// What is stored cannot be read, so that nobody knows which rows are in segments: recovery is to be given up. What
    /// cannot be used of the frame itself is counted.
    pub fn apply(
        &mut self,
        frame: Frame<'_>,
        store: &mut Store<'_>,
        stored: &mut dyn Stored,
    ) -> Result<(), StoredError> {
        match frame {
            Frame::GenerationStart(start) => self.is_foreign = start.store_uuid != self.store_uuid,
            _ if self.is_foreign => self.report.frames_foreign += 1,
            Frame::Newer => self.report.frames_newer += 1,
            Frame::Layout { bytes } => self.keep_layout(bytes),
            Frame::RowsPlain { column_count_total, bytes } => {
                match self.rows_plain(column_count_total, bytes, store, stored) {
                    Err(FormatError::Stored(error)) => return Err(error),
                    Err(_) => self.report.frames_unreadable += 1,
                    Ok(()) => {}
                }
            }
            Frame::Rows { bytes } => match self.rows(bytes, store, stored) {
                Err(FormatError::Stored(error)) => return Err(error),
                Err(_) => self.report.frames_unreadable += 1,
                Ok(()) => {}
            },
            Frame::State { key, bytes } => match store.state_put(key, bytes) {
                Ok(()) => self.report.states += 1,
                Err(refused) => {
                    self.report.states_refused += 1;
                    self.report.refused_first.get_or_insert(refused);
                }
            },
        }
        Ok(())
    }

    /// To be called between two generations. Each names its own layouts; the process that wrote the later one may have
    /// given a layout the number that another had in the earlier one, when a power cut took that one before it was
    /// stored.
    pub fn generation_ended(&mut self, store: &mut Store<'_>) {
        self.abandon(store);
        self.layouts.clear();
        self.layout_bytes = 0;
        self.histories.clear();
    }

    /// To be called behind the last frame: a row that is not whole is forgotten.
    pub fn finish(mut self, store: &mut Store<'_>) -> ReplayReport {
        self.abandon(store);
        self.report
    }

    fn keep_layout(&mut self, bytes: &[u8]) {
        let Ok(head) = layout_part_read(bytes, &mut |_, _, _| true) else {
            self.report.frames_unreadable += 1;
            return;
        };
        // A timeline's rows come in order, so its older layouts are done with; a part given again replaces.
        let outdated = |part: &KeptPart| {
            part.head.timeline == head.timeline
                && (part.head.layout != head.layout || part.head.column_from >= head.column_from)
        };
        self.layout_bytes -=
            self.layouts.iter().filter(|part| outdated(part)).map(|part| part.bytes.len()).sum::<usize>();
        self.layouts.retain(|part| !outdated(part));
        // Beyond the bound it is left out; its rows are counted when they come.
        if self.layout_bytes + bytes.len() <= self.layout_bytes_max {
            self.layout_bytes += bytes.len();
            self.layouts.push(KeptPart { head, bytes: bytes.into() });
        }
    }

    /// Rows of version 1: a segment.
    fn rows_plain(
        &mut self,
        column_count_total: u32,
        bytes: &[u8],
        store: &mut Store<'_>,
        stored: &mut dyn Stored,
    ) -> Result<(), FormatError> {
        let head = SegmentReader::head(&mut SliceBytes(bytes))?;
        let piece = Piece {
            timeline: head.timeline,
            layout: head.layout,
            rows: head.rows(),
            columns: head.columns(),
            column_count_total,
            columns_stored: 0,
        };
        if piece.columns.len() > FRAME_COLUMNS_MAX as usize || piece.columns.end > column_count_total {
            return Err(FormatError::Damaged { what: "log frame", field: "columns" });
        }
        let Some((timeline, rows)) = self.wanted(&piece, store, stored)? else { return Ok(()) };
        if !piece.is_whole() && rows.end - rows.start > 1 {
            return Err(FormatError::Damaged { what: "log frame", field: "rows of a split frame" });
        }
        let block_rows = (BLOCK_CELLS_MAX / piece.columns.len()).max(1) as u64;
        let mut block = core::mem::take(&mut self.block);
        let mut row = rows.start;
        let mut read = Ok(());
        while row < rows.end && read.is_ok() {
            let part = row..rows.end.min(row + block_rows);
            read = self.read_plain(bytes, &head, &part, &mut block);
            if read.is_ok() {
                self.put_block(timeline, &piece, part.start, part.clone(), &block, store);
            }
            row = part.end;
        }
        self.block = block;
        read
    }

    /// Rows of many timelines. What cannot be told because the rows before it are lost is lost too, and counted.
    fn rows(&mut self, bytes: &[u8], store: &mut Store<'_>, stored: &mut dyn Stored) -> Result<(), FormatError> {
        let mut reader = RowsReader::new(bytes)?;
        let mut block = core::mem::take(&mut self.block);
        let mut is_told = true;
        while let Some(head) = reader.head()? {
            let index = self.history_index(head.timeline);
            is_told = is_told && reader.read(&head, Some(&self.histories[index]), &mut block, &mut |_, _| ()).is_ok();
            if is_told && head.is_whole() {
                self.histories[index].keep(&head, &block);
            }
            self.take_block(&head, is_told.then_some(&block), store, stored)?;
        }
        self.block = block;
        Ok(())
    }

    /// Puts a block's rows that are not known; without the block, they are lost.
    fn take_block(
        &mut self,
        head: &BlockHead,
        block: Option<&Block>,
        store: &mut Store<'_>,
        stored: &mut dyn Stored,
    ) -> Result<(), FormatError> {
        let piece = Piece {
            timeline: head.timeline,
            layout: head.layout,
            rows: head.rows(),
            columns: head.columns(),
            column_count_total: head.column_count_total,
            columns_stored: head.columns_stored,
        };
        let Some((timeline, rows)) = self.wanted(&piece, store, stored)? else { return Ok(()) };
        match block {
            Some(block) => self.put_block(timeline, &piece, head.row_from, rows, block, store),
            None => self.lose(rows, store),
        }
        Ok(())
    }

    fn history_index(&mut self, timeline: TimelineKey) -> usize {
        self.histories.iter().position(|history| history.timeline() == timeline).unwrap_or_else(|| {
            self.histories.push(History::new(timeline));
            self.histories.len() - 1
        })
    }

    /// Opens the timeline of some rows, and says which of them are to be put; `None`: none.
    fn wanted(
        &mut self,
        piece: &Piece,
        store: &mut Store<'_>,
        stored: &mut dyn Stored,
    ) -> Result<Option<(TimelineId, Range<u64>)>, FormatError> {
        let row_count = piece.rows.end - piece.rows.start;
        let timeline = match timeline_open(store, stored, piece.timeline) {
            Ok(timeline) => timeline,
            Err(TimelineOpenError::Stored(error)) => return Err(error.into()),
            Err(TimelineOpenError::Refused(refused)) => {
                self.report.rows_refused += row_count;
                self.report.refused_first.get_or_insert(refused);
                return Ok(None);
            }
        };
        let goes_on = self.open.as_ref().is_some_and(|open| {
            open.key == piece.timeline
                && piece.rows == (open.row..open.row + 1)
                && open.column_next == piece.columns.start
        });
        if !goes_on {
            self.abandon(store);
            if piece.columns.start > 0 {
                // The row's first columns were in a frame that is gone, or the row is known; counted there.
                return Ok(None);
            }
        }
        let known = self.rows_stored(stored, piece.timeline)?.max(store.rows(timeline).end);
        let rows = if goes_on { piece.rows.clone() } else { piece.rows.start.max(known)..piece.rows.end };
        self.report.rows_known += row_count - rows.clone().count() as u64;
        if rows.is_empty() {
            return Ok(None);
        }
        if !self.covers(piece) && piece.columns_stored > 0 {
            self.load_layout(piece, stored)?;
        }
        if !self.covers(piece) {
            self.lose(rows, store);
            return Ok(None);
        }
        Ok(Some((timeline, rows)))
    }

    /// Takes a layout's first columns from the database, in front of what the log has of it.
    fn load_layout(&mut self, piece: &Piece, stored: &mut dyn Stored) -> Result<(), StoredError> {
        let mut bytes_left = self.layout_bytes_max.saturating_sub(self.layout_bytes);
        let layouts = &mut self.layouts;
        let before: usize = layouts.iter().map(|part| part.bytes.len()).sum();
        layouts.retain(|part| part.head.timeline != piece.timeline || part.head.layout == piece.layout);
        bytes_left += before - layouts.iter().map(|part| part.bytes.len()).sum::<usize>();
        let read = stored.layout(piece.layout, &mut |part| {
            let is_wanted = part.timeline == piece.timeline && part.column_from < piece.columns_stored;
            if is_wanted
                && part.bytes.len() <= bytes_left
                && let Ok(head) = layout_part_read(part.bytes, &mut |_, _, _| true)
            {
                bytes_left -= part.bytes.len();
                layouts.push(KeptPart { head, bytes: part.bytes.into() });
            }
            true
        });
        match read {
            // Rows whose layout cannot be read are lost and counted; that is no reason not to start.
            Err(StoredError::DAMAGED) => {}
            read => read?,
        }
        layouts.sort_by_key(|part| (part.head.timeline, part.head.layout, part.head.column_from));
        self.layout_bytes = self.layouts.iter().map(|part| part.bytes.len()).sum();
        Ok(())
    }

    fn lose(&mut self, rows: Range<u64>, store: &mut Store<'_>) {
        self.report.rows_lost += rows.end - rows.start;
        if let Some(open) = self.open.take() {
            store.row_abort(open.timeline);
        }
    }

    /// What was stored when the timeline was first met: what is sealed since is in the store's own numbers.
    fn rows_stored(&mut self, stored: &mut dyn Stored, key: TimelineKey) -> Result<u64, StoredError> {
        if let Some((_, rows)) = self.stored.iter().find(|(known, _)| *known == key) {
            return Ok(*rows);
        }
        let rows = rows_stored(stored, key)?;
        self.stored.push((key, rows));
        Ok(rows)
    }

    /// Whether labels are there for all these columns.
    fn covers(&self, piece: &Piece) -> bool {
        let mut next = 0;
        for part in self.layouts.iter().filter(|part| part.names(piece)) {
            if part.head.column_from > next {
                return false;
            }
            next = next.max(part.head.column_from + part.head.column_count);
        }
        next >= piece.columns.end
    }

    /// Fills `block` with some of a segment's rows.
    fn read_plain(
        &mut self,
        bytes: &[u8],
        head: &SegmentHead,
        rows: &Range<u64>,
        block: &mut Block,
    ) -> Result<(), FormatError> {
        let width = head.column_count as usize;
        let height = (rows.end - rows.start) as usize;
        let first = (rows.start - head.row_from) as usize;
        block.reset(width, height);
        self.reader.cells(&mut SliceBytes(bytes), &mut |column, unit| {
            let index = (column - head.column_from) as usize;
            for row in 0..height {
                let cell = row * width + index;
                block.cells[cell] = unit.cells[first + row];
                block.presence[cell] = unit.presence[first + row];
                if let Some(age_ms) = unit.age_ms(first + row) {
                    block.ages_ms.resize(width * height, None);
                    block.ages_ms[cell] = Some(age_ms);
                }
            }
        })?;
        block.instants_ms.extend_from_slice(&self.reader.instants_ms()[first..first + height]);
        Ok(())
    }

    /// Stages and commits some rows of a block, which begins with row `block_from`.
    fn put_block(
        &mut self,
        timeline: TimelineId,
        piece: &Piece,
        block_from: u64,
        rows: Range<u64>,
        block: &Block,
        store: &mut Store<'_>,
    ) {
        for row in rows {
            self.put_row(timeline, piece, row, (row - block_from) as usize, block, store);
            if piece.columns.end == piece.column_count_total {
                self.commit(store);
            }
        }
    }

    /// Stages one row of the block, or the next columns of the open one.
    fn put_row(
        &mut self,
        timeline: TimelineId,
        piece: &Piece,
        row: u64,
        index: usize,
        block: &Block,
        store: &mut Store<'_>,
    ) {
        if self.open.is_none() {
            store.row_next_at_least(timeline, row);
            if let Err(refused) = store.row_begin(timeline, block.instants_ms[index]) {
                self.report.rows_refused += 1;
                self.report.refused_first.get_or_insert(refused);
                return;
            }
            let puts = Puts::default();
            self.open = Some(OpenRow { timeline, key: piece.timeline, row, column_next: 0, puts });
        }
        let Some(open) = self.open.as_mut() else { return };
        let width = block.width;
        let from = index * width;
        let (cells, presence) = (&block.cells[from..from + width], &block.presence[from..from + width]);
        let (ages_ms, report) = (block.ages_ms.get(from..from + width), &mut self.report);
        for part in self.layouts.iter().filter(|part| part.names(piece)) {
            let read = layout_part_read(&part.bytes, &mut |column, kind, labels| {
                // Columns given already by an earlier frame or an overlapping part.
                if column < piece.columns.start || column < open.column_next {
                    return true;
                }
                let index = (column - piece.columns.start) as usize;
                if index >= width {
                    return false;
                }
                open.column_next = column + 1;
                let bits = match (kind, presence[index]) {
                    (ColumnKind::Age, _) | (_, Presence::Absent) => return true,
                    (ColumnKind::Float, Presence::Value) => cells[index],
                    (ColumnKind::Float, Presence::Stale) => STALE_NAN_BITS,
                };
                match store.row_put(timeline, labels, bits, ages_ms.and_then(|ages_ms| ages_ms[index])) {
                    Ok(_) => open.puts.taken += 1,
                    Err(refused) => {
                        open.puts.refused += 1;
                        report.refused_first.get_or_insert(refused);
                    }
                }
                true
            });
            debug_assert!(read.is_ok(), "a kept part was read before");
        }
    }

    fn commit(&mut self, store: &mut Store<'_>) {
        let Some(open) = self.open.take() else { return };
        let committed = store.row_commit(open.timeline, Missing::Absent);
        assert_eq!(committed.row, open.row, "replay keeps row numbers");
        self.report.rows += 1;
        self.report.samples += open.puts.taken;
        self.report.samples_refused += open.puts.refused;
    }

    fn abandon(&mut self, store: &mut Store<'_>) {
        if let Some(open) = self.open.take() {
            store.row_abort(open.timeline);
            self.report.rows_lost += 1;
        }
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
