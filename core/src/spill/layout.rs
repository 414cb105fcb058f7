//! A layout part: kinds and label sets of some neighbouring columns of a layout, each told against the one before.
//!
//! Header (44 bytes), then the index: hashes of the label pairs that occur, so that a selection by `name="value"` passes
//! parts over without reading them. Then for each column: kind, and how its labels differ from those before. An age column is its kind alone: its cells are with the values. The first labels of a part share
//! nothing, so that parts are read on their own. Columns of other kinds are passed over and counted.

mod told;

use super::{
    crc::crc32,
    format::{
        FormatError, LAYOUT_MAGIC, SEGMENT_BYTES_MAX, VERSION, put, put_length, take_length, u16_at, u32_at, u64_at,
    },
};
use crate::{
    labels::{LABELS_BYTES_MAX, LabelsRef},
    prng::{mix, stable_hash},
    store::{ColumnKind, TimelineKey, stored::SegmentBytes},
};
use alloc::{vec, vec::Vec};

pub const HEADER_BYTES: usize = 44;
/// A part with more distinct pairs than this has no index, and is always read.
const PAIRS_COUNT_MAX: usize = 8 * 1024;
const PAIR_HASH_BITS: u32 = 24;
/// Parts before it have nothing between header and body.
const VERSION_OF_INDEX: u16 = 2;
/// Labels before it are told by the prefix that they share.
const VERSION_OF_PAIRS: u16 = 2;
/// The index's checksum.
const INDEX_HEAD_BYTES: usize = 4;
/// A hash as the difference to the one before takes no more.
const PAIR_BYTES_MAX: usize = 4;
const WHAT: &str = "layout part";

/// A layout part's fixed fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutHead {
    pub timeline: TimelineKey,
    pub layout: u64,
    pub column_from: u32,
    pub column_count: u32,
}

impl LayoutHead {
    /// Of a part, from its beginning.
    pub const BYTES: usize = HEADER_BYTES;

    /// Reads the header alone.
    ///
    /// # Errors
    ///
    /// Bytes that do not begin with one.
    pub fn read(bytes: &[u8]) -> Result<Self, FormatError> {
        check_header(bytes.first_chunk().ok_or(FormatError::Truncated { what: WHAT })?)
    }
}

/// Writes one part, column by column.
pub struct LayoutWriter<'b> {
    out: &'b mut [u8],
    head: LayoutHead,
    used: usize,
    before: [u8; LABELS_BYTES_MAX],
    before_bytes: usize,
    /// Hashes of the pairs so far, ascending; `None`: they are too many.
    pairs: Option<Vec<u32>>,
}

impl<'b> LayoutWriter<'b> {
    /// # Errors
    ///
    /// An `out` that does not hold the header and one column of any length.
    pub fn new(timeline: TimelineKey, layout: u64, column_from: u32, out: &'b mut [u8]) -> Result<Self, FormatError> {
        let capacity = out.len();
        let bytes = HEADER_BYTES + LABELS_BYTES_MAX + 16;
        if capacity < bytes {
            return Err(FormatError::OutputFull { bytes, capacity });
        }
        let out = &mut out[..capacity.min(SEGMENT_BYTES_MAX)];
        let head = LayoutHead { timeline, layout, column_from, column_count: 0 };
        let (before, pairs) = ([0; LABELS_BYTES_MAX], Some(Vec::new()));
        Ok(Self { out, head, used: HEADER_BYTES, before, before_bytes: 0, pairs })
    }

