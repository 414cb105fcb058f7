//! What the encoder decides for a column: reference and predictor, by what each would cost.

use super::{
    super::ROWS_MAX,
    model::length,
    predict::{Guess, Predictor},
};

/// How the steps of a column are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Steps are differences to those of an earlier column: 0 none, 1 the last that moved, 2 the one before it, and so on.
    pub reference: usize,
    pub predictor: Predictor,
    /// Whether some steps are 0, and each is told to be or not to be so.
    pub repeats: bool,
    /// Divides all steps.
    pub divisor: u64,
}

/// So many columns back a reference may reach.
pub const REFERENCES: usize = 8;

impl Plan {
    pub const SIMPLE: Self = Self { reference: 0, predictor: Predictor::Last, repeats: true, divisor: 1 };
}

/// Estimates are in 1/16 bit.
const BIT: u32 = 16;

/// n × log2 n, in 1/16 bit.
const N_LOG_N: [u16; ROWS_MAX + 1] = {
    let mut table = [0; ROWS_MAX + 1];
    let mut n = 2;
    while n <= ROWS_MAX {
        table[n] = (n as u32 * log2(n as u32)).div_ceil(16) as u16;
        n += 1;
    }
    table
};

/// In 1/256.
const fn log2(n: u32) -> u32 {
    let whole = n.ilog2();
    // The mantissa in 1/2^30, squared for one bit after the other.
    let mut mantissa = (n as u64) << (30 - whole);
    let (mut result, mut bit) = (whole << 8, 128);
    while bit > 0 {
        mantissa = (mantissa * mantissa) >> 30;
        if mantissa >= 2 << 30 {
            mantissa >>= 1;
            result += bit;
        }
        bit >>= 1;
    }
    result
}

/// What it costs to tell apart things that come so often.
fn entropy(counts: &[u16]) -> u32 {
    let all: u32 = counts.iter().map(|count| u32::from(*count)).sum();
    let apart: u32 = counts.iter().map(|count| u32::from(N_LOG_N[usize::from(*count)])).sum();
    u32::from(N_LOG_N[all as usize]).saturating_sub(apart)
}

/// The best plan for these integers, and its steps, of which the first is 0. `refer` gives what an earlier column had in the
/// rows of these integers, 1 the last one, unless it cannot be referred to. `tried` and `other` are room to work in.
pub fn choose(
    integers: &[i64],
    mut refer: impl FnMut(usize, &mut [i64]) -> bool,
    steps: &mut [i64],
    tried: &mut [i64],
    other: &mut [i64],
) -> Plan {
    let (mut best, mut least) = (Plan::SIMPLE, u32::MAX);
    let mut moves = [0; ROWS_MAX];
    for reference in 0..=REFERENCES {
        if reference > 0 && !refer(reference, other) {
            continue;
        }
        let other = (reference > 0).then_some(&*other);
        let divisor = differences(integers, other, tried);
        let mut move_count = 0;
        let (mut turns, mut moved) = (0_u16, true);
        for step in &tried[1..] {
            moves[move_count] = *step;
            move_count += usize::from(*step != 0);
            turns += u16::from(moved != (*step != 0));
            moved = *step != 0;
        }
        let moves = &moves[..move_count];
        let count = (tried.len() - 1) as u16;
        let repeat_count = count - move_count as u16;
        let told = entropy(&[repeat_count, count - repeat_count]).min(entropy(&[turns, count - turns]));
        let base = told + if reference > 0 { 4 * BIT } else { 0 };
        let mut is_best = false;
        for predictor in Predictor::ALL {
            // A level of differences is no better than their rate.
            if matches!(predictor, Predictor::Level | Predictor::Floor) && reference > 0 {
                continue;
            }
            let cost = base + if predictor == Predictor::Last { 0 } else { 3 * BIT } + residuals_cost(moves, predictor);
            if cost < least {
                least = cost;
                best = Plan { reference, predictor, repeats: repeat_count > 0, divisor };
                is_best = true;
            }
        }
        if is_best {
            steps.copy_from_slice(tried);
        }
    }
    best
}

fn residuals_cost(moves: &[i64], predictor: Predictor) -> u32 {
    let mut guess = Guess::new(predictor);
    let (mut lengths, mut longest) = ([0_u16; 65], 0);
    let (mut negative, mut low_bits) = (0, 0);
    for step in moves {
        let residual = step.wrapping_sub(guess.step());
        guess.learn(*step);
        let length = length(residual.unsigned_abs());
        lengths[length as usize] += 1;
        longest = longest.max(length);
        low_bits += length.saturating_sub(1);
        negative += u16::from(residual < 0);
    }
    let signed = moves.len() as u16 - lengths[0];
    BIT * low_bits + entropy(&lengths[..=longest as usize]) + entropy(&[negative, signed - negative])
}

/// The steps from each integer to the next, less those of the other column, divided by what divides all of them; returns
/// that.
fn differences(integers: &[i64], other: Option<&[i64]>, steps: &mut [i64]) -> u64 {
    steps[0] = 0;
    for (row, pair) in integers.windows(2).enumerate() {
        steps[row + 1] = pair[1].wrapping_sub(pair[0]);
    }
    if let Some(other) = other {
        for (row, pair) in other.windows(2).enumerate() {
            steps[row + 1] = steps[row + 1].wrapping_sub(pair[1].wrapping_sub(pair[0]));
        }
    }
    let mut divisor = 0;
    for step in &*steps {
        divisor = greatest_common_divisor(step.unsigned_abs(), divisor);
        if divisor == 1 {
            return 1;
        }
    }
    match i64::try_from(divisor) {
        Ok(by) if by > 1 => steps.iter_mut().for_each(|step| *step /= by),
        // All steps are 0, or one is the smallest integer and the others 0.
        _ => return 1,
    }
    divisor
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
