//! One column of up to 256 rows as few bytes, and back, bit for bit.
//!
//! A column is encoded on its own: a head byte (form, presence, kind), the presence states where not every row has a
//! value, then the values. Forms: nothing, a constant, integers or exact decimals behind a predictor and packed by the
//! bit, and raw cells where nothing smaller holds them. docs/SPILL_FORMAT.md, "Columns", has every byte.
//!
//! No allocation: scratch is a few KiB of stack.

mod bits;
mod decimal;
mod instants;
mod integers;
mod presence;

use bits::{Reader, Writer};
pub use instants::{decode_instants, encode_instants, instants_bytes_max};

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
    #[error("{rows} rows are more than the {ROWS_MAX} one column may have; encode them in several runs")]
    TooManyRows { rows: usize },
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

/// Most bytes that [`encode_column`] writes for `rows` rows: the raw form with presence bits.
pub const fn column_bytes_max(rows: usize) -> usize {
    1 + rows.div_ceil(4) + 8 * rows
}

/// Writes one column at the start of `out` and returns its length in bytes.
///
/// `cells[i]` counts only where `presence[i]` is [`Presence::Value`].
///
/// # Errors
///
/// Slices of different lengths, more than [`ROWS_MAX`] rows, or an `out` that is too short; never because of the values.
pub fn encode_column(
    kind: ColumnKind,
    cells: &[u64],
    presence: &[Presence],
    out: &mut [u8],
) -> Result<usize, CodecError> {
    let rows = cells.len();
    if rows > ROWS_MAX {
        return Err(CodecError::TooManyRows { rows });
    }
    if presence.len() != rows {
        return Err(CodecError::LengthsDiffer { rows, cells: rows, presence: presence.len() });
    }
    let mut values = [0; ROWS_MAX];
    let mut count = 0;
    for (cell, state) in cells.iter().zip(presence) {
        if *state == Presence::Value {
            values[count] = *cell;
            count += 1;
        }
    }
    let values = &values[..count];
    let mut writer = Writer::new(out);
    let coding = presence::Coding::choose(presence);
    let head = coding.head() | if kind == ColumnKind::Age { HEAD_AGE } else { 0 };
    let mut integers = [0; ROWS_MAX];
    let integers = &mut integers[..count];
    let transform = match kind {
        ColumnKind::Float => decimal::integers(values, integers),
        ColumnKind::Age => {
            integers.iter_mut().zip(values).for_each(|(integer, value)| *integer = *value as i64);
            0
        }
    };
    let plan = integers::Plan::of(integers);
    let form = Form::choose(transform, integers, plan.as_ref());
    writer.byte(head | form as u8)?;
    coding.write(presence, &mut writer)?;
    match form {
        Form::Nothing | Form::Zero | Form::One => {}
        Form::ConstantInteger => writer.signed(integers[0])?,
        Form::ConstantDecimal => {
            writer.byte(transform)?;
            writer.signed(integers[0])?;
        }
        Form::ConstantRaw => writer.bytes(&values[0].to_le_bytes())?,
        Form::Packed => {
            writer.byte(transform)?;
            if let Some(plan) = plan {
                plan.write(integers, &mut writer)?;
            }
        }
        Form::Raw => {
            for value in values {
                writer.bytes(&value.to_le_bytes())?;
            }
        }
    }
    Ok(writer.used())
}

