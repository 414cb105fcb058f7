//! A run of integers behind a predictor, divided by what divides all steps, packed by the bit in groups of 16.
//!
//! Bytes: head (predictor in bits 0 to 2, bit 3: a divisor follows), first value (signed), divisor (unsigned), the
//! predictor's base (signed, where it has one), then the residuals: a 4-bit width code for each group of 16, low half first, and the groups'
//! bits. All arithmetic wraps, so that any 64 bits come back.

use super::{
    CodecError,
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

    /// The base for these steps, of which the first is 0.
    fn base(self, steps: impl Iterator<Item = i64> + Clone) -> i64 {
        match self {
            Self::Floor => steps.min().unwrap_or(0),
            Self::LastFloor => {
                steps.clone().skip(1).zip(steps).map(|(step, before)| step.wrapping_sub(before)).min().unwrap_or(0)
            }
            Self::Grid => {
                let (last, count) = steps.fold((0, 0), |(_, count), step| (step, count + 1));
                let gaps = i128::from(count - 1).max(1);
                (i128::from(last) + gaps / 2).div_euclid(gaps) as i64
            }
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

/// How one run of values is best written, found by trying all predictors.
#[derive(Clone, Copy)]
pub struct Plan {
    predictor: Predictor,
    base: i64,
    divisor: u64,
    /// What [`Plan::write`] takes.
    pub bytes: usize,
}

impl Plan {
    /// `None` for an empty run, which takes no bytes.
    pub fn of(values: &[i64]) -> Option<Self> {
        let first = *values.first()?;
        let divisor =
            values.iter().fold(0, |divisor, value| gcd(divisor, value.wrapping_sub(first).unsigned_abs())).max(1);
        let mut best: Option<Self> = None;
        for predictor in PREDICTORS {
            let mut plan = Self { predictor, base: 0, divisor, bytes: 0 };
            plan.base = predictor.base(plan.steps(values));
            plan.bytes = plan.bytes_of(values, first);
            if best.as_ref().is_none_or(|best| plan.bytes < best.bytes) {
                best = Some(plan);
            }
        }
        best
    }

    /// Writes the run this plan was made for.
    pub fn write(&self, values: &[i64], writer: &mut Writer<'_>) -> Result<(), CodecError> {
        let Some(first) = values.first() else { return Ok(()) };
        let has_divisor = self.divisor > 1;
        writer.byte(self.predictor as u8 | if has_divisor { HEAD_DIVISOR } else { 0 })?;
        writer.signed(*first)?;
        if has_divisor {
            writer.unsigned(self.divisor)?;
        }
        if self.predictor.has_base() {
            writer.signed(self.base)?;
        }
        let mut low_half = None;
        self.groups(values, |group| {
            let code = width_code(group) as u8;
            match low_half.take() {
                None => {
                    low_half = Some(code);
                    Ok(())
                }
                Some(low) => writer.byte(low | code << 4),
            }
        })?;
        if let Some(low) = low_half {
            writer.byte(low)?;
        }
        self.groups(values, |group| writer.packed(group, WIDTHS[width_code(group)]))
    }

    fn bytes_of(&self, values: &[i64], first: i64) -> usize {
        let mut bytes = 1
            + signed_bytes(first)
            + if self.divisor > 1 { unsigned_bytes(self.divisor) } else { 0 }
            + if self.predictor.has_base() { signed_bytes(self.base) } else { 0 }
            + (values.len() - 1).div_ceil(GROUP).div_ceil(2);
        let counted = self.groups(values, |group| {
            bytes += packed_bytes(group.len(), WIDTHS[width_code(group)]);
            Ok(())
        });
        debug_assert!(counted.is_ok());
        bytes
    }

    /// The values as multiples of the divisor, counted from the first one.
    fn steps<'v>(&self, values: &'v [i64]) -> impl Iterator<Item = i64> + Clone + use<'v> {
        let divisor = self.divisor;
        let first = values[0];
        values.iter().map(move |value| {
            let step = value.wrapping_sub(first);
            match divisor {
                1 => step,
                // The magnitude of i64::MIN is no i64; as a divisor it leaves only the steps 0 and MIN itself.
                2..=0x7fff_ffff_ffff_ffff => step / divisor as i64,
                _ => i64::from(step != 0),
            }
        })
    }

    /// Gives the residuals of all values but the first, group by group.
    fn groups(&self, values: &[i64], mut give: impl FnMut(&[u64]) -> Result<(), CodecError>) -> Result<(), CodecError> {
        let mut group = [0; GROUP];
        let (mut before, mut before_that, mut filled) = (0, 0, 0);
        for (row, k) in self.steps(values).enumerate().skip(1) {
            let guess = self.predictor.guess(self.base, row, before, before_that);
            group[filled] = self.predictor.residual(k, guess);
            (before_that, before) = (before, k);
            filled += 1;
            if filled == GROUP {
                give(&group)?;
                filled = 0;
            }
        }
        if filled > 0 { give(&group[..filled]) } else { Ok(()) }
    }
}

/// Fills `values`, whose length is the number of values written.
pub fn read(values: &mut [i64], reader: &mut Reader<'_>) -> Result<(), CodecError> {
    if values.is_empty() {
        return Ok(());
    }
    let RunHead { predictor, first, divisor, base } = RunHead::read(reader)?;
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

/// Steps over a run of `count` values.
pub fn skip(count: usize, reader: &mut Reader<'_>) -> Result<(), CodecError> {
    if count == 0 {
        return Ok(());
    }
    RunHead::read(reader)?;
    let residuals = count - 1;
    let codes = reader.take(residuals.div_ceil(GROUP).div_ceil(2))?;
    let bytes = (0..residuals.div_ceil(GROUP)).map(|group| {
        let code = codes[group / 2] >> (4 * (group % 2)) & 15;
        packed_bytes(GROUP.min(residuals - group * GROUP), WIDTHS[usize::from(code)])
    });
    reader.take(bytes.sum()).map(|_| ())
}

/// What a run says before its residuals.
struct RunHead {
    predictor: Predictor,
    first: i64,
    divisor: u64,
    base: i64,
}

impl RunHead {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let head = reader.byte()?;
        let predictor = PREDICTORS.get(usize::from(head & 7)).copied().ok_or(CodecError::FromNewerVersion)?;
        if head & !(7 | HEAD_DIVISOR) != 0 {
            return Err(CodecError::FromNewerVersion);
        }
        let first = reader.signed()?;
        let divisor = if head & HEAD_DIVISOR != 0 { reader.unsigned()? } else { 1 };
        let base = if predictor.has_base() { reader.signed()? } else { 0 };
        Ok(Self { predictor, first, divisor, base })
    }
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
