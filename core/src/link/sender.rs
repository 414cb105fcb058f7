//! The leaf's side: a ring of rows in static memory, each kept until the node has acknowledged it.

use super::{
    frame::{Deframer, FrameError, WIRE_BYTES_MAX, write_frame},
    message::{CellsError, MESSAGE_BYTES_MAX, Message, write_cells},
};
use crate::labels::LabelsRef;
use embedded_io::{Read, Write};
use heapless::Deque;

/// Rows sent ahead of the acknowledgement.
const WINDOW_ROWS: u32 = 8;
const RESEND_MS_MIN: u64 = 500;
const RESEND_MS_MAX: u64 = 16_000;
/// Layouts asked for at once; a further question is answered when it is asked again.
const WANTED_COUNT_MAX: usize = 4;
/// What a message holds beside its cells: the tag and the other fields at their longest (postcard's varints).
const ROW_HEAD_BYTES_MAX: usize = 1 + 10 + 4 * 5 + 10 + 3;
const CELLS_BYTES_MAX: usize = MESSAGE_BYTES_MAX - ROW_HEAD_BYTES_MAX;
/// Before each row in the ring: length of the cells, layout, instant.
const ENTRY_HEAD_BYTES: usize = 2 + 4 + 8;

/// What the leaf's layouts are; typically constants in flash. A layout's number never changes its meaning: after a
/// change of the firmware it is another number (a hash of the labels does).
pub trait Layouts {
    fn column_count(&self, layout: u32) -> u16;
    fn labels(&self, layout: u32, column: u16) -> Option<LabelsRef<'_>>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    #[error("the row has more cells than a frame holds; use several layouts")]
    TooWide(CellsError),
    #[error("the row is larger than the whole ring of {ring_bytes} bytes; give it more")]
    RingTooSmall { ring_bytes: usize },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounters {
    pub rows_pushed: u32,
    /// Rows that had to make room before they were acknowledged.
    pub rows_lost: u32,
    pub rows_acknowledged: u32,
    pub frames_sent: u32,
    pub frames_repeated: u32,
}

/// `BYTES` of ring: a row takes 14 bytes, one bit per column and 8 bytes per value.
pub struct LinkSender<const BYTES: usize> {
    leaf: u64,
    session: u32,
    ring: Deque<u8, BYTES>,
    /// Sequence of the oldest row in the ring, of the next to send and of the next to push.
    oldest: u32,
    send_next: u32,
    push_next: u32,
    /// Never sent before this.
    sent_end: u32,
    resend_at_ms: Option<u64>,
    resend_wait_ms: u64,
    wanted: Deque<(u32, u16), WANTED_COUNT_MAX>,
    deframer: Deframer,
    pub counters: SenderCounters,
}

impl<const BYTES: usize> LinkSender<BYTES> {
    /// `leaf` names the device, `session` this boot of it (a boot counter, or random).
    pub const fn new(leaf: u64, session: u32) -> Self {
        Self {
            leaf,
            session,
            ring: Deque::new(),
            oldest: 0,
            send_next: 0,
            push_next: 0,
            sent_end: 0,
            resend_at_ms: None,
            resend_wait_ms: RESEND_MS_MIN,
            wanted: Deque::new(),
            deframer: Deframer::new(),
            counters: SenderCounters {
                rows_pushed: 0,
                rows_lost: 0,
                rows_acknowledged: 0,
                frames_sent: 0,
                frames_repeated: 0,
            },
        }
    }

