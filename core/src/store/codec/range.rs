//! A binary range coder with adaptive probabilities: what is likely costs a fraction of a bit.
//!
//! The writer works into a slice and says in the end whether it sufficed; it can be copied to go back to an earlier
//! place. The reader takes zeros behind its bytes' end and tells that it did, so that no bytes send it astray.

use super::interval::{IntervalReader, IntervalWriter, Sink};

/// An adaptive probability. It learns fast at first, then slowly, so that a frame of a few hundred columns profits.
#[derive(Clone, Copy)]
pub struct Bit {
    /// That the bit is 0, in 65,536ths; never 0.
    zero: u16,
    /// How many bits it has seen, up to [`SEEN_MAX`].
    seen: u8,
}

const SEEN_MAX: u8 = 30;

impl Bit {
    pub const NEW: Self = Self { zero: 1 << 15, seen: 0 };

    /// The part of an interval that stands for 0.
    fn lower(self, width: u32) -> u32 {
        (width >> 16) * u32::from(self.zero)
    }

    fn learn(&mut self, bit: bool) {
        let shift = match self.seen {
            0 => 1,
            1..3 => 2,
            3..7 => 3,
            7..SEEN_MAX => 4,
            _ => 5,
        };
        self.seen = (self.seen + 1).min(SEEN_MAX);
        if bit {
            self.zero -= self.zero >> shift;
        } else {
            self.zero += (u16::MAX - self.zero) >> shift;
        }
    }
}

/// Writes bits into a slice.
#[derive(Clone, Copy)]
pub struct RangeWriter {
    interval: IntervalWriter,
    at: usize,
}

/// Counts bytes that the slice has no room for.
struct Room<'o> {
    out: &'o mut [u8],
    at: &'o mut usize,
}

impl Sink for Room<'_> {
    fn put(&mut self, byte: u8) {
        if let Some(room) = self.out.get_mut(*self.at) {
            *room = byte;
        }
        *self.at += 1;
    }
}

impl RangeWriter {
    /// Writes from offset `at` on.
    pub const fn behind(at: usize) -> Self {
        Self { interval: IntervalWriter::NEW, at }
    }

    pub fn bit(&mut self, out: &mut [u8], model: &mut Bit, bit: bool) {
        let lower = model.lower(self.interval.width());
        self.interval.narrow(lower, !bit, &mut Room { out, at: &mut self.at });
        model.learn(bit);
    }

    /// The lowest `count` bits of `value`, highest first, all equally likely.
    pub fn plain(&mut self, out: &mut [u8], value: u64, count: u32) {
        for at in (0..count).rev() {
            self.interval.halve(value >> at & 1 == 0, &mut Room { out, at: &mut self.at });
        }
    }

    /// Where the end would be if this were all.
    pub fn end(&self) -> usize {
        self.at + self.interval.held_bytes()
    }

    /// Settles everything and returns where the bytes end; the slice was long enough if that is inside.
    pub fn finish(mut self, out: &mut [u8]) -> usize {
        // The reader takes zeros for what is not there.
        self.interval.end_before_zeros(&mut Room { out, at: &mut self.at });
        self.at
    }
}

/// Reads what a [`RangeWriter`] wrote.
pub struct RangeReader<'b> {
    interval: IntervalReader<'b>,
}

impl<'b> RangeReader<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { interval: IntervalReader::new(bytes) }
    }

    pub fn bit(&mut self, model: &mut Bit) -> bool {
        let bit = !self.interval.narrow(model.lower(self.interval.width()));
        model.learn(bit);
        bit
    }

    pub fn plain(&mut self, count: u32) -> u64 {
        (0..count).fold(0, |value, _| value << 1 | u64::from(!self.interval.halve()))
    }

    /// Bytes looked at so far.
    pub fn used(&self) -> usize {
        self.interval.read_bytes().min(self.interval.bytes().len())
    }

    /// Whether more was read than a writer would have written: the bytes are not what they seem.
    pub fn is_past_end(&self) -> bool {
        self.interval.read_bytes() > self.interval.bytes().len() + 3
    }
}
