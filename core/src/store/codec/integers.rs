//! A run of integers behind a predictor, divided by what divides all steps, packed by the bit in groups of 16.
//!
//! Bytes: the predictor, with five bits of the caller's; the smallest width, whether a divisor follows and whether the run
//! is sparse; first value (signed), divisor (unsigned), the predictor's base (signed, where it has one), then the
//! residuals: where there are several groups a 4-bit width code for each, low half first, and the residuals' bits. All arithmetic
//! wraps, so that any 64 bits come back.
//!
//! In a sparse run a group names its residuals that are not 0 by a bit each, and only those follow.

use super::{
    CodecError,
    bits::{BitReader, BitWriter, Reader, Writer, signed_bytes, unsigned_bytes, unzigzag, zigzag},
};

const GROUP: usize = 16;
const GROUPS_MAX: usize = super::ROWS_MAX.div_ceil(GROUP);
/// The caller's bits of a run's first byte.
pub const TAG_MASK: u8 = 0x1f;
/// In place of a predictor: a list of as many exceptions as the tag says comes first, then the run's own first byte.
pub const EXCEPTIONS: u8 = 6 << PREDICTOR_SHIFT;
/// The same with a tag of 0: behind the run comes another one, of rests.
pub const DRIFT: u8 = EXCEPTIONS;
const PREDICTOR_SHIFT: u8 = 5;
const WIDTH_MASK: u8 = 0x3f;
const HAS_DIVISOR: u8 = 1 << 6;
const SPARSE: u8 = 1 << 7;

/// What width codes 1 to 14 add to the smallest width; 15 is 64 bits, 0 means that all residuals are 0.
const WIDER: [u8; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 17, 24, 34];

/// How the next value is guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Predictor {
    /// Base plus an unsigned residual: values that wander in a band.
    Floor = 1,
    /// The value before.
    Last = 2,
    /// The value before plus the last step.
    Line = 3,
    /// The value before plus base, plus an unsigned residual: counters.
    LastFloor = 4,
    /// First value plus base times the row: a shared grid with jitter.
    Grid = 5,
    /// The value before, plus an unsigned residual: counters that stand still now and then.
    Rise = 7,
}

/// Tried for columns.
pub const VALUES: &[Predictor] =
    &[Predictor::Last, Predictor::Rise, Predictor::LastFloor, Predictor::Floor, Predictor::Line];
/// Tried for instants.
pub const INSTANTS: &[Predictor] =
    &[Predictor::Floor, Predictor::Last, Predictor::Line, Predictor::LastFloor, Predictor::Grid];

impl Predictor {
    pub fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Floor),
            2 => Some(Self::Last),
            3 => Some(Self::Line),
            4 => Some(Self::LastFloor),
            5 => Some(Self::Grid),
            7 => Some(Self::Rise),
            _ => None,
        }
    }

    pub fn has_base(self) -> bool {
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
            Self::Last | Self::Line | Self::Rise => 0,
        }
    }

    #[inline]
    pub fn guess(self, base: i64, row: usize, before: i64, before_that: i64) -> i64 {
        match self {
            Self::Floor => base,
            Self::Last | Self::Rise => before,
            Self::Line => before.wrapping_add(before.wrapping_sub(before_that)),
            Self::LastFloor => before.wrapping_add(base),
            Self::Grid => base.wrapping_mul(row as i64),
        }
    }

    #[inline]
    fn is_unsigned(self) -> bool {
        matches!(self, Self::Floor | Self::LastFloor | Self::Rise)
    }

    #[inline]
    fn residual(self, value: i64, guess: i64) -> u64 {
        let difference = value.wrapping_sub(guess);
        if self.is_unsigned() { difference as u64 } else { zigzag(difference) }
    }

    #[inline]
    pub fn value(self, residual: u64, guess: i64) -> i64 {
        guess.wrapping_add(if self.is_unsigned() { residual as i64 } else { unzigzag(residual) })
    }
}

/// How one run of values is best written, found by trying predictors.
#[derive(Clone, Copy)]
pub struct Plan {
    predictor: Predictor,
    base: i64,
    divisor: u64,
    is_sparse: bool,
    /// 0: all residuals are 0. Else one more than the smallest width.
    width: u8,
    /// What [`Plan::write`] takes.
    pub bytes: usize,
}

