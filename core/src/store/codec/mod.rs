//! Columns of up to 256 rows as few bytes, and back, bit for bit.
//!
//! A column is a head byte (form, presence, kind, reference), the presence states where not every row has a value, then
//! the values. Forms: nothing, a constant, integers or exact decimals behind a predictor and packed by the bit, and raw
//! cells where nothing smaller holds them. A decimal may have a drift, and exceptions. Columns are written in *stripes*: one
//! may be told as its difference to a column just before it, as a histogram's bucket to the bucket before.
//! docs/SPILL_FORMAT.md, "Columns", has every byte.
//!
//! [`StripeEncoder`] and [`StripeDecoder`] go through a stripe from its first column on; [`StripeWalk`] steps over
//! columns that nobody asked for, and tells where to begin decoding for one of them.
//!
//! No allocation. An encoder or decoder holds 36 bytes a row of earlier columns, and encoding one column takes 24 bytes a
//! row of stack besides: with the 16 rows of a chunk 1 KiB together, with 256 rows 15 KiB.

pub mod aged;
mod bits;
mod decimal;
mod decoder;
mod drift;
mod encoder;
mod exceptions;
mod head;
mod history;
mod instants;
mod integers;
mod integers_v1;
mod interval;
mod presence;
mod range;
pub mod tail;
mod walk;

pub use decoder::StripeDecoder;
pub use encoder::StripeEncoder;
pub use head::{SHORT_HEADS, column_kind};
pub use instants::{decode_instants, encode_instants, instants_bytes_max};
pub use walk::{Stepped, StripeWalk};

/// Most rows one column or one run of instants may have.
pub const ROWS_MAX: usize = 256;

/// What a row holds in one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Presence {
    /// Nothing: the series was not in this row.
    #[default]
    Absent = 0,
    Value = 1,
    /// The series ended here; no value is kept.
    Stale = 2,
}

impl Presence {
    /// From the two bits by which slab and flash name it.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Absent),
            1 => Some(Self::Value),
            2 => Some(Self::Stale),
            _ => None,
        }
    }
}

/// What a column's cells are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ColumnKind {
    /// The bits of an IEEE 754 double.
    Float = 0,
    /// Milliseconds by which a sample's own timestamp lies before its row's instant, an `i64` as `u64`.
    Age = 1,
}

impl ColumnKind {
    /// From the byte by which a layout names it.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Float),
            1 => Some(Self::Age),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("{rows} rows are more than the {rows_max} one column may have here; encode them in several runs")]
    TooManyRows { rows: usize, rows_max: usize },
    #[error("{rows} rows do not fit the {cells} cells and {presence} presence states given; pass slices of one length")]
    LengthsDiffer { rows: usize, cells: usize, presence: usize },
    #[error("the encoded column does not fit the {capacity} bytes given; pass at least column_bytes_max(rows)")]
    OutputFull { capacity: usize },
    #[error("the encoded column ends too early; it is torn or damaged")]
    Truncated,
    #[error("the encoded column has a field that no version writes; it is damaged")]
    Damaged,
    #[error("the encoded column has a form this version does not know; use the version that wrote it")]
    FromNewerVersion,
}

/// Most bytes that [`StripeEncoder::column`] writes for `rows` rows: the raw form with presence bits.
pub const fn column_bytes_max(rows: usize) -> usize {
    1 + rows.div_ceil(4) + 8 * rows
}

#[cfg(all(test, feature = "alloc"))]
#[path = "codec_tests.rs"]
mod tests;

#[cfg(all(test, feature = "alloc"))]
#[path = "stripe_tests.rs"]
mod stripe_tests;