    /// Adds the next column; `false`: it does not fit any more, the next part begins with it. An age column's labels are
    /// not kept.
    pub fn push(&mut self, kind: ColumnKind, labels: LabelsRef<'_>) -> bool {
        if kind == ColumnKind::Age {
            let Some(room) = self.out.get_mut(self.used) else { return false };
            *room = kind as u8;
            self.used += 1;
            self.head.column_count += 1;
            return true;
        }
        let bytes = labels.as_bytes();
        let room = &mut self.out[self.used..];
        let before = &self.before[..self.before_bytes];
        let Some(added) = room.split_first_mut().and_then(|(first, rest)| {
            *first = kind as u8;
            Some(1 + told::put(rest, before, bytes)?)
        }) else {
            return false;
        };
        self.add_pairs(labels);
        if self.head.column_count > 0 && self.used + added + self.index_bytes_max() > self.out.len() {
            return false;
        }
        self.used += added;
        self.head.column_count += 1;
        self.before[..bytes.len()].copy_from_slice(bytes);
        self.before_bytes = bytes.len();
        true
    }

    pub fn column_count(&self) -> u32 {
        self.head.column_count
    }

    fn add_pairs(&mut self, labels: LabelsRef<'_>) {
        for (name, value) in labels.iter() {
            let Some(pairs) = &mut self.pairs else { return };
            let hash = pair_hash(name, value);
            if let Err(at) = pairs.binary_search(&hash) {
                pairs.insert(at, hash);
            }
            if pairs.len() > PAIRS_COUNT_MAX {
                self.pairs = None;
            }
        }
    }

    fn index_bytes_max(&self) -> usize {
        self.pairs.as_ref().map_or(0, |pairs| INDEX_HEAD_BYTES + PAIR_BYTES_MAX * pairs.len())
    }

    /// Puts the index between header and body; its length, 0 when there is none.
    fn put_index(&mut self) -> usize {
        let (from, room) = (self.used, self.out.len() - self.used);
        let Some(pairs) = self.pairs.as_ref().filter(|_| self.index_bytes_max() <= room) else { return 0 };
        let (mut at, mut before) = (from + INDEX_HEAD_BYTES, 0);
        for hash in pairs {
            at += put_length(&mut self.out[at..], (hash - before) as usize).expect("there is room, see above");
            before = *hash;
        }
        let crc = crc32(&self.out[from + INDEX_HEAD_BYTES..at]);
        put(self.out, from, &crc.to_le_bytes());
        self.out[HEADER_BYTES..at].rotate_right(at - from);
        self.used = at;
        at - from
    }

    /// Completes header and index and returns the part's length in bytes.
    pub fn finish(mut self) -> usize {
        let index_bytes = self.put_index();
        let Self { out, head, used, .. } = self;
        put(out, 0, &LAYOUT_MAGIC.to_le_bytes());
        put(out, 4, &VERSION.to_le_bytes());
        put(out, 6, &(index_bytes as u16).to_le_bytes());
        put(out, 8, &head.timeline.0.to_le_bytes());
        put(out, 16, &head.layout.to_le_bytes());
        put(out, 24, &head.column_from.to_le_bytes());
        put(out, 28, &head.column_count.to_le_bytes());
        let body_from = HEADER_BYTES + index_bytes;
        put(out, 32, &((used - body_from) as u32).to_le_bytes());
        let body_crc = crc32(&out[body_from..used]);
        put(out, 36, &body_crc.to_le_bytes());
        let head_crc = crc32(&out[..40]);
        put(out, 40, &head_crc.to_le_bytes());
        used
    }
}

/// What an index knows of a pair.
pub fn pair_hash(name: &str, value: &str) -> u32 {
    let hash = stable_hash(name.as_bytes()) ^ stable_hash(value.as_bytes()).rotate_left(1);
    (mix(hash) >> (u64::BITS - PAIR_HASH_BITS)) as u32
}