    /// Keeps a row taken at `instant_ms` of the leaf's own clock. A full ring gives up its oldest row, which is counted
    /// here and told to the node.
    pub fn push_row(&mut self, instant_ms: u64, layout: u32, values: &[Option<u64>]) -> Result<(), PushError> {
        let mut cells = [0; CELLS_BYTES_MAX];
        let used = write_cells(values, &mut cells).map_err(PushError::TooWide)?;
        let needed = ENTRY_HEAD_BYTES + used;
        if needed > BYTES {
            return Err(PushError::RingTooSmall { ring_bytes: BYTES });
        }
        while BYTES - self.ring.len() < needed {
            self.drop_oldest();
            self.counters.rows_lost += 1;
        }
        let head = (used as u16).to_le_bytes().into_iter().chain(layout.to_le_bytes()).chain(instant_ms.to_le_bytes());
        for byte in head.chain(cells[..used].iter().copied()) {
            // The loop above made the room.
            let _ = self.ring.push_back(byte);
        }
        self.push_next = self.push_next.wrapping_add(1);
        self.counters.rows_pushed += 1;
        Ok(())
    }

    /// Rows kept: pushed and not yet acknowledged.
    pub fn row_count(&self) -> u32 {
        self.push_next.wrapping_sub(self.oldest)
    }

    /// Takes bytes that came from the node.
    pub fn received(&mut self, bytes: &[u8]) {
        let (leaf, session) = (self.leaf, self.session);
        let mut acknowledged = None;
        let wanted = &mut self.wanted;
        self.deframer.feed(bytes, &mut |message| match message {
            Message::Acknowledge { leaf: to, session: of, next } if (to, of) == (leaf, session) => {
                acknowledged = Some(next);
            }
            Message::LayoutWanted { leaf: to, layout }
                if to == leaf && !wanted.iter().any(|(asked, _)| *asked == layout) =>
            {
                // When there is no room, the node asks again.
                let _ = wanted.push_back((layout, 0));
            }
            _ => {}
        });
        if let Some(next) = acknowledged {
            self.acknowledge(next);
        }
    }

