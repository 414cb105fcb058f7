//! A layout part: kinds and label sets of some neighbouring columns of a layout, front-coded.
//!
//! Header (44 bytes), then for each column: kind, length of the prefix shared with the labels before, length of the
//! rest, the rest. An age column is its kind alone: its cells are with the values. The first labels of a part share
//! nothing, so that parts are read on their own.

use super::{
    crc::crc32,
    format::{
        FormatError, LAYOUT_MAGIC, SEGMENT_BYTES_MAX, VERSION, put, put_length, take_length, u16_at, u32_at, u64_at,
    },
};
use crate::{
    labels::{LABELS_BYTES_MAX, LabelsRef},
    store::{ColumnKind, TimelineKey},
};

pub const HEADER_BYTES: usize = 44;
const WHAT: &str = "layout part";

/// A layout part's fixed fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutHead {
    pub timeline: TimelineKey,
    pub layout: u64,
    pub column_from: u32,
    pub column_count: u32,
}

/// Writes one part, column by column.
pub struct LayoutWriter<'b> {
    out: &'b mut [u8],
    head: LayoutHead,
    used: usize,
    before: [u8; LABELS_BYTES_MAX],
    before_bytes: usize,
}

impl<'b> LayoutWriter<'b> {
    /// # Errors
    ///
    /// An `out` that does not hold the header and one column of any length.
    pub fn new(timeline: TimelineKey, layout: u64, column_from: u32, out: &'b mut [u8]) -> Result<Self, FormatError> {
        let capacity = out.len();
        let bytes = HEADER_BYTES + LABELS_BYTES_MAX + 8;
        if capacity < bytes {
            return Err(FormatError::OutputFull { bytes, capacity });
        }
        let out = &mut out[..capacity.min(SEGMENT_BYTES_MAX)];
        let head = LayoutHead { timeline, layout, column_from, column_count: 0 };
        Ok(Self { out, head, used: HEADER_BYTES, before: [0; LABELS_BYTES_MAX], before_bytes: 0 })
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
        let before = &self.before[..self.before_bytes];
        let shared = before.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        let Some(added) = put_entry(&mut self.out[self.used..], kind, shared, &bytes[shared..]) else { return false };
        self.used += added;
        self.head.column_count += 1;
        self.before[..bytes.len()].copy_from_slice(bytes);
        self.before_bytes = bytes.len();
        true
    }

    pub fn column_count(&self) -> u32 {
        self.head.column_count
    }

    /// Completes the header and returns the part's length in bytes.
    pub fn finish(self) -> usize {
        let Self { out, head, used, .. } = self;
        put(out, 0, &LAYOUT_MAGIC.to_le_bytes());
        put(out, 4, &VERSION.to_le_bytes());
        put(out, 6, &[0; 2]);
        put(out, 8, &head.timeline.0.to_le_bytes());
        put(out, 16, &head.layout.to_le_bytes());
        put(out, 24, &head.column_from.to_le_bytes());
        put(out, 28, &head.column_count.to_le_bytes());
        put(out, 32, &((used - HEADER_BYTES) as u32).to_le_bytes());
        let body_crc = crc32(&out[HEADER_BYTES..used]);
        put(out, 36, &body_crc.to_le_bytes());
        let head_crc = crc32(&out[..40]);
        put(out, 40, &head_crc.to_le_bytes());
        used
    }
}

fn put_entry(out: &mut [u8], kind: ColumnKind, shared: usize, rest: &[u8]) -> Option<usize> {
    *out.first_mut()? = kind as u8;
    let mut at = 1;
    at += put_length(&mut out[at..], shared)?;
    at += put_length(&mut out[at..], rest.len())?;
    out.get_mut(at..at + rest.len())?.copy_from_slice(rest);
    Some(at + rest.len())
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
    at: usize,
    labels: [u8; LABELS_BYTES_MAX],
    labels_bytes: usize,
}

impl LayoutCursor {
    /// Checks the part as a whole and stands before its first column.
    ///
    /// # Errors
    ///
    /// Bytes that are no such part.
    pub fn new(bytes: &[u8]) -> Result<Self, FormatError> {
        let (head, _) = open(bytes)?;
        Ok(Self { head, column: head.column_from, at: HEADER_BYTES, labels: [0; LABELS_BYTES_MAX], labels_bytes: 0 })
    }

    /// Goes back to the first column.
    pub fn restart(&mut self) {
        (self.column, self.at, self.labels_bytes) = (self.head.column_from, HEADER_BYTES, 0);
    }

    /// Reads the next column's number and kind; `None` behind the last one.
    ///
    /// # Errors
    ///
    /// See [`layout_part_read`].
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<(u32, ColumnKind)>, FormatError> {
        let column = self.column;
        if column == self.head.column_from + self.head.column_count {
            return Ok(None);
        }
        let mut rest = bytes.get(self.at..).ok_or(damaged("column kind"))?;
        let (kind, tail) = rest.split_first().ok_or(damaged("column kind"))?;
        rest = tail;
        let kind = ColumnKind::from_byte(*kind).ok_or(damaged("column kind"))?;
        if kind != ColumnKind::Age {
            let shared = take_length(&mut rest).ok_or(damaged("shared length"))?;
            let length = take_length(&mut rest).ok_or(damaged("length"))?;
            let (own, tail) = rest.split_at_checked(length).ok_or(damaged("length"))?;
            rest = tail;
            if shared > self.labels_bytes || shared + length > LABELS_BYTES_MAX {
                return Err(damaged("shared length"));
            }
            self.labels_bytes = shared + length;
            self.labels[shared..self.labels_bytes].copy_from_slice(own);
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
        LabelsRef::decode(&self.labels[..self.labels_bytes]).map_err(|_| damaged("labels"))
    }
}

fn damaged(field: &'static str) -> FormatError {
    FormatError::Damaged { what: WHAT, field }
}

/// Header and body, both checked.
fn open(bytes: &[u8]) -> Result<(LayoutHead, &[u8]), FormatError> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(FormatError::Truncated { what: WHAT });
    };
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
    if u32_at(header, 32) as usize != body.len() {
        return Err(FormatError::Truncated { what: WHAT });
    }
    if u32_at(header, 36) != crc32(body) {
        return Err(FormatError::Checksum { what: WHAT });
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
    Ok((head, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::LabelSet;
    use alloc::{format, vec, vec::Vec};
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
            let name = format!("{index:03}{long}");
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
        ) {
            let mut out = vec![0; SEGMENT_BYTES_MAX];
            let mut writer = LayoutWriter::new(TimelineKey(1), 2, column_from, &mut out).unwrap();
            writer.head.column_count = column_count;
            writer.out[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(&body);
            writer.used += body.len();
            let used = writer.finish();
            let mut given = 0;
            let read = layout_part_read(&out[..used], &mut |_, _, _| { given += 1; true });
            prop_assert!(given <= body.len());
            if let Ok(head) = read {
                prop_assert_eq!(head.column_count as usize, given);
            }
        }
    }
}
