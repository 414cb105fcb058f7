//! A run of integers behind a predictor, divided by what divides all steps, packed by the bit in groups of 16.
//!
//! Bytes: head (predictor in bits 0 to 2, bit 3: a divisor follows), first value (signed), divisor (unsigned), the
//! predictor's base (signed), then the residuals: a 4-bit width code for each group of 16, low half first, and the groups'
//! bits. All arithmetic wraps, so that any 64 bits come back.

use super::{
    CodecError, ROWS_MAX,
    bits::{Reader, Writer, packed_bytes, signed_bytes, unsigned_bytes, unzigzag, zigzag},
};

/// Widths that a group of residuals may have, by code.
const WIDTHS: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64];
const GROUP: usize = 16;
const HEAD_DIVISOR: u8 = 1 << 3;

/// How the next value is guessed. Bits 0 to 2 of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Predictor {
    /// Base plus an unsigned residual: values that wander in a band.
    Floor = 0,
    /// The value before.
    Last = 1,
    /// The value before plus the last step.
    Line = 2,
    /// The value before plus base, plus an unsigned residual: counters.
    LastFloor = 3,
    /// First value plus base times the row: a shared grid with jitter.
    Grid = 4,
}

const PREDICTORS: [Predictor; 5] =
    [Predictor::Floor, Predictor::Last, Predictor::Line, Predictor::LastFloor, Predictor::Grid];

impl Predictor {
    fn has_base(self) -> bool {
        matches!(self, Self::Floor | Self::LastFloor | Self::Grid)
    }

    /// Base from the steps `k` (`k[0]` is 0).
    fn base(self, k: &[i64]) -> i64 {
        match self {
            Self::Floor => k.iter().copied().min().unwrap_or(0),
            Self::LastFloor => k.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).min().unwrap_or(0),
            Self::Grid => match k {
                [first, .., last] => {
                    let span = i128::from(*last) - i128::from(*first);
                    let steps = k.len() as i128 - 1;
                    ((span + steps.div_euclid(2)).div_euclid(steps)) as i64
                }
                _ => 0,
            },
            Self::Last | Self::Line => 0,
        }
    }

    fn guess(self, base: i64, row: usize, before: i64, before_that: i64) -> i64 {
        match self {
            Self::Floor => base,
            Self::Last => before,
            Self::Line => before.wrapping_add(before.wrapping_sub(before_that)),
            Self::LastFloor => before.wrapping_add(base),
            Self::Grid => base.wrapping_mul(row as i64),
        }
    }

    fn is_unsigned(self) -> bool {
        matches!(self, Self::Floor | Self::LastFloor)
    }

    fn residual(self, value: i64, guess: i64) -> u64 {
        let difference = value.wrapping_sub(guess);
        if self.is_unsigned() { difference as u64 } else { zigzag(difference) }
    }

    fn value(self, residual: u64, guess: i64) -> i64 {
        guess.wrapping_add(if self.is_unsigned() { residual as i64 } else { unzigzag(residual) })
    }
}

/// How a run is best written, found by trying all predictors.
struct Choice {
    predictor: Predictor,
    base: i64,
    divisor: u64,
    bytes: usize,
    residuals: [u64; ROWS_MAX],
}

/// Bytes that [`write`] takes.
pub fn bytes(values: &[i64]) -> usize {
    if values.is_empty() { 0 } else { choose(values).bytes }
}

/// Writes a run of at most [`ROWS_MAX`] values; nothing for an empty one.
pub fn write(values: &[i64], writer: &mut Writer<'_>) -> Result<(), CodecError> {
    let Some(first) = values.first() else { return Ok(()) };
    let choice = choose(values);
    let has_divisor = choice.divisor > 1;
    writer.byte(choice.predictor as u8 | if has_divisor { HEAD_DIVISOR } else { 0 })?;
    writer.signed(*first)?;
    if has_divisor {
        writer.unsigned(choice.divisor)?;
    }
    if choice.predictor.has_base() {
        writer.signed(choice.base)?;
    }
    let residuals = &choice.residuals[..values.len() - 1];
    let mut codes = residuals.chunks(GROUP).map(width_code);
    while let Some(low) = codes.next() {
        writer.byte((low | codes.next().unwrap_or(0) << 4) as u8)?;
    }
    for group in residuals.chunks(GROUP) {
        writer.packed(group, WIDTHS[width_code(group)])?;
    }
    Ok(())
}

