//! The lines of a target's last page, so that the next page is matched against them instead of being parsed.
//!
//! ```text
//!   lines:  | this page's, so far |  gap  | the last page's, still to come |
//!                                 ^ write ^ read
//! ```
//!
//! Of a sample's line all bytes before its value are known by their length and a keyed hash, of any other line all of it.
//! The list is a hint and never a truth of its own: what stands in it was parsed in full once, and a line is taken by it
//! only when its bytes, and the kind of metric in force, are those that were parsed then. What does not match is parsed in
//! full and takes its place in the list, so that the page after this one matches again.

use crate::{
    limits,
    parse::{MetricKind, NoSample},
    store::ColumnId,
};
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use foldhash::quality::FixedState;

/// One line of the list.
const SEEN_LINE_BYTES: usize = size_of::<SeenLine>();
const _: () = assert!(SEEN_LINE_BYTES as u64 == limits::SEEN_LINE_BYTES);

/// So many lines that went are passed over to find the one that comes instead.
const GONE_COUNT_MAX: usize = 16;

/// The list grows by this many lines at least, and by a part of what it has.
const GROWTH_COUNT_MIN: usize = 32;
const GROWTH_PARTS: usize = 8;

const COLUMN_BITS: u32 = 24;
/// No column: the line is parsed in full each time.
const NO_COLUMN: u32 = (1 << COLUMN_BITS) - 1;

/// What is known about a line. With 48 bits of hash, and its length, another line is taken for it once in 2^48 lines that
/// differ; who exposes the page could tell any value of it, so there is nothing to be won by aiming at that, and without
/// the key nobody can.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SeenLine {
    hash: [u16; 3],
    /// Bytes that were hashed.
    bytes: u16,
    /// The column in the lower bits, then what the line is.
    place: u32,
}

/// What a line is, beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A sample under this kind of metric.
    Sample { kind: MetricKind, column: Option<ColumnId> },
    /// `starts`: it is the first line that says something of its metric.
    NoSample { what: NoSample, starts: bool },
}

const SAMPLE: u32 = 0;
const HELP: u32 = 1;
const KIND: u32 = 2;
const OTHER: u32 = 3;

impl SeenLine {
    /// `None` when it cannot be known again: it is too long, or where its bytes end says nothing about what follows.
    fn new(bytes: &[u8], seen: Seen, key: &FixedState) -> Option<Self> {
        let is_sample = matches!(seen, Seen::Sample { .. });
        // Of `a 1` the name ends at the blank; `a1` would begin alike and be another name.
        if is_sample && !bytes.last().is_some_and(|last| matches!(last, b' ' | b'\t' | b'}')) || bytes.contains(&b'\n')
        {
            return None;
        }
        let length = u16::try_from(bytes.len()).ok()?;
        Some(Self { hash: hash(bytes, key), bytes: length, place: place(seen) })
    }

    pub(super) fn seen(self) -> Seen {
        let kind = MetricKind::ALL.get((self.place >> (COLUMN_BITS + 2) & 7) as usize).copied().unwrap_or_default();
        let column = self.place & NO_COLUMN;
        let no_sample = |what| Seen::NoSample { what, starts: self.place >> (COLUMN_BITS + 5) != 0 };
        match self.place >> COLUMN_BITS & 3 {
            SAMPLE => Seen::Sample { kind, column: (column != NO_COLUMN).then_some(ColumnId(column)) },
            HELP => no_sample(NoSample::Help),
            KIND => no_sample(NoSample::Kind(kind)),
            _ => no_sample(NoSample::Other),
        }
    }

    /// Bytes of the line that are known; a sample's value follows.
    pub(super) fn bytes(self) -> usize {
        self.bytes.into()
    }

    fn is_sample(self) -> bool {
        self.place >> COLUMN_BITS & 3 == SAMPLE
    }

    /// Whether `text` begins with this line, as far as it is known.
    fn begins(self, text: &[u8], key: &FixedState) -> bool {
        let Some((known, rest)) = text.split_at_checked(self.bytes()) else { return false };
        let ends = match self.is_sample() {
            true => known.last().is_some_and(|last| matches!(last, b' ' | b'\t' | b'}')),
            false => rest.first() == Some(&b'\n'),
        };
        ends && hash(known, key) == self.hash
    }

    fn has_same_bytes(self, other: Self) -> bool {
        (self.hash, self.bytes, self.is_sample()) == (other.hash, other.bytes, other.is_sample())
    }
}

fn hash(bytes: &[u8], key: &FixedState) -> [u16; 3] {
    let mut hasher = key.build_hasher();
    hasher.write(bytes);
    let hash = hasher.finish();
    [hash as u16, (hash >> 16) as u16, (hash >> 32) as u16]
}

fn place(seen: Seen) -> u32 {
    let number = |kind: MetricKind| MetricKind::ALL.iter().position(|of| *of == kind).unwrap_or_default() as u32;
    match seen {
        Seen::Sample { kind, column } => {
            // A number that the bits cannot hold is none; a slab of 16 million columns is beyond what a plan gives.
            let column = column.map_or(NO_COLUMN, |column| column.0.min(NO_COLUMN));
            column | SAMPLE << COLUMN_BITS | number(kind) << (COLUMN_BITS + 2)
        }
        Seen::NoSample { what, starts } => {
            let (what, kind) = match what {
                NoSample::Help => (HELP, 0),
                NoSample::Kind(kind) => (KIND, number(kind)),
                NoSample::Other => (OTHER, 0),
            };
            NO_COLUMN | what << COLUMN_BITS | kind << (COLUMN_BITS + 2) | u32::from(starts) << (COLUMN_BITS + 5)
        }
    }
}

