//! Sums over the entries of the indexes: a number that changed, or an entry that went, is told.
//!
//! SQLite has no checksums. A flipped bit in an index makes a segment unfindable or gives it another time, and nothing would
//! say so. So the database keeps, among the states, for each index the sum of its entries' hashes. Every transaction
//! keeps them true; a start reads the indexes once, which are some hundredths of what is stored, and compares.

use super::Bounds;
use holdfast_core::{
    prng::{mix, stable_hash},
    spill::crc32,
    store::stored::SegmentMeta,
};
use rusqlite::{Connection, Row, types::ValueRef};

/// Under this name the database keeps them. Their own row is in none of them.
pub const SUMS_KEY: &str = "indexes";

/// What is summed: the entries of an index, told by the columns it has, and the row's number.
pub struct Index {
    pub name: &'static str,
    table: &'static str,
    columns: &'static str,
}

const SEGMENTS_BY_ROW: usize = 0;
const SEGMENTS_BY_LAYOUT: usize = 1;
const SEGMENTS_BY_END: usize = 2;
const SEGMENTS_BY_START: usize = 3;
const LAYOUTS_BY_LAYOUT: usize = 4;
const LAYOUTS_BY_TIMELINE: usize = 5;
const STATES: usize = 6;

/// In the order of their sums. A state's index has its key; its sum is over key and value.
pub const INDEXES: [Index; 7] = [
    index("segments_by_row", "segments", "timeline, row_from, column_from, row_count, sequence"),
    index("segments_by_layout", "segments", "layout, t_max, t_min, column_from, column_count, sequence"),
    index("segments_by_end", "segments", "t_max, sequence"),
    index("segments_by_start", "segments", "t_min, sequence"),
    index("layouts_by_layout", "layouts", "layout, column_from, part"),
    index("layouts_by_timeline", "layouts", "timeline, part"),
    index("sqlite_autoindex_state_1", "state", "key, value"),
];

const fn index(name: &'static str, table: &'static str, columns: &'static str) -> Index {
    Index { name, table, columns }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub segment_count: u64,
    of: [u64; INDEXES.len()],
}

/// What becomes of the rows that are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Put,
    Gone,
}

/// A layout part's row, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRow {
    pub part: i64,
    pub timeline: i64,
    pub layout: i64,
    pub column_from: i64,
}

/// From where entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    Indexes,
    /// Reads the first page of every blob: only where an index is wrong.
    Tables,
}

impl Sums {
    const VERSION: u64 = 1;
    const CRC: usize = 16 + 8 * INDEXES.len();
    pub const BYTES: usize = Self::CRC + 4;

    pub fn segment(&mut self, change: Change, meta: &SegmentMeta) {
        let SegmentMeta { sequence, timeline, layout, row_from, row_count, column_from, column_count, .. } = *meta;
        let (row_count, column_from, column_count) =
            (u64::from(row_count), u64::from(column_from), u64::from(column_count));
        let (t_min, t_max) = (meta.t_min_ms as u64, meta.t_max_ms as u64);
        self.count(change, SEGMENTS_BY_ROW, &[timeline.0, row_from, column_from, row_count, sequence]);
        self.count(change, SEGMENTS_BY_LAYOUT, &[layout, t_max, t_min, column_from, column_count, sequence]);
        self.count(change, SEGMENTS_BY_END, &[t_max, sequence]);
        self.count(change, SEGMENTS_BY_START, &[t_min, sequence]);
        self.segment_count = match change {
            Change::Put => self.segment_count.wrapping_add(1),
            Change::Gone => self.segment_count.wrapping_sub(1),
        };
    }

    pub fn layout(&mut self, change: Change, row: &PartRow) {
        let fields = [row.layout, row.column_from, row.part].map(|field| field as u64);
        self.count(change, LAYOUTS_BY_LAYOUT, &fields);
        self.count(change, LAYOUTS_BY_TIMELINE, &[row.timeline as u64, row.part as u64]);
    }

    pub fn state(&mut self, change: Change, key: &str, value: &[u8]) {
        self.count(change, STATES, &[text_hash(key.as_bytes()), blob_hash(value)]);
    }

    fn count(&mut self, change: Change, index: usize, fields: &[u64]) {
        let hash = fields.iter().fold(start(index), |hash, field| mix(hash ^ field));
        self.of[index] = match change {
            Change::Put => self.of[index].wrapping_add(hash),
            Change::Gone => self.of[index].wrapping_sub(hash),
        };
    }

