//! Columns of a few new rows behind rows that the reader has already: how the tail log keeps what a flush brings.
//!
//! A flush has few rows of many columns. Half of the columns have not changed at all; the others go on from where they
//! were. So a column is told against up to two rows before it, and everything goes through one range coder whose
//! probabilities are learned from column to column. docs/SPILL_FORMAT.md, "Tail columns", has every decision.
//!
//! Both sides walk the same way: [`Coder`] is either a writer or a reader, and [`Model::column`] is written once for both.

pub use super::range::{RangeReader, RangeWriter};
use super::{
    CodecError, ColumnKind, Presence, ROWS_MAX,
    bits::{unzigzag, zigzag},
    decimal,
    range::Bit,
};

/// Rows before the new ones that may be used.
pub const HISTORY_ROWS_MAX: usize = 2;
/// Most new rows of a block.
pub const NEW_ROWS_MAX: usize = ROWS_MAX - HISTORY_ROWS_MAX;

/// Lengths in bits of a magnitude: 0 to 64 in a tree of seven levels.
const LENGTH_LEVELS: u32 = 7;
const LENGTH_NODES: usize = 1 << LENGTH_LEVELS;
/// What the length before was, roughly.
const LENGTH_CLASSES: usize = 12;
/// Magnitudes whose number is written at the start of something: by what they are.
const FIRST_CLASSES: usize = 3;
const EXPONENT_LEVELS: u32 = 5;
const SHIFT_LEVELS: u32 = 6;

/// What a column's next value is guessed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    /// The value before.
    Last = 0,
    /// The line through the two values before.
    Line = 1,
    /// The value before and the mean step so far.
    Step = 2,
    /// The mean of all values so far.
    Mean = 3,
}

const GUESSES: [Guess; 4] = [Guess::Last, Guess::Line, Guess::Step, Guess::Mean];

/// A writer or a reader of bits. Each method takes what is to be written, and returns what was written or read.
pub enum Coder<'b> {
    Write { range: RangeWriter, out: &'b mut [u8] },
    Read(RangeReader<'b>),
}

impl Coder<'_> {
    fn bit(&mut self, model: &mut Bit, bit: bool) -> bool {
        match self {
            Self::Write { range, out } => {
                range.bit(out, model, bit);
                bit
            }
            Self::Read(range) => range.bit(model),
        }
    }

    fn plain(&mut self, value: u64, count: u32) -> u64 {
        match self {
            Self::Write { range, out } => {
                range.plain(out, value, count);
                value
            }
            Self::Read(range) => range.plain(count),
        }
    }

    /// A number of `levels` bits, highest first, each with a probability of its own by the bits before it.
    fn tree(&mut self, models: &mut [Bit], levels: u32, value: u32) -> u32 {
        let mut node = 1;
        for level in (0..levels).rev() {
            let bit = self.bit(&mut models[node], value >> level & 1 == 1);
            node = node << 1 | usize::from(bit);
        }
        node as u32 - (1 << levels)
    }

    pub fn used(&self) -> usize {
        match self {
            Self::Write { range, .. } => range.end(),
            Self::Read(range) => range.used(),
        }
    }
}

/// The probabilities, learned over one frame.
#[derive(Clone)]
pub struct Model {
    /// Nothing has changed; by whether the two columns before had.
    same: [Bit; 4],
    same_before: usize,
    /// The kind of a column's place, and whether ages follow its values; by what the column before said.
    is_age: [Bit; 2],
    is_age_before: usize,
    has_ages: [Bit; 2],
    has_ages_before: usize,
    ages_are_next: Bit,
    all_values: Bit,
    /// By the state of the row before and by the bit.
    presence: [[Bit; 2]; 3],
    uses_history: Bit,
    exponent_as_before: Bit,
    exponent: [Bit; 1 << EXPONENT_LEVELS],
    exponent_before: u32,
    has_shift: Bit,
    shift: [Bit; 1 << SHIFT_LEVELS],
    guess: [Bit; GUESSES.len()],
    /// By the guess, and whether the residual before was 0.
    zero: [[Bit; 3]; GUESSES.len()],
    negative: [[Bit; 3]; GUESSES.len()],
    length: [[Bit; LENGTH_NODES]; LENGTH_CLASSES],
    length_first: [[Bit; LENGTH_NODES]; FIRST_CLASSES],
    /// The bit below the highest one, by length.
    second: [Bit; 65],
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

/// What one column's cells are, rows before and new ones: `cells[history..]` are the new rows.
pub struct Tail<'c> {
    pub kind: ColumnKind,
    pub history: usize,
    pub cells: &'c mut [u64],
    pub presence: &'c mut [Presence],
}