/// Reads no more of a part than its header and its index: the hashes of its pairs, ascending. False: it has no index.
///
/// # Errors
///
/// Bytes that are no such part.
pub fn layout_pairs_read(bytes: &mut dyn SegmentBytes, pairs: &mut Vec<u32>) -> Result<bool, FormatError> {
    pairs.clear();
    let mut header = [0; HEADER_BYTES];
    if bytes.len() < HEADER_BYTES {
        return Err(FormatError::Truncated { what: WHAT });
    }
    bytes.read_at(0, &mut header)?;
    check_header(&header)?;
    let index_bytes = usize::from(u16_at(&header, 6));
    if u16_at(&header, 4) < VERSION_OF_INDEX || index_bytes == 0 {
        return Ok(false);
    }
    if bytes.len() - HEADER_BYTES < index_bytes {
        return Err(FormatError::Truncated { what: WHAT });
    }
    let mut index = vec![0; index_bytes];
    bytes.read_at(HEADER_BYTES, &mut index)?;
    let mut rest = check_index(&index)?;
    let mut hash = 0_u32;
    while !rest.is_empty() {
        let difference = take_length(&mut rest).ok_or(damaged("index"))?;
        hash = u32::try_from(difference).ok().and_then(|more| hash.checked_add(more)).ok_or(damaged("index"))?;
        pairs.push(hash);
    }
    Ok(true)
}

/// Reads a part, checked as a whole first, and gives its columns in order: number, kind, labels (none for
/// ages). `false` from the visitor stops.
///
/// # Errors
///
/// Bytes that are no such part. A checksum that matches leaves only our own mistakes: what was given until then is right.
pub fn layout_part_read(
    bytes: &[u8],
    visit: &mut dyn FnMut(u32, ColumnKind, LabelsRef<'_>) -> bool,
) -> Result<LayoutHead, FormatError> {
    let mut cursor = LayoutCursor::new(bytes)?;
    while let Some((column, kind)) = cursor.next(bytes)? {
        let labels = if kind == ColumnKind::Age { LabelsRef::EMPTY } else { cursor.labels()? };
        if !visit(column, kind, labels) {
            return Ok(cursor.head);
        }
    }
    if cursor.at == bytes.len() { Ok(cursor.head) } else { Err(damaged("body length")) }
}

/// A place in a part that is read column by column. Does not hold the part, which is given to each call.
pub struct LayoutCursor {
    pub head: LayoutHead,
    /// The column that comes next.
    pub column: u32,
    /// Columns passed over because a newer version wrote their kind.
    pub left_out: u32,
    body_from: usize,
    at: usize,
    tells_pairs: bool,
    /// Of the float read last, in the one of the two that `side` names.
    labels: [[u8; LABELS_BYTES_MAX]; 2],
    side: usize,
    labels_bytes: usize,
}

impl LayoutCursor {
    /// Checks the part as a whole and stands before its first column.
    ///
    /// # Errors
    ///
    /// Bytes that are no such part.
    pub fn new(bytes: &[u8]) -> Result<Self, FormatError> {
        let (head, body_from) = open(bytes)?;
        Ok(Self {
            head,
            column: head.column_from,
            left_out: 0,
            body_from,
            at: body_from,
            tells_pairs: u16_at(bytes, 4) >= VERSION_OF_PAIRS,
            labels: [[0; LABELS_BYTES_MAX]; 2],
            side: 0,
            labels_bytes: 0,
        })
    }

    /// Goes back to the first column.
    pub fn restart(&mut self) {
        (self.column, self.left_out) = (self.head.column_from, 0);
        (self.at, self.labels_bytes) = (self.body_from, 0);
    }

    /// Reads the next column's number and kind; `None` behind the last one.
    ///
    /// # Errors
    ///
    /// See [`layout_part_read`].
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<(u32, ColumnKind)>, FormatError> {
        let mut rest = bytes.get(self.at..).ok_or(damaged("column kind"))?;
        let kind = loop {
            if self.column == self.head.column_from + self.head.column_count {
                self.at = bytes.len() - rest.len();
                return Ok(None);
            }
            let (kind, tail) = rest.split_first().ok_or(damaged("column kind"))?;
            rest = tail;
            if let Some(kind) = ColumnKind::from_byte(*kind) {
                break kind;
            }
            // What a newer version has to say of a column is behind its length.
            let length = take_length(&mut rest).ok_or(damaged("length"))?;
            rest = rest.get(length..).ok_or(damaged("length"))?;
            self.column += 1;
            self.left_out += 1;
        };
        let column = self.column;
        if kind != ColumnKind::Age && self.tells_pairs {
            let [left, right] = &mut self.labels;
            let (before, labels) = if self.side == 0 { (left, right) } else { (right, left) };
            let length = told::take(&mut rest, &before[..self.labels_bytes], labels).ok_or(damaged("labels"))?;
            (self.side, self.labels_bytes) = (1 - self.side, length);
        } else if kind != ColumnKind::Age {
            let shared = take_length(&mut rest).ok_or(damaged("shared length"))?;
            let length = take_length(&mut rest).ok_or(damaged("length"))?;
            let (own, tail) = rest.split_at_checked(length).ok_or(damaged("length"))?;
            rest = tail;
            if shared > self.labels_bytes || shared + length > LABELS_BYTES_MAX {
                return Err(damaged("shared length"));
            }
            self.labels_bytes = shared + length;
            self.labels[self.side][shared..self.labels_bytes].copy_from_slice(own);
        }
        self.at = bytes.len() - rest.len();
        self.column += 1;
        Ok(Some((column, kind)))
    }

    /// The labels of the column read last, unless that was an age column.
    ///
    /// # Errors
    ///
    /// See [`layout_part_read`].
    pub fn labels(&self) -> Result<LabelsRef<'_>, FormatError> {
        LabelsRef::decode(&self.labels[self.side][..self.labels_bytes]).map_err(|_| damaged("labels"))
    }
}