impl Plan {
    /// `None` for an empty run, which takes no bytes.
    pub fn of(values: &[i64], predictors: &[Predictor]) -> Option<Self> {
        let first = *values.first()?;
        let divisor = divisor(values);
        let mut best: Option<Self> = None;
        for predictor in predictors.iter().copied() {
            let mut plan = Self { predictor, base: 0, divisor, is_sparse: false, width: 0, bytes: 0 };
            plan.base = predictor.base(plan.steps(values));
            let measured = plan.measure(values);
            let head_bytes = 2
                + signed_bytes(first)
                + if divisor > 1 { unsigned_bytes(divisor) } else { 0 }
                + if predictor.has_base() { signed_bytes(plan.base) } else { 0 };
            for is_sparse in [false, true] {
                let (width, bytes) = if is_sparse { measured.sparse() } else { measured.dense() };
                if best.as_ref().is_none_or(|best| head_bytes + bytes < best.bytes) {
                    best = Some(Self { is_sparse, width, bytes: head_bytes + bytes, ..plan });
                }
            }
        }
        best
    }

    /// Writes the run this plan was made for; `tag` has five bits.
    pub fn write(&self, tag: u8, values: &[i64], writer: &mut Writer<'_>) -> Result<(), CodecError> {
        let Some(first) = values.first() else { return Ok(()) };
        let has_divisor = self.divisor > 1;
        writer.byte(tag | (self.predictor as u8) << PREDICTOR_SHIFT)?;
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        writer.byte(self.width | flag(has_divisor, HAS_DIVISOR) | flag(self.is_sparse, SPARSE))?;
        writer.signed(*first)?;
        if has_divisor {
            writer.unsigned(self.divisor)?;
        }
        if self.predictor.has_base() {
            writer.signed(self.base)?;
        }
        if self.width == 0 {
            return Ok(());
        }
        let measured = self.measure(values);
        let widths = if self.is_sparse { &measured.sparse_widths } else { &measured.widths };
        let code = |group: usize| {
            if measured.changed[group] == 0 { 0 } else { width_code(self.width, widths[group]) }
        };
        if measured.groups > 1 {
            for group in (0..measured.groups).step_by(2) {
                let high = if group + 1 < measured.groups { code(group + 1) } else { 0 };
                writer.byte(code(group) | high << 4)?;
            }
        }
        let mut stream = BitWriter::new(writer);
        let (mut group, mut filled, mut residuals) = (0, 0, [0; GROUP]);
        let mut outcome = Ok(());
        let mut put = |group: usize, residuals: &[u64]| {
            let code = code(group);
            if code == 0 {
                return Ok(());
            }
            let width = group_width(self.width, code);
            if self.is_sparse {
                let mask = residuals.iter().rev().fold(0, |mask, residual| mask << 1 | u64::from(*residual != 0));
                stream.put(mask, residuals.len() as u32)?;
                residuals
                    .iter()
                    .filter(|residual| **residual != 0)
                    .try_for_each(|residual| stream.put(residual - 1, width))
            } else {
                residuals.iter().try_for_each(|residual| stream.put(*residual, width))
            }
        };
        self.residuals(values, |residual| {
            residuals[filled] = residual;
            filled += 1;
            if filled == GROUP {
                if outcome.is_ok() {
                    outcome = put(group, &residuals);
                }
                (group, filled) = (group + 1, 0);
            }
        });
        outcome?;
        if filled > 0 {
            put(group, &residuals[..filled])?;
        }
        stream.finish()
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

    /// Gives the residuals of all values but the first.
    fn residuals(&self, values: &[i64], mut give: impl FnMut(u64)) {
        // One loop for each predictor, so that it is not asked for at every value.
        macro_rules! each {
            ($predictor:expr) => {{
                let (mut before, mut before_that) = (0, 0);
                for (row, k) in self.steps(values).enumerate().skip(1) {
                    let guess = $predictor.guess(self.base, row, before, before_that);
                    give($predictor.residual(k, guess));
                    (before_that, before) = (before, k);
                }
            }};
        }
        match self.predictor {
            Predictor::Floor => each!(Predictor::Floor),
            Predictor::Last => each!(Predictor::Last),
            Predictor::Line => each!(Predictor::Line),
            Predictor::LastFloor => each!(Predictor::LastFloor),
            Predictor::Grid => each!(Predictor::Grid),
            Predictor::Rise => each!(Predictor::Rise),
        }
    }

    fn measure(&self, values: &[i64]) -> Measured {
        let mut measured = Measured {
            residuals: values.len() - 1,
            groups: (values.len() - 1).div_ceil(GROUP),
            widths: [0; GROUPS_MAX],
            sparse_widths: [0; GROUPS_MAX],
            changed: [0; GROUPS_MAX],
        };
        let (mut group, mut filled, mut all, mut all_less, mut changed) = (0, 0, 0, 0, 0);
        let width = |all: u64| (u64::BITS - all.leading_zeros()) as u8;
        let mut close = |group: usize, all: u64, all_less: u64, changed: u8| {
            measured.widths[group] = width(all);
            measured.sparse_widths[group] = width(all_less);
            measured.changed[group] = changed;
        };
        self.residuals(values, |residual| {
            let is_changed = residual != 0;
            all |= residual;
            all_less |= residual.wrapping_sub(u64::from(is_changed));
            changed += u8::from(is_changed);
            filled += 1;
            if filled == GROUP {
                close(group, all, all_less, changed);
                (group, filled, all, all_less, changed) = (group + 1, 0, 0, 0, 0);
            }
        });
        if filled > 0 {
            close(group, all, all_less, changed);
        }
        measured
    }
}

/// What groups of residuals need.
struct Measured {
    residuals: usize,
    groups: usize,
    widths: [u8; GROUPS_MAX],
    /// Of the residuals that are not 0, less 1.
    sparse_widths: [u8; GROUPS_MAX],
    /// How many are not 0.
    changed: [u8; GROUPS_MAX],
}

impl Measured {
    /// Width byte, and the bytes of codes and residuals.
    fn dense(&self) -> (u8, usize) {
        self.cost(&self.widths, |group, width| width * GROUP.min(self.residuals - group * GROUP))
    }

