//! A timeline's instants: one timestamp per row, shared by all its columns.

use super::{
    CodecError, ROWS_MAX,
    bits::{Reader, Writer},
    integers::{self, INSTANTS, Plan, TAG_MASK},
    integers_v1,
};

/// Most bytes that [`encode_instants`] writes for `rows` rows.
pub const fn instants_bytes_max(rows: usize) -> usize {
    // Head, first, divisor, base; a width code per 16 rows; raw residuals.
    32 + rows.div_ceil(32) + 8 * rows
}

/// Writes instants (milliseconds, any order) at the start of `out` and returns their length in bytes: a grid with
/// jitter, or steps, whichever is shorter.
///
/// # Errors
///
/// More than [`ROWS_MAX`] instants, or an `out` that is too short.
pub fn encode_instants(instants_ms: &[i64], out: &mut [u8]) -> Result<usize, CodecError> {
    if instants_ms.len() > ROWS_MAX {
        return Err(CodecError::TooManyRows { rows: instants_ms.len(), rows_max: ROWS_MAX });
    }
    let mut writer = Writer::new(out);
    if let Some(plan) = Plan::of(instants_ms, INSTANTS) {
        plan.write(0, instants_ms, &mut writer)?;
    }
    Ok(writer.used())
}

/// Reads `rows` instants into the start of `instants_ms` and returns how many bytes they took.
///
/// # Errors
///
/// A slice shorter than `rows`, more than [`ROWS_MAX`] rows, or bytes that are no instants.
pub fn decode_instants(bytes: &[u8], rows: usize, instants_ms: &mut [i64]) -> Result<usize, CodecError> {
    if rows > ROWS_MAX {
        return Err(CodecError::TooManyRows { rows, rows_max: ROWS_MAX });
    }
    let cells = instants_ms.len();
    let instants_ms = instants_ms.get_mut(..rows).ok_or(CodecError::LengthsDiffer { rows, cells, presence: rows })?;
    let mut reader = Reader::new(bytes);
    if rows > 0 {
        match reader.byte()? {
            head @ ..=TAG_MASK => integers_v1::read(head, instants_ms, &mut reader)?,
            head if head & TAG_MASK == 0 => integers::read(head, instants_ms, &mut reader)?,
            _ => return Err(CodecError::Damaged),
        }
    }
    Ok(reader.used())
}