impl Model {
    pub const fn new() -> Self {
        const NEW: Bit = Bit::NEW;
        Self {
            same: [NEW; 4],
            same_before: 0,
            is_age: [NEW; 2],
            is_age_before: 0,
            has_ages: [NEW; 2],
            has_ages_before: 0,
            ages_are_next: NEW,
            all_values: NEW,
            presence: [[NEW; 2]; 3],
            uses_history: NEW,
            exponent_as_before: NEW,
            exponent: [NEW; 1 << EXPONENT_LEVELS],
            exponent_before: 0,
            has_shift: NEW,
            shift: [NEW; 1 << SHIFT_LEVELS],
            guess: [NEW; GUESSES.len()],
            zero: [[NEW; 3]; GUESSES.len()],
            negative: [[NEW; 3]; GUESSES.len()],
            length: [[NEW; LENGTH_NODES]; LENGTH_CLASSES],
            length_first: [[NEW; LENGTH_NODES]; FIRST_CLASSES],
            second: [NEW; 65],
        }
    }

    /// The instants of a block's rows, behind those of up to two rows before.
    ///
    /// # Errors
    ///
    /// As [`Model::column`].
    pub fn instants(
        &mut self,
        coder: &mut Coder<'_>,
        history: usize,
        instants_ms: &mut [i64],
    ) -> Result<(), CodecError> {
        self.integers(coder, history, instants_ms)
    }

    /// Whether a column's place is that of ages, which are told with their values.
    pub fn place(&mut self, coder: &mut Coder<'_>, kind: ColumnKind) -> ColumnKind {
        let is_age = coder.bit(&mut self.is_age[self.is_age_before], kind == ColumnKind::Age);
        self.is_age_before = usize::from(is_age);
        if is_age { ColumnKind::Age } else { ColumnKind::Float }
    }

    /// The column, if any, whose place is that of the ages of `column`'s values.
    pub fn ages(&mut self, coder: &mut Coder<'_>, column: u32, ages: Option<u32>) -> Option<u32> {
        let has_ages = coder.bit(&mut self.has_ages[self.has_ages_before], ages.is_some());
        self.has_ages_before = usize::from(has_ages);
        if !has_ages {
            return None;
        }
        let next = column.wrapping_add(1);
        if coder.bit(&mut self.ages_are_next, ages == Some(next)) {
            return Some(next);
        }
        Some(coder.plain(ages.map_or(0, u64::from), u32::BITS) as u32)
    }

    /// Writes the new rows of a column, or reads them: kind, history and the rows before are then what they were for the
    /// writer, and the new rows are filled in.
    ///
    /// # Errors
    ///
    /// When reading: bytes that no writer made.
    ///
    /// # Panics
    ///
    /// With slices of different lengths, no new row or more than [`ROWS_MAX`] rows: the caller lost track.
    pub fn column(&mut self, coder: &mut Coder<'_>, tail: &mut Tail<'_>) -> Result<(), CodecError> {
        let (history, rows) = (tail.history, tail.cells.len());
        assert!(history <= HISTORY_ROWS_MAX && history < rows && rows <= ROWS_MAX, "{history} and {rows} rows");
        assert_eq!(rows, tail.presence.len());
        let (before, before_bits) = last(tail, history);
        let is_same = (history..rows)
            .all(|row| tail.presence[row] == before && (before == Presence::Absent || tail.cells[row] == before_bits));
        let is_same = coder.bit(&mut self.same[self.same_before], is_same);
        self.same_before = (self.same_before << 1 | usize::from(is_same)) & 3;
        if is_same {
            tail.presence[history..].fill(before);
            tail.cells[history..].fill(before_bits);
            return Ok(());
        }
        self.states(coder, history, tail.presence)?;
        self.values(coder, tail)
    }

    fn states(&mut self, coder: &mut Coder<'_>, history: usize, presence: &mut [Presence]) -> Result<(), CodecError> {
        let all_values = presence[history..].iter().all(|state| *state == Presence::Value);
        if coder.bit(&mut self.all_values, all_values) {
            presence[history..].fill(Presence::Value);
            return Ok(());
        }
        for row in history..presence.len() {
            let models = &mut self.presence[if row == 0 { 0 } else { presence[row - 1] as usize }];
            let state = presence[row] as u8;
            let is_value = coder.bit(&mut models[0], state == Presence::Value as u8);
            let is_stale = !is_value && coder.bit(&mut models[1], state == Presence::Stale as u8);
            presence[row] = match (is_value, is_stale) {
                (true, _) => Presence::Value,
                (_, true) => Presence::Stale,
                _ => Presence::Absent,
            };
        }
        Ok(())
    }