    fn sparse(&self) -> (u8, usize) {
        self.cost(&self.sparse_widths, |group, width| {
            GROUP.min(self.residuals - group * GROUP) + width * usize::from(self.changed[group])
        })
    }

    fn cost(&self, widths: &[u8; GROUPS_MAX], group_bits: impl Fn(usize, usize) -> usize) -> (u8, usize) {
        let used = || (0..self.groups).filter(|group| self.changed[*group] > 0);
        let Some(least) = used().map(|group| widths[group]).min() else { return (0, 0) };
        let width = least.min(62) + 1;
        let bits: usize =
            used().map(|group| group_bits(group, group_width(width, width_code(width, widths[group])) as usize)).sum();
        let codes = if self.groups > 1 { self.groups.div_ceil(2) } else { 0 };
        (width, codes + bits.div_ceil(8))
    }
}

/// The width of a group by its code, which is not 0.
fn group_width(width: u8, code: u8) -> u32 {
    match WIDER.get(usize::from(code) - 1) {
        Some(wider) if width - 1 + wider < 62 => u32::from(width - 1 + wider),
        _ => 64,
    }
}

/// The code of the least width that is enough.
fn width_code(width: u8, needed: u8) -> u8 {
    let code = WIDER.iter().position(|wider| width - 1 + wider >= needed.min(62));
    code.unwrap_or(WIDER.len()) as u8 + 1
}

/// Fills `values`, whose length is the number of values written, at least one; `head` is the run's first byte, already
/// read.
pub fn read(head: u8, values: &mut [i64], reader: &mut Reader<'_>) -> Result<(), CodecError> {
    let RunHead { predictor, width, is_sparse, first, divisor, base } = RunHead::read(head, reader)?;
    let count = values.len() - 1;
    let groups = count.div_ceil(GROUP);
    let codes = Codes::read(width, groups, reader)?;
    let mut stream = BitReader::new(reader.rest());
    values[0] = first;
    let mut residuals = [0; GROUP];
    let (mut before, mut before_that) = (0, 0);
    for group in 0..groups {
        let code = codes.code(group);
        let residuals = &mut residuals[..GROUP.min(count - group * GROUP)];
        match (code, is_sparse) {
            (0, _) => residuals.fill(0),
            (_, false) => stream.fields(residuals, group_width(width, code))?,
            (_, true) => {
                let mask = stream.field(residuals.len() as u32)?;
                let width = group_width(width, code);
                for (at, residual) in residuals.iter_mut().enumerate() {
                    *residual = if mask >> at & 1 == 0 { 0 } else { stream.field(width)?.wrapping_add(1) };
                }
            }
        }
        let row = 1 + group * GROUP;
        let values = &mut values[row..row + residuals.len()];
        macro_rules! each {
            ($predictor:expr) => {
                for (at, (value, residual)) in values.iter_mut().zip(&*residuals).enumerate() {
                    let k = $predictor.value(*residual, $predictor.guess(base, row + at, before, before_that));
                    *value = first.wrapping_add(k.wrapping_mul(divisor as i64));
                    (before_that, before) = (before, k);
                }
            };
        }
        match predictor {
            Predictor::Floor => each!(Predictor::Floor),
            Predictor::Last => each!(Predictor::Last),
            Predictor::Line => each!(Predictor::Line),
            Predictor::LastFloor => each!(Predictor::LastFloor),
            Predictor::Grid => each!(Predictor::Grid),
            Predictor::Rise => each!(Predictor::Rise),
        }
    }
    reader.take(stream.bytes()).map(|_| ())
}

/// Steps over a run of `count` values; one without any is damage.
pub fn skip(head: u8, count: usize, reader: &mut Reader<'_>) -> Result<(), CodecError> {
    let RunHead { width, is_sparse, .. } = RunHead::read(head, reader)?;
    let count = count.checked_sub(1).ok_or(CodecError::Damaged)?;
    let groups = count.div_ceil(GROUP);
    let codes = Codes::read(width, groups, reader)?;
    let mut stream = BitReader::new(reader.rest());
    for group in 0..groups {
        let (code, length) = (codes.code(group), GROUP.min(count - group * GROUP) as u32);
        if code == 0 {
            continue;
        }
        let fields = if is_sparse { stream.field(length)?.count_ones() } else { length };
        stream.skip(fields * group_width(width, code));
    }
    reader.take(stream.bytes()).map(|_| ())
}

/// What a run says before its residuals.
struct RunHead {
    predictor: Predictor,
    width: u8,
    is_sparse: bool,
    first: i64,
    divisor: u64,
    base: i64,
}

impl RunHead {
    fn read(head: u8, reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let predictor = Predictor::of(head >> PREDICTOR_SHIFT).ok_or(CodecError::FromNewerVersion)?;
        let flags = reader.byte()?;
        let first = reader.signed()?;
        let divisor = if flags & HAS_DIVISOR != 0 { reader.unsigned()? } else { 1 };
        let base = if predictor.has_base() { reader.signed()? } else { 0 };
        Ok(Self { predictor, width: flags & WIDTH_MASK, is_sparse: flags & SPARSE != 0, first, divisor, base })
    }
}

/// The width codes of a run's groups.
struct Codes<'b> {
    bytes: &'b [u8],
    /// Of every group where no codes are written: there are no residuals but 0, or there is one group.
    all: u8,
}

impl<'b> Codes<'b> {
    fn read(width: u8, groups: usize, reader: &mut Reader<'b>) -> Result<Self, CodecError> {
        let bytes = if width > 0 && groups > 1 { groups.div_ceil(2) } else { 0 };
        Ok(Self { bytes: reader.take(bytes)?, all: u8::from(width > 0) })
    }

    fn code(&self, group: usize) -> u8 {
        self.bytes.get(group / 2).map_or(self.all, |pair| pair >> (4 * (group % 2)) & 15)
    }
}

/// The greatest number that divides all steps.
fn divisor(values: &[i64]) -> u64 {
    let mut divisor = 0;
    for value in values {
        let step = value.wrapping_sub(values[0]).unsigned_abs();
        if divisor == 1 {
            break;
        }
        if divisor == 0 || step % divisor != 0 {
            divisor = gcd(divisor, step);
        }
    }
    divisor.max(1)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