fn damaged(field: &'static str) -> FormatError {
    FormatError::Damaged { what: WHAT, field }
}

/// Header, index and body, all checked; where the body begins.
fn open(bytes: &[u8]) -> Result<(LayoutHead, usize), FormatError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(FormatError::Truncated { what: WHAT });
    };
    let head = check_header(header)?;
    let index_bytes = if u16_at(header, 4) < VERSION_OF_INDEX { 0 } else { usize::from(u16_at(header, 6)) };
    let Some((index, body)) = rest.split_at_checked(index_bytes) else {
        return Err(FormatError::Truncated { what: WHAT });
    };
    if u32_at(header, 32) as usize != body.len() {
        return Err(FormatError::Truncated { what: WHAT });
    }
    if !index.is_empty() {
        check_index(index)?;
    }
    if u32_at(header, 36) != crc32(body) {
        return Err(FormatError::Checksum { what: WHAT });
    }
    Ok((head, HEADER_BYTES + index_bytes))
}

fn check_header(header: &[u8; HEADER_BYTES]) -> Result<LayoutHead, FormatError> {
    if u32_at(header, 0) != LAYOUT_MAGIC {
        return Err(FormatError::NotThis { what: WHAT });
    }
    if u32_at(header, 40) != crc32(&header[..40]) {
        return Err(FormatError::Checksum { what: "layout header" });
    }
    let version = u16_at(header, 4);
    if version > VERSION {
        return Err(FormatError::FromNewerVersion { what: WHAT, version });
    }
    let head = LayoutHead {
        timeline: TimelineKey(u64_at(header, 8)),
        layout: u64_at(header, 16),
        column_from: u32_at(header, 24),
        column_count: u32_at(header, 28),
    };
    if head.column_from.checked_add(head.column_count).is_none() {
        return Err(FormatError::Damaged { what: WHAT, field: "column count" });
    }
    Ok(head)
}

