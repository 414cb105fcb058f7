//! Values among decimals that are none: NaN, infinities, minus zero, and what is beyond 64 bits.
//!
//! Bytes, for each run of equal ones: the values since the last run, times two, plus 1 where eight bytes follow that say
//! what the exception is (else it is as the run before; before the first one NaN as parsers make it); and the run's
//! length less 1, both unsigned. In the column's integers there are any others in their place.

use super::{
    CodecError,
    bits::{Reader, Writer, unsigned_bytes},
};

/// Most runs of one column: they are counted in five bits.
pub const RUNS_MAX: usize = 31;

/// What a parser makes of `NaN`: part of the format.
const NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Whether no decimal can stand for these bits, whatever its exponent.
pub fn is_exception(cell: u64) -> bool {
    let is_in_range = libm::fabs(f64::from_bits(cell)) < -(i64::MIN as f64);
    !is_in_range || cell == (-0.0_f64).to_bits()
}

/// How many runs there are, and their bytes.
pub fn measure(values: &[u64]) -> (usize, usize) {
    let (mut runs, mut bytes) = (0, 0);
    each(values, |run| {
        runs += 1;
        bytes += unsigned_bytes(run.gap()) + unsigned_bytes(run.length - 1) + if run.is_new { 8 } else { 0 };
        Ok(())
    })
    .map_or((0, 0), |()| (runs, bytes))
}

pub fn write(values: &[u64], writer: &mut Writer<'_>) -> Result<(), CodecError> {
    each(values, |run| {
        writer.unsigned(run.gap())?;
        writer.unsigned(run.length - 1)?;
        if run.is_new { writer.bytes(&run.cell.to_le_bytes()) } else { Ok(()) }
    })
}

/// Reads `runs` runs and puts them in their places among `cells`.
pub fn read(runs: u8, cells: &mut [u64], reader: &mut Reader<'_>) -> Result<(), CodecError> {
    let (mut rest, mut cell) = (cells, NAN_BITS);
    for _ in 0..runs {
        let gap = reader.unsigned()?;
        let length = reader.unsigned()?;
        if gap & 1 == 1 {
            cell = reader.u64()?;
        }
        let before = usize::try_from(gap >> 1).map_err(|_| CodecError::Damaged)?;
        let length =
            usize::try_from(length).ok().and_then(|length| length.checked_add(1)).ok_or(CodecError::Damaged)?;
        let (_, after) = rest.split_at_mut_checked(before).ok_or(CodecError::Damaged)?;
        let (run, after) = after.split_at_mut_checked(length).ok_or(CodecError::Damaged)?;
        run.fill(cell);
        rest = after;
    }
    Ok(())
}

/// Steps over `runs` runs.
pub fn skip(runs: u8, reader: &mut Reader<'_>) -> Result<(), CodecError> {
    for _ in 0..runs {
        let gap = reader.unsigned()?;
        reader.unsigned()?;
        reader.take(if gap & 1 == 1 { 8 } else { 0 })?;
    }
    Ok(())
}

struct Run {
    before: u64,
    length: u64,
    cell: u64,
    /// Another exception than the run before.
    is_new: bool,
}

impl Run {
    fn gap(&self) -> u64 {
        self.before << 1 | u64::from(self.is_new)
    }
}

fn each(values: &[u64], mut give: impl FnMut(&Run) -> Result<(), CodecError>) -> Result<(), CodecError> {
    let (mut before, mut last) = (0, NAN_BITS);
    for same in values.chunk_by(|a, b| a == b) {
        let length = same.len() as u64;
        if is_exception(same[0]) {
            give(&Run { before, length, cell: same[0], is_new: same[0] != last })?;
            (before, last) = (0, same[0]);
        } else {
            before += length;
        }
    }
    Ok(())
}