/// Reads one column of `rows` rows from the start of `bytes` into the first `rows` cells and presence states, and
/// returns how many bytes it took. A cell whose row has no value is set to 0.
///
/// # Errors
///
/// Slices shorter than `rows`, more than [`ROWS_MAX`] rows, or bytes that are no column: then what the slices hold
/// means nothing.
pub fn decode_column(
    bytes: &[u8],
    rows: usize,
    cells: &mut [u64],
    presence: &mut [Presence],
) -> Result<usize, CodecError> {
    if rows > ROWS_MAX {
        return Err(CodecError::TooManyRows { rows });
    }
    if cells.len() < rows || presence.len() < rows {
        return Err(CodecError::LengthsDiffer { rows, cells: cells.len(), presence: presence.len() });
    }
    let (cells, presence) = (&mut cells[..rows], &mut presence[..rows]);
    let mut reader = Reader::new(bytes);
    let head = reader.byte()?;
    if head & HEAD_RESERVED != 0 {
        return Err(CodecError::FromNewerVersion);
    }
    let age = head & HEAD_AGE != 0;
    presence::read(head, presence, &mut reader)?;
    let count = presence.iter().filter(|state| **state == Presence::Value).count();
    let form = Form::from_head(head);
    if (form == Form::Nothing) != (count == 0) {
        return Err(CodecError::Damaged);
    }
    match form {
        Form::Nothing => {}
        Form::Zero => cells[..count].fill(0),
        Form::One => cells[..count].fill(if age { 1 } else { 1.0_f64.to_bits() }),
        Form::ConstantInteger => {
            let value = reader.signed()?;
            cells[..count].fill(cell(age, 0, value)?);
        }
        Form::ConstantDecimal => {
            let transform = transform(age, &mut reader)?;
            let value = reader.signed()?;
            cells[..count].fill(cell(age, transform, value)?);
        }
        Form::ConstantRaw => cells[..count].fill(reader.u64()?),
        Form::Packed => {
            let transform = transform(age, &mut reader)?;
            let mut values = [0; ROWS_MAX];
            integers::read(&mut values[..count], &mut reader)?;
            for (target, value) in cells.iter_mut().zip(&values[..count]) {
                *target = cell(age, transform, *value)?;
            }
        }
        Form::Raw => {
            for cell in &mut cells[..count] {
                *cell = reader.u64()?;
            }
        }
    }
    spread(cells, presence, count);
    Ok(reader.used())
}

/// What an encoded column holds, from its head alone; `None` when there is no head or a newer version wrote it.
pub fn column_kind(bytes: &[u8]) -> Option<ColumnKind> {
    let head = *bytes.first()?;
    match head & (HEAD_RESERVED | HEAD_AGE) {
        0 => Some(ColumnKind::Float),
        HEAD_AGE => Some(ColumnKind::Age),
        _ => None,
    }
}

/// Bits 0 to 2 of a column's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Form {
    /// No row has a value.
    Nothing = 0,
    Zero = 1,
    One = 2,
    ConstantInteger = 3,
    ConstantDecimal = 4,
    ConstantRaw = 5,
    Packed = 6,
    Raw = 7,
}

/// Bits 3 and 4 are the presence coding.
const HEAD_AGE: u8 = 1 << 5;
const HEAD_RESERVED: u8 = 0b1100_0000;

impl Form {
    /// The shortest form for these integers, which stand for the column's values.
    fn choose(transform: u8, integers: &[i64], plan: Option<&integers::Plan>) -> Self {
        let (Some(plan), Some(first)) = (plan, integers.first()) else { return Self::Nothing };
        if integers.iter().all(|integer| integer == first) {
            return match (transform, *first) {
                (0, 0) => Self::Zero,
                (0, 1) => Self::One,
                (0, value) if bits::signed_bytes(value) < 8 => Self::ConstantInteger,
                (decimal::ORDERED, _) => Self::ConstantRaw,
                (_, value) if bits::signed_bytes(value) < 7 => Self::ConstantDecimal,
                _ => Self::ConstantRaw,
            };
        }
        if 1 + plan.bytes < 8 * integers.len() { Self::Packed } else { Self::Raw }
    }

    fn from_head(head: u8) -> Self {
        match head & 7 {
            0 => Self::Nothing,
            1 => Self::Zero,
            2 => Self::One,
            3 => Self::ConstantInteger,
            4 => Self::ConstantDecimal,
            5 => Self::ConstantRaw,
            6 => Self::Packed,
            _ => Self::Raw,
        }
    }
}

/// Ages are integers already; their transform is always 0.
fn transform(age: bool, reader: &mut Reader<'_>) -> Result<u8, CodecError> {
    let transform = reader.byte()?;
    if age && transform != 0 { Err(CodecError::FromNewerVersion) } else { Ok(transform) }
}

fn cell(age: bool, transform: u8, value: i64) -> Result<u64, CodecError> {
    if age { Ok(value as u64) } else { decimal::bits(transform, value) }
}

/// Moves the values, packed at the front, to their rows.
fn spread(cells: &mut [u64], presence: &[Presence], count: usize) {
    let mut next = count;
    for row in (0..cells.len()).rev() {
        cells[row] = if presence[row] == Presence::Value {
            next -= 1;
            cells[next]
        } else {
            0
        };
    }
}

#[cfg(all(test, feature = "alloc"))]
#[path = "codec_tests.rs"]
mod tests;