    /// The cells of the rows that have a value.
    fn values(&mut self, coder: &mut Coder<'_>, tail: &mut Tail<'_>) -> Result<(), CodecError> {
        let Tail { kind, history, cells, presence } = tail;
        let (mut values, mut integers) = ([0; ROWS_MAX], [0; ROWS_MAX]);
        let (mut count, mut known) = (0, 0);
        for (row, state) in presence.iter().enumerate() {
            if *state == Presence::Value {
                values[count] = cells[row];
                count += 1;
                known += usize::from(row < *history);
            }
        }
        let is_writing = matches!(coder, Coder::Write { .. });
        let mut exponent = 0;
        if *kind == ColumnKind::Float {
            // What cannot be told with the history's values in the same way may go better without them.
            let mut uses_history = known > 0;
            if is_writing {
                exponent = decimal::integers(&values[..count], &mut integers[..count]);
                if exponent == decimal::ORDERED && uses_history {
                    let alone = decimal::integers(&values[known..count], &mut integers[known..count]);
                    uses_history = alone == decimal::ORDERED;
                    if uses_history {
                        decimal::integers(&values[..count], &mut integers[..count]);
                    } else {
                        exponent = alone;
                    }
                }
            }
            if known > 0 && !coder.bit(&mut self.uses_history, uses_history) {
                values.copy_within(known..count, 0);
                integers.copy_within(known..count, 0);
                count -= known;
                known = 0;
            }
            exponent = self.exponent(coder, exponent);
            if !is_writing {
                decimal::integers_as(exponent, &values[..known], &mut integers[..known])?;
            }
        } else {
            integers.iter_mut().zip(&values[..count]).for_each(|(integer, value)| *integer = *value as i64);
        }
        self.integers(coder, known, &mut integers[..count])?;
        if !is_writing {
            let found = &mut values[..count - known];
            match kind {
                ColumnKind::Float => decimal::cells(exponent, &integers[known..count], found)?,
                ColumnKind::Age => {
                    found.iter_mut().zip(&integers[known..]).for_each(|(value, integer)| *value = *integer as u64);
                }
            }
            let mut found = found.iter();
            for (cell, state) in cells.iter_mut().zip(&**presence).skip(*history) {
                *cell = if *state == Presence::Value { found.next().copied().unwrap_or(0) } else { 0 };
            }
        }
        Ok(())
    }

    fn exponent(&mut self, coder: &mut Coder<'_>, exponent: u8) -> u8 {
        let exponent = u32::from(exponent);
        if !coder.bit(&mut self.exponent_as_before, exponent == self.exponent_before) {
            self.exponent_before = coder.tree(&mut self.exponent, EXPONENT_LEVELS, exponent);
        }
        self.exponent_before as u8
    }

    /// Integers behind `known` ones, none where there is nothing to tell.
    fn integers(&mut self, coder: &mut Coder<'_>, known: usize, integers: &mut [i64]) -> Result<(), CodecError> {
        let mut from = known;
        if from == integers.len() {
            return Ok(());
        }
        if from == 0 {
            integers[0] = unzigzag(self.number(coder, 0, zigzag(integers[0])));
            from = 1;
        }
        // Everything is told as steps of 2^shift from the last known value.
        let base = integers[from - 1];
        let is_writing = matches!(coder, Coder::Write { .. });
        let mut shift = 0;
        if from < integers.len() {
            if is_writing {
                let differing = integers.iter().fold(0, |all, value| all | value.wrapping_sub(base));
                shift = if differing == 0 { 0 } else { differing.trailing_zeros() };
                // Few steps have low zeros by chance.
                shift = if shift >= 7 { shift } else { 0 };
            }
            if coder.bit(&mut self.has_shift, shift > 0) {
                shift = coder.tree(&mut self.shift, SHIFT_LEVELS, shift);
            }
        }
        integers.iter_mut().for_each(|value| *value = value.wrapping_sub(base) >> shift);
        let guess = if is_writing { cheapest(integers, from) } else { Guess::Last };
        let guess = GUESSES[coder.tree(&mut self.guess, 2, guess as u32) as usize];
        let (mut zero_before, mut class) = (2, None);
        let mut sums = Sums::of(&integers[..from]);
        for integer in &mut integers[from..] {
            let guessed = sums.guess(guess);
            let residual = integer.wrapping_sub(guessed);
            let is_zero = coder.bit(&mut self.zero[guess as usize][zero_before], residual == 0);
            zero_before = usize::from(is_zero);
            let mut found = 0;
            if !is_zero {
                let is_negative = coder.bit(&mut self.negative[guess as usize][sums.trend()], residual < 0);
                let length = u64::BITS - residual.unsigned_abs().leading_zeros();
                let models = match class {
                    None => &mut self.length_first[if known == 0 { 1 } else { 2 }],
                    Some(class) => &mut self.length[class],
                };
                let length = coder.tree(models, LENGTH_LEVELS, length);
                let magnitude = self.below(coder, length, residual.unsigned_abs())?;
                class = Some(length_class(length));
                found = if is_negative { (magnitude as i64).wrapping_neg() } else { magnitude as i64 };
            }
            *integer = guessed.wrapping_add(found);
            sums.add(*integer);
        }
        integers.iter_mut().for_each(|value| *value = (*value << shift).wrapping_add(base));
        Ok(())
    }