/// Fills `values`, whose length is the number of values written.
pub fn read(values: &mut [i64], reader: &mut Reader<'_>) -> Result<(), CodecError> {
    if values.is_empty() {
        return Ok(());
    }
    let head = reader.byte()?;
    let predictor = PREDICTORS.get(usize::from(head & 7)).copied().ok_or(CodecError::FromNewerVersion)?;
    if head & !(7 | HEAD_DIVISOR) != 0 {
        return Err(CodecError::FromNewerVersion);
    }
    let first = reader.signed()?;
    let divisor = if head & HEAD_DIVISOR != 0 { reader.unsigned()? } else { 1 };
    let base = if predictor.has_base() { reader.signed()? } else { 0 };
    let count = values.len() - 1;
    let group_count = count.div_ceil(GROUP);
    let codes = reader.take(group_count.div_ceil(2))?;
    values[0] = first;
    let (mut before, mut before_that, mut row) = (0, 0, 1);
    let mut residuals = [0; GROUP];
    for group in 0..group_count {
        let code = codes[group / 2] >> (4 * (group % 2)) & 15;
        let residuals = &mut residuals[..GROUP.min(count - group * GROUP)];
        reader.packed(residuals, WIDTHS[usize::from(code)])?;
        for residual in residuals {
            let k = predictor.value(*residual, predictor.guess(base, row, before, before_that));
            values[row] = first.wrapping_add(k.wrapping_mul(divisor as i64));
            (before_that, before) = (before, k);
            row += 1;
        }
    }
    Ok(())
}

fn choose(values: &[i64]) -> Choice {
    let first = values[0];
    let divisor = values.iter().fold(0, |divisor, value| gcd(divisor, value.wrapping_sub(first).unsigned_abs())).max(1);
    let mut k = [0; ROWS_MAX];
    for (k, value) in k.iter_mut().zip(values) {
        let step = value.wrapping_sub(first);
        // The magnitude of i64::MIN is no i64; as a divisor it leaves only the steps 0 and MIN itself.
        *k = if divisor > i64::MAX as u64 { i64::from(step != 0) } else { step / divisor as i64 };
    }
    let k = &k[..values.len()];
    let mut best: Option<Choice> = None;
    for predictor in PREDICTORS {
        let mut choice = Choice { predictor, base: predictor.base(k), divisor, bytes: 0, residuals: [0; ROWS_MAX] };
        let mut before_that = 0;
        for row in 1..k.len() {
            let guess = predictor.guess(choice.base, row, k[row - 1], before_that);
            choice.residuals[row - 1] = predictor.residual(k[row], guess);
            before_that = k[row - 1];
        }
        choice.bytes = choice_bytes(&choice, first, k.len() - 1);
        if best.as_ref().is_none_or(|best| choice.bytes < best.bytes) {
            best = Some(choice);
        }
    }
    best.unwrap_or_else(|| unreachable!("there are predictors to choose from"))
}

fn choice_bytes(choice: &Choice, first: i64, count: usize) -> usize {
    let groups: usize =
        choice.residuals[..count].chunks(GROUP).map(|group| packed_bytes(group.len(), WIDTHS[width_code(group)])).sum();
    1 + signed_bytes(first)
        + if choice.divisor > 1 { unsigned_bytes(choice.divisor) } else { 0 }
        + if choice.predictor.has_base() { signed_bytes(choice.base) } else { 0 }
        + count.div_ceil(GROUP).div_ceil(2)
        + groups
}

fn width_code(group: &[u64]) -> usize {
    let width = 64 - group.iter().fold(0, |all, residual| all | residual).leading_zeros();
    WIDTHS.iter().position(|offered| *offered >= width).unwrap_or(WIDTHS.len() - 1)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