/// The index behind its checksum.
fn check_index(index: &[u8]) -> Result<&[u8], FormatError> {
    let Some((crc, hashes)) = index.split_first_chunk::<INDEX_HEAD_BYTES>() else {
        return Err(damaged("index length"));
    };
    if u32::from_le_bytes(*crc) != crc32(hashes) {
        Err(FormatError::Checksum { what: "layout index" })
    } else {
        Ok(hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SliceBytes;
    use super::*;
    use crate::labels::LabelSet;
    use alloc::format;
    use proptest::prelude::*;

    fn write(columns: &[(ColumnKind, LabelSet)], column_from: u32, out: &mut [u8]) -> (usize, u32) {
        let mut writer = LayoutWriter::new(TimelineKey(1), 2, column_from, out).unwrap();
        for (kind, labels) in columns {
            if !writer.push(*kind, labels.as_ref()) {
                break;
            }
        }
        let count = writer.column_count();
        (writer.finish(), count)
    }

    fn columns(count: usize) -> Vec<(ColumnKind, LabelSet)> {
        let column = |index: usize| {
            let (name, le) = (format!("metric_{}", index / 4), format!("{}", index % 4));
            let kind = if index % 5 == 4 { ColumnKind::Age } else { ColumnKind::Float };
            (kind, LabelSet::from_pairs([("__name__", name.as_str()), ("job", "node"), ("le", le.as_str())]))
        };
        (0..count).map(column).collect()
    }

    type Found = Vec<(u32, ColumnKind, LabelSet)>;

    fn read(bytes: &[u8]) -> Result<(LayoutHead, Found), FormatError> {
        let mut found = Vec::new();
        let head = layout_part_read(bytes, &mut |column, kind, labels| {
            found.push((column, kind, LabelSet::from(labels)));
            true
        })?;
        Ok((head, found))
    }

    #[test]
    fn columns_come_back_in_order_and_shared_beginnings_are_written_once() {
        let (columns, mut out) = (columns(100), vec![0; SEGMENT_BYTES_MAX]);
        let (used, count) = write(&columns, 30, &mut out);
        assert_eq!(count, 100);
        let (head, found) = read(&out[..used]).unwrap();
        assert_eq!(head, LayoutHead { timeline: TimelineKey(1), layout: 2, column_from: 30, column_count: 100 });
        let expected: Vec<_> = (30..).zip(columns).map(|(column, (kind, labels))| (column, kind, labels)).collect();
        let labels_of = |(column, kind, labels)| match kind {
            ColumnKind::Float => (column, kind, labels),
            ColumnKind::Age => (column, kind, LabelSet::default()),
        };
        let expected: Vec<_> = expected.into_iter().map(labels_of).collect();
        assert_eq!(found, expected);
        let plain: usize = expected.iter().map(|(_, _, labels)| labels.as_ref().as_bytes().len()).sum();
        assert!(used < plain / 2, "{used} of {plain}");
    }

    #[test]
    fn a_full_part_refuses_the_next_column_and_stays_readable() {
        let long = "v".repeat(LABELS_BYTES_MAX - 200);
        let column = |index: usize| {
            let name = format!("{index:03}{}{index:03}", long.replace('v', ["v", "w"][index % 2]));
            (ColumnKind::Float, LabelSet::from_pairs([("a", name.as_str())]))
        };
        let columns: Vec<_> = (0..40).map(column).collect();
        let mut out = vec![0; SEGMENT_BYTES_MAX];
        let (used, count) = write(&columns, 0, &mut out);
        assert!((20..40).contains(&count), "{count}");
        assert_eq!(read(&out[..used]).unwrap().1.len(), count as usize);
        assert!(matches!(
            LayoutWriter::new(TimelineKey(1), 2, 0, &mut out[..LABELS_BYTES_MAX]),
            Err(FormatError::OutputFull { .. })
        ));
    }

    fn pairs(bytes: &[u8]) -> Result<Option<Vec<u32>>, FormatError> {
        let mut pairs = Vec::new();
        Ok(layout_pairs_read(&mut SliceBytes(bytes), &mut pairs)?.then_some(pairs))
    }

    #[test]
    fn the_index_has_every_pair_of_the_part_and_no_other() {
        let (columns, mut out) = (columns(100), vec![0; SEGMENT_BYTES_MAX]);
        let (used, _) = write(&columns, 0, &mut out);
        let mut expected: Vec<u32> = columns
            .iter()
            .filter(|(kind, _)| *kind == ColumnKind::Float)
            .flat_map(|(_, labels)| labels.iter().map(|(name, value)| pair_hash(name, value)).collect::<Vec<_>>())
            .collect();
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(pairs(&out[..used]), Ok(Some(expected.clone())));
        assert!(expected.len() > 25 && expected.iter().all(|hash| *hash < 1 << PAIR_HASH_BITS));
        let index_bytes = usize::from(u16_at(&out, 6));
        assert!(index_bytes < 4 * expected.len() + INDEX_HEAD_BYTES, "{index_bytes}");
        assert_ne!(pair_hash("ab", "c"), pair_hash("a", "bc"));
        assert_ne!(pair_hash("a", "b"), pair_hash("b", "a"));
        for at in 0..HEADER_BYTES + index_bytes {
            let mut damaged = out[..used].to_vec();
            damaged[at] ^= 4;
            assert!(pairs(&damaged).is_err(), "byte {at}");
        }
        assert!((0..HEADER_BYTES + index_bytes).all(|length| pairs(&out[..length]).is_err()));
    }

    #[test]
    fn a_part_of_too_many_different_pairs_has_no_index_and_is_whole() {
        let column = |index: usize| (ColumnKind::Float, LabelSet::from_pairs([("a", format!("{index:x}").as_str())]));
        for (count, has_index) in [(PAIRS_COUNT_MAX, true), (PAIRS_COUNT_MAX + 40, false)] {
            let columns: Vec<_> = (0..count).map(column).collect();
            let mut out = vec![0; SEGMENT_BYTES_MAX];
            let (used, written) = write(&columns, 0, &mut out);
            assert_eq!((written as usize, read(&out[..used]).unwrap().1.len()), (count, count));
            assert_eq!(pairs(&out[..used]).unwrap().is_some(), has_index, "{count}");
        }
    }

    #[test]
    fn a_part_without_columns_is_a_part() {
        let mut out = vec![0; SEGMENT_BYTES_MAX];
        let (used, _) = write(&[], 7, &mut out);
        assert_eq!(read(&out[..used]).unwrap().1, []);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_told() {
        let mut out = vec![0; SEGMENT_BYTES_MAX];
        let (used, _) = write(&columns(9), 0, &mut out);
        for at in 0..used {
            for bit in 0..8 {
                let mut damaged = out[..used].to_vec();
                damaged[at] ^= 1 << bit;
                assert!(read(&damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!((0..used).all(|length| read(&out[..length]).is_err()));
    }

    proptest! {
        #[test]
        fn foreign_bodies_with_right_checksums_never_panic(
            body in proptest::collection::vec(prop_oneof![0..6_u8, any::<u8>()], 0..400),
            column_from in prop_oneof![Just(0), any::<u32>()],
            column_count in prop_oneof![0..40_u32, any::<u32>()],
            pairs in proptest::collection::btree_set(0..1_u32 << PAIR_HASH_BITS, 0..50),
        ) {
            let mut out = vec![0; SEGMENT_BYTES_MAX];
            let mut writer = LayoutWriter::new(TimelineKey(1), 2, column_from, &mut out).unwrap();
            writer.head.column_count = column_count;
            writer.out[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(&body);
            writer.used += body.len();
            writer.pairs = Some(pairs.into_iter().collect());
            let used = writer.finish();
            let mut given = 0;
            let read = layout_part_read(&out[..used], &mut |_, _, _| { given += 1; true });
            prop_assert!(given <= body.len());
            if let Ok(head) = read {
                let mut cursor = LayoutCursor::new(&out[..used]).unwrap();
                while cursor.next(&out[..used]).unwrap().is_some() {}
                prop_assert_eq!(head.column_count as usize, given + cursor.left_out as usize);
            }
        }
    }
}