    fn number(&mut self, coder: &mut Coder<'_>, class: usize, value: u64) -> u64 {
        let length = coder.tree(&mut self.length_first[class], LENGTH_LEVELS, u64::BITS - value.leading_zeros());
        // A length that no writer writes gives a value that no writer means; the frame's checksum has the last word.
        self.below(coder, length, value).unwrap_or(0)
    }

    /// The bits of a magnitude below its highest one.
    fn below(&mut self, coder: &mut Coder<'_>, length: u32, value: u64) -> Result<u64, CodecError> {
        match length {
            0 | 1 => Ok(u64::from(length)),
            2..=64 => {
                let second = coder.bit(&mut self.second[length as usize], value >> (length - 2) & 1 == 1);
                let rest = coder.plain(value, length - 2);
                let mask = (1_u64 << (length - 2)) - 1;
                Ok(1 << (length - 1) | u64::from(second) << (length - 2) | rest & mask)
            }
            _ => Err(CodecError::Damaged),
        }
    }
}

/// What the guesses are made from. Sums that overflow make poor guesses, the same ones on both sides.
struct Sums {
    first: i64,
    last: i64,
    before: i64,
    sum: i64,
    count: i64,
}

impl Sums {
    /// Of at least one value.
    fn of(values: &[i64]) -> Self {
        let mut sums = Self { first: values[0], last: values[0], before: values[0], sum: 0, count: 0 };
        values.iter().for_each(|value| sums.add(*value));
        sums
    }

    fn add(&mut self, value: i64) {
        (self.before, self.last) = (self.last, value);
        self.sum = self.sum.wrapping_add(value);
        self.count += 1;
    }

    fn guess(&self, guess: Guess) -> i64 {
        match guess {
            Guess::Last => self.last,
            Guess::Line => self.last.wrapping_add(self.last.wrapping_sub(self.before)),
            Guess::Step => {
                let steps = self.last.wrapping_sub(self.first);
                self.last.wrapping_add(steps / (self.count - 1).max(1))
            }
            Guess::Mean => self.sum / self.count,
        }
    }

    /// Whether the value before went up, down, or stayed.
    fn trend(&self) -> usize {
        match self.last.cmp(&self.before) {
            core::cmp::Ordering::Less => 0,
            core::cmp::Ordering::Equal => 1,
            core::cmp::Ordering::Greater => 2,
        }
    }
}

/// State and bits as they are expected to go on. What was marked as ended is not there any more.
fn last(tail: &Tail<'_>, history: usize) -> (Presence, u64) {
    match history.checked_sub(1) {
        Some(row) if tail.presence[row] == Presence::Value => (Presence::Value, tail.cells[row]),
        _ => (Presence::Absent, 0),
    }
}

/// The guess whose residuals have the fewest bits.
fn cheapest(integers: &[i64], from: usize) -> Guess {
    let mut best = (u32::MAX, Guess::Last);
    for guess in GUESSES {
        let mut sums = Sums::of(&integers[..from]);
        let mut bits = 0;
        for value in &integers[from..] {
            let residual = value.wrapping_sub(sums.guess(guess)).unsigned_abs();
            // Length and sign take about as much again as two bits.
            bits += if residual == 0 { 0 } else { u64::BITS - residual.leading_zeros() + 2 };
            sums.add(*value);
        }
        if bits < best.0 {
            best = (bits, guess);
        }
    }
    best.1
}

const fn length_class(length: u32) -> usize {
    match length {
        0..=4 => length as usize,
        5..=6 => 5,
        7..=8 => 6,
        9..=11 => 7,
        12..=15 => 8,
        16..=22 => 9,
        23..=36 => 10,
        _ => 11,
    }
}

#[cfg(all(test, feature = "alloc"))]
#[path = "tail_tests.rs"]
mod tests;
