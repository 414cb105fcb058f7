//! Runs of integers as version 1 of the format has them; nothing writes these any more.
//!
//! Bytes: head (predictor in bits 0 to 2, bit 3: a divisor follows), first value (signed), divisor (unsigned), the
//! predictor's base (signed, where it has one), then the residuals: a 4-bit width code for each group of 16, low half
//! first, and the groups' bits; a group ends on a byte.

use super::{
    CodecError,
    bits::{BitReader, Reader},
    integers::Predictor,
};

/// Widths that a group of residuals may have, by code.
const WIDTHS: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64];
const GROUP: usize = 16;
const HEAD_DIVISOR: u8 = 1 << 3;

/// Fills `values`, whose length is the number of values written, at least one; `head` is the run's first byte, already
/// read.
pub fn read(head: u8, values: &mut [i64], reader: &mut Reader<'_>) -> Result<(), CodecError> {
    let RunHead { predictor, first, divisor, base } = RunHead::read(head, reader)?;
    let count = values.len() - 1;
    let codes = reader.take(count.div_ceil(GROUP).div_ceil(2))?;
    values[0] = first;
    let (mut before, mut before_that) = (0, 0);
    let mut residuals = [0; GROUP];
    for (group, values) in values[1..].chunks_mut(GROUP).enumerate() {
        let residuals = &mut residuals[..values.len()];
        let width = group_width(codes, group);
        BitReader::new(reader.take(group_bytes(values.len(), width))?).fields(residuals, width)?;
        for (at, (value, residual)) in values.iter_mut().zip(residuals).enumerate() {
            let guess = predictor.guess(base, 1 + group * GROUP + at, before, before_that);
            let k = predictor.value(*residual, guess);
            *value = first.wrapping_add(k.wrapping_mul(divisor as i64));
            (before_that, before) = (before, k);
        }
    }
    Ok(())
}

/// Steps over a run of `count` values; one without any is damage.
pub fn skip(head: u8, count: usize, reader: &mut Reader<'_>) -> Result<(), CodecError> {
    RunHead::read(head, reader)?;
    let residuals = count.checked_sub(1).ok_or(CodecError::Damaged)?;
    let codes = reader.take(residuals.div_ceil(GROUP).div_ceil(2))?;
    let groups = 0..residuals.div_ceil(GROUP);
    let bytes = groups.map(|group| group_bytes(GROUP.min(residuals - group * GROUP), group_width(codes, group)));
    reader.take(bytes.sum()).map(|_| ())
}

fn group_width(codes: &[u8], group: usize) -> u32 {
    WIDTHS[usize::from(codes[group / 2] >> (4 * (group % 2)) & 15)]
}

fn group_bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// What a run says before its residuals.
struct RunHead {
    predictor: Predictor,
    first: i64,
    divisor: u64,
    base: i64,
}

impl RunHead {
    fn read(head: u8, reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let predictor = Predictor::of((head & 7) + 1).ok_or(CodecError::FromNewerVersion)?;
        if head & !(7 | HEAD_DIVISOR) != 0 {
            return Err(CodecError::FromNewerVersion);
        }
        let first = reader.signed()?;
        let divisor = if head & HEAD_DIVISOR != 0 { reader.unsigned()? } else { 1 };
        let base = if predictor.has_base() { reader.signed()? } else { 0 };
        Ok(Self { predictor, first, divisor, base })
    }
}