    /// Reads every entry, with the bounds of the segments among them.
    pub fn read(connection: &Connection, along: Along) -> rusqlite::Result<(Self, Bounds)> {
        let (mut sums, mut bounds) = (Self::default(), Bounds::default());
        for (number, index) in INDEXES.iter().enumerate() {
            let Index { name, table, columns } = index;
            let by = match along {
                Along::Indexes => format!("INDEXED BY {name}"),
                Along::Tables => "NOT INDEXED".to_owned(),
            };
            let mut statement = connection.prepare(&format!("SELECT {columns} FROM {table} {by}"))?;
            let width = statement.column_count();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if number == STATES && row.get_ref(0)? == ValueRef::Text(SUMS_KEY.as_bytes()) {
                    continue;
                }
                let mut hash = start(number);
                for column in 0..width {
                    hash = mix(hash ^ value_hash(row.get_ref(column)?));
                }
                sums.of[number] = sums.of[number].wrapping_add(hash);
                sums.segment_count += u64::from(number == SEGMENTS_BY_ROW);
                bounds.raise(number, row)?;
            }
        }
        Ok((sums, bounds))
    }

    /// The indexes whose sums differ.
    pub fn differing(&self, other: &Self) -> Vec<&'static Index> {
        let differs = |number: &usize| self.of[*number] != other.of[*number];
        (0..INDEXES.len()).filter(differs).map(|number| &INDEXES[number]).collect()
    }

    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = [Self::VERSION, self.segment_count].into_iter().chain(self.of);
        for (field, out) in fields.zip(bytes.chunks_exact_mut(8)) {
            out.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32(&bytes[..Self::CRC]);
        bytes[Self::CRC..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None`: damaged, or of a version that this program does not know.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, crc) = bytes.split_at_checked(Self::CRC)?;
        let mut fields = fields.chunks_exact(8).map(|field| field.try_into().map(u64::from_le_bytes).ok());
        let version = fields.next()??;
        if crc != crc32(&bytes[..Self::CRC]).to_le_bytes() || version != Self::VERSION {
            return None;
        }
        let mut sums = Self { segment_count: fields.next()??, ..Self::default() };
        for sum in &mut sums.of {
            *sum = fields.next()??;
        }
        Some(sums)
    }
}

impl Bounds {
    /// What an entry tells of its segment. Whatever is no number was never put.
    fn raise(&mut self, index: usize, row: &Row<'_>) -> rusqlite::Result<()> {
        let number = |column: usize| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_i64().unwrap_or(0));
        match index {
            SEGMENTS_BY_ROW => {
                let row_count = u32::try_from(number(3)?).unwrap_or(u32::MAX);
                self.row_count_max = self.row_count_max.max(row_count);
            }
            SEGMENTS_BY_LAYOUT => self.span_ms_max = self.span_ms_max.max(number(1)?.saturating_sub(number(2)?)),
            _ => {}
        }
        Ok(())
    }
}

/// So that the same numbers come to something else in each index.
fn start(index: usize) -> u64 {
    mix(index as u64 + 1)
}

fn text_hash(text: &[u8]) -> u64 {
    stable_hash(text)
}

fn blob_hash(bytes: &[u8]) -> u64 {
    u64::from(crc32(bytes)) << 32 | bytes.len() as u64 & 0xffff_ffff
}

/// A value of another type than the column has is damage: it comes to something that was never added.
fn value_hash(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Integer(number) => number as u64,
        ValueRef::Text(text) => text_hash(text),
        ValueRef::Blob(bytes) => blob_hash(bytes),
        ValueRef::Null => mix(1),
        ValueRef::Real(number) => mix(number.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::store::TimelineKey;

    const META: SegmentMeta = SegmentMeta {
        sequence: 9,
        timeline: TimelineKey(u64::MAX),
        layout: 3,
        row_from: 100,
        row_count: 10,
        column_from: 5,
        column_count: 6,
        t_min_ms: -1,
        t_max_ms: 7,
    };

    #[test]
    fn what_was_put_and_is_gone_leaves_nothing_whatever_the_order() {
        let mut sums = Sums::default();
        let other = SegmentMeta { sequence: 10, ..META };
        sums.segment(Change::Put, &META);
        let one = sums;
        sums.segment(Change::Put, &other);
        sums.state(Change::Put, "rules", &[1, 2]);
        sums.segment(Change::Gone, &other);
        sums.state(Change::Gone, "rules", &[1, 2]);
        assert_eq!(sums, one);
        sums.segment(Change::Gone, &META);
        assert_eq!(sums, Sums::default());
    }

    #[test]
    fn every_number_of_a_segment_is_in_a_sum() {
        let sums_of = |meta: &SegmentMeta| {
            let mut sums = Sums::default();
            sums.segment(Change::Put, meta);
            sums
        };
        for changed in [
            SegmentMeta { sequence: 8, ..META },
            SegmentMeta { timeline: TimelineKey(1), ..META },
            SegmentMeta { layout: 2, ..META },
            SegmentMeta { row_from: 101, ..META },
            SegmentMeta { row_count: 11, ..META },
            SegmentMeta { column_from: 4, ..META },
            SegmentMeta { column_count: 7, ..META },
            SegmentMeta { t_min_ms: 0, ..META },
            SegmentMeta { t_max_ms: 6, ..META },
        ] {
            assert!(!sums_of(&changed).differing(&sums_of(&META)).is_empty(), "{changed:?}");
        }
    }

    #[test]
    fn they_come_back_and_every_flipped_bit_and_every_cut_is_damage() {
        let mut sums = Sums::default();
        sums.segment(Change::Put, &META);
        let bytes = sums.encode();
        assert_eq!(Sums::decode(&bytes), Some(sums));
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Sums::decode(&damaged), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(Sums::decode(&bytes[..length]), None, "{length} bytes");
        }
    }
}