/// What all targets' lists together may take.
pub struct SeenRoom {
    bytes: usize,
    bytes_max: usize,
    key: FixedState,
}

impl SeenRoom {
    /// `seed` keys the hashes.
    pub(super) fn new(bytes_max: usize, seed: u64) -> Self {
        Self { bytes: 0, bytes_max, key: FixedState::with_seed(seed) }
    }

    /// Heap in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The list of one target.
#[derive(Default)]
pub(super) struct SeenLines {
    lines: Vec<SeenLine>,
    write: usize,
    read: usize,
    /// The layout that the columns are of.
    layout: Option<u64>,
    /// Lines of this page that could be in the list, and of the last whole one.
    count: usize,
    count_before: usize,
    /// This page had lines that were not in the list.
    is_changed: bool,
    /// There was no room for the page: the target goes without.
    without: bool,
}

impl SeenLines {
    /// A page begins, whose samples go to rows of this layout.
    pub(super) fn begin(&mut self, layout: Option<u64>, room: &SeenRoom) {
        (self.read, self.write, self.count, self.is_changed) = (0, 0, 0, false);
        if self.layout != layout {
            self.layout = layout;
            self.lines.iter_mut().filter(|line| line.is_sample()).for_each(|line| line.place |= NO_COLUMN);
        }
        let needed_count = self.count_before + self.count_before / GROWTH_PARTS + GROWTH_COUNT_MIN;
        if self.without && room.bytes + needed_count * SEEN_LINE_BYTES <= room.bytes_max {
            self.without = false;
        }
    }

    /// The line that `text` begins with, if it is one that is expected now; lines that went are passed over for it. Then
    /// `gone` is told each of them.
    pub(super) fn find(&mut self, text: &[u8], room: &SeenRoom, gone: &mut dyn FnMut(Seen)) -> Option<SeenLine> {
        let next = *self.lines.get(self.read)?;
        if next.begins(text, &room.key) {
            return Some(next);
        }
        self.find_later(text, room, gone)
    }

    #[cold]
    fn find_later(&mut self, text: &[u8], room: &SeenRoom, gone: &mut dyn FnMut(Seen)) -> Option<SeenLine> {
        let later = &self.lines[self.read..];
        let gone_count = later.iter().take(GONE_COUNT_MAX + 1).position(|line| line.begins(text, &room.key))?;
        later[..gone_count].iter().for_each(|line| gone(line.seen()));
        self.read += gone_count;
        Some(self.lines[self.read])
    }

    /// The line that [`Self::find`] gave was taken.
    pub(super) fn keep(&mut self) {
        if self.write != self.read {
            self.lines[self.write] = self.lines[self.read];
        }
        self.write += 1;
        self.read += 1;
        self.count += 1;
    }

    /// A line was parsed in full. A sample without a column keeps the one that it has.
    pub(super) fn put(&mut self, bytes: &[u8], seen: Seen, room: &mut SeenRoom) {
        let Some(line) = SeenLine::new(bytes, seen, &room.key) else { return };
        if self.without {
            self.count += 1;
            return;
        }
        if let Some(known) = self.lines.get_mut(self.read)
            && known.has_same_bytes(line)
        {
            let is_same = matches!((known.seen(), seen), (Seen::Sample { kind: known, .. },
                Seen::Sample { kind, column: None }) if known == kind);
            if !is_same {
                known.place = line.place;
            }
            return self.keep();
        }
        if self.write == self.read && !self.make_gap(room) {
            // Half a list would be matched for nothing.
            self.count += self.write + 1;
            self.without = true;
            return self.clear(room);
        }
        self.lines[self.write] = line;
        self.is_changed = true;
        self.write += 1;
        self.count += 1;
    }

    /// The page is over. After a whole one, lines that it did not have are forgotten.
    pub(super) fn end(&mut self, is_whole: bool, room: &mut SeenRoom) {
        if is_whole {
            self.lines.truncate(self.write);
            self.count_before = self.count;
        } else if self.is_changed {
            // What such pages bring anew would otherwise be kept on top of what they lack.
            self.clear(room);
        } else {
            self.lines.drain(self.write..self.read);
        }
        (self.read, self.write) = (0, 0);
        if self.lines.capacity() - self.lines.len() > GROWTH_COUNT_MIN + self.lines.len() / GROWTH_PARTS {
            self.change_capacity(room, |lines| lines.shrink_to_fit());
        }
    }

    /// Gives its room back.
    pub(super) fn clear(&mut self, room: &mut SeenRoom) {
        (self.read, self.write) = (0, 0);
        self.change_capacity(room, |lines| *lines = Vec::new());
    }

    fn make_gap(&mut self, room: &mut SeenRoom) -> bool {
        let length = self.lines.len();
        let growth = GROWTH_COUNT_MIN.max(length / GROWTH_PARTS);
        let more = (length + growth).saturating_sub(self.lines.capacity());
        if room.bytes + more * SEEN_LINE_BYTES > room.bytes_max {
            return false;
        }
        self.change_capacity(room, |lines| lines.reserve_exact(growth));
        self.lines.resize(length + growth, SeenLine::default());
        self.lines.copy_within(self.read..length, self.read + growth);
        self.read += growth;
        true
    }

    fn change_capacity(&mut self, room: &mut SeenRoom, change: impl FnOnce(&mut Vec<SeenLine>)) {
        room.bytes -= self.lines.capacity() * SEEN_LINE_BYTES;
        change(&mut self.lines);
        room.bytes += self.lines.capacity() * SEEN_LINE_BYTES;
    }
}