    /// The next frame to put on the line, if it is time for one.
    pub fn next_frame<'b>(
        &mut self,
        now_ms: u64,
        layouts: &dyn Layouts,
        out: &'b mut [u8; WIRE_BYTES_MAX],
    ) -> Result<Option<&'b [u8]>, FrameError> {
        if let Some(message) = self.next_column(layouts) {
            self.counters.frames_sent += 1;
            return write_frame(&message, out).map(Some);
        }
        if self.resend_at_ms.is_some_and(|at_ms| now_ms >= at_ms) {
            self.send_next = self.oldest;
            self.resend_wait_ms = (self.resend_wait_ms * 2).min(RESEND_MS_MAX);
            self.resend_at_ms = None;
        }
        let ahead = self.send_next.wrapping_sub(self.oldest);
        if self.send_next == self.push_next || ahead >= WINDOW_ROWS {
            return Ok(None);
        }
        let mut cells = [0; CELLS_BYTES_MAX];
        let Some((layout, instant_ms, used)) = self.read_row(ahead, &mut cells) else { return Ok(None) };
        let message = Message::Row {
            leaf: self.leaf,
            session: self.session,
            sequence: self.send_next,
            oldest: self.oldest,
            layout,
            age_ms: now_ms.saturating_sub(instant_ms),
            cells: &cells[..used],
        };
        let frame = write_frame(&message, out)?;
        self.counters.frames_sent += 1;
        self.send_next = self.send_next.wrapping_add(1);
        if self.send_next.wrapping_sub(self.oldest) > self.sent_end.wrapping_sub(self.oldest) {
            self.sent_end = self.send_next;
        } else {
            self.counters.frames_repeated += 1;
        }
        self.resend_at_ms = self.resend_at_ms.or(Some(now_ms + self.resend_wait_ms));
        Ok(Some(frame))
    }

    /// When [`LinkSender::next_frame`] has something again if nothing comes in or is pushed.
    pub fn wake_ms(&self) -> Option<u64> {
        self.resend_at_ms
    }

    /// Writes every frame that is due to a serial line.
    pub fn write_to<W: Write>(&mut self, now_ms: u64, layouts: &dyn Layouts, line: &mut W) -> Result<(), W::Error> {
        let mut out = [0; WIRE_BYTES_MAX];
        // A frame that cannot be encoded (labels too long for the line) is left out: the node goes on asking, and the
        // firmware's own test of its layouts finds it.
        while let Ok(Some(frame)) = self.next_frame(now_ms, layouts, &mut out) {
            line.write_all(frame)?;
        }
        line.flush()
    }

    /// Takes what one read from a serial line gives.
    pub fn read_from<R: Read>(&mut self, line: &mut R) -> Result<(), R::Error> {
        let mut buf = [0; 64];
        let used = line.read(&mut buf)?;
        self.received(&buf[..used]);
        Ok(())
    }

    fn next_column<'l>(&mut self, layouts: &'l dyn Layouts) -> Option<Message<'l>> {
        while let Some((layout, column)) = self.wanted.front().copied() {
            let column_count = layouts.column_count(layout);
            let labels = if column < column_count { layouts.labels(layout, column) } else { None };
            let Some(labels) = labels else {
                self.wanted.pop_front();
                continue;
            };
            if let Some(front) = self.wanted.front_mut() {
                front.1 += 1;
            }
            let labels = labels.as_bytes();
            return Some(Message::Layout { leaf: self.leaf, layout, column, column_count, labels });
        }
        None
    }

    fn acknowledge(&mut self, next: u32) {
        let count = next.wrapping_sub(self.oldest);
        // An old or a foreign acknowledgement says nothing about what is kept.
        if count > self.sent_end.wrapping_sub(self.oldest) {
            return;
        }
        for _ in 0..count {
            self.drop_oldest();
            self.counters.rows_acknowledged += 1;
        }
        if count > 0 {
            self.resend_wait_ms = RESEND_MS_MIN;
            // Rows still out get a new wait, begun with the next frame or now if there is none.
            self.resend_at_ms = if self.send_next == self.oldest { None } else { self.resend_at_ms };
        }
    }

    fn drop_oldest(&mut self) {
        let mut cells = [0; CELLS_BYTES_MAX];
        let Some((_, _, used)) = self.read_row(0, &mut cells) else { return };
        for _ in 0..ENTRY_HEAD_BYTES + used {
            self.ring.pop_front();
        }
        self.oldest = self.oldest.wrapping_add(1);
        if self.send_next.wrapping_sub(self.oldest) > self.push_next.wrapping_sub(self.oldest) {
            self.send_next = self.oldest;
        }
        if self.sent_end.wrapping_sub(self.oldest) > self.push_next.wrapping_sub(self.oldest) {
            self.sent_end = self.oldest;
        }
    }

    /// Copies the row that stands `index` behind the oldest: layout, instant and the length of its cells.
    fn read_row(&self, index: u32, cells: &mut [u8; CELLS_BYTES_MAX]) -> Option<(u32, u64, usize)> {
        let mut at = 0;
        let mut head = [0; ENTRY_HEAD_BYTES];
        for step in 0..=index {
            self.copy(at, &mut head)?;
            let [low, high, ..] = head;
            if step < index {
                at += ENTRY_HEAD_BYTES + usize::from(u16::from_le_bytes([low, high]));
            }
        }
        let [low, high, l0, l1, l2, l3, instant @ ..] = head;
        let used = usize::from(u16::from_le_bytes([low, high]));
        self.copy(at + ENTRY_HEAD_BYTES, cells.get_mut(..used)?)?;
        Some((u32::from_le_bytes([l0, l1, l2, l3]), u64::from_le_bytes(instant), used))
    }

    fn copy(&self, at: usize, out: &mut [u8]) -> Option<()> {
        if at + out.len() > self.ring.len() {
            return None;
        }
        let (first, second) = self.ring.as_slices();
        for (index, byte) in out.iter_mut().enumerate() {
            let from = at + index;
            *byte = if from < first.len() { first[from] } else { second[from - first.len()] };
        }
        Some(())
    }
}
