//! A binary range coder with adaptive probabilities: what is likely costs a fraction of a bit.
//!
//! The writer works into a slice and says in the end whether it sufficed; it can be copied to go back to an earlier
//! place. The reader takes zeros behind its bytes' end and tells that it did, so that no bytes send it astray.

/// An adaptive probability. It learns fast at first, then slowly, so that a frame of a few hundred columns profits.
#[derive(Clone, Copy)]
pub struct Bit {
    /// That the bit is 0, in 65,536ths; never 0.
    zero: u16,
    /// How many bits it has seen, up to [`SEEN_MAX`].
    seen: u8,
}

const SEEN_MAX: u8 = 30;
/// A range below this is widened by a byte.
const RANGE_MIN: u32 = 1 << 24;

impl Bit {
    pub const NEW: Self = Self { zero: 1 << 15, seen: 0 };

    fn bound(self, range: u32) -> u32 {
        (range >> 16) * u32::from(self.zero)
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
    low: u64,
    range: u32,
    /// The last byte, and how many 0xff behind it, that a carry may still change; none at the very start.
    pending: Option<u8>,
    pending_full: u32,
    at: usize,
}

impl RangeWriter {
    /// Writes from offset `at` on.
    pub const fn behind(at: usize) -> Self {
        Self { low: 0, range: u32::MAX, pending: None, pending_full: 0, at }
    }

    pub fn bit(&mut self, out: &mut [u8], model: &mut Bit, bit: bool) {
        let bound = model.bound(self.range);
        if bit {
            self.low += u64::from(bound);
            self.range -= bound;
        } else {
            self.range = bound;
        }
        model.learn(bit);
        self.widen(out);
    }

    /// The lowest `count` bits of `value`, highest first, all equally likely.
    pub fn plain(&mut self, out: &mut [u8], value: u64, count: u32) {
        for at in (0..count).rev() {
            self.range >>= 1;
            if value >> at & 1 == 1 {
                self.low += u64::from(self.range);
            }
            self.widen(out);
        }
    }

    /// Where the end would be if this were all.
    pub fn end(&self) -> usize {
        self.at + self.pending_full as usize + 2
    }

    /// Settles everything and returns where the bytes end; the slice was long enough if that is inside.
    pub fn finish(mut self, out: &mut [u8]) -> usize {
        // The number in the range with the most zeros behind it; the reader takes zeros for what is not there.
        self.low += u64::from(self.range - 1);
        self.low &= !u64::from(RANGE_MIN - 1);
        for _ in 0..2 {
            self.shift(out);
        }
        self.at
    }

    fn widen(&mut self, out: &mut [u8]) {
        while self.range < RANGE_MIN {
            self.range <<= 8;
            self.shift(out);
        }
    }

    /// Moves the highest byte of `low` out.
    fn shift(&mut self, out: &mut [u8]) {
        let carry = self.low >> 32 == 1;
        let byte = (self.low >> 24) as u8;
        if byte != 0xff || carry {
            if let Some(pending) = self.pending {
                self.put(out, pending.wrapping_add(u8::from(carry)));
            }
            for _ in 0..self.pending_full {
                self.put(out, if carry { 0 } else { 0xff });
            }
            self.pending_full = 0;
            self.pending = Some(byte);
        } else {
            self.pending_full += 1;
        }
        self.low = (self.low & 0x00ff_ffff) << 8;
    }

    fn put(&mut self, out: &mut [u8], byte: u8) {
        if let Some(room) = out.get_mut(self.at) {
            *room = byte;
        }
        self.at += 1;
    }
}

/// Reads what a [`RangeWriter`] wrote.
pub struct RangeReader<'b> {
    bytes: &'b [u8],
    at: usize,
    code: u32,
    range: u32,
}

impl<'b> RangeReader<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        let mut reader = Self { bytes, at: 0, code: 0, range: u32::MAX };
        for _ in 0..4 {
            reader.code = reader.code << 8 | u32::from(reader.next());
        }
        reader
    }

    pub fn bit(&mut self, model: &mut Bit) -> bool {
        let bound = model.bound(self.range);
        let bit = self.code >= bound;
        if bit {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        model.learn(bit);
        self.widen();
        bit
    }

    pub fn plain(&mut self, count: u32) -> u64 {
        let mut value = 0;
        for _ in 0..count {
            self.range >>= 1;
            let bit = self.code >= self.range;
            if bit {
                self.code -= self.range;
            }
            value = value << 1 | u64::from(bit);
            self.widen();
        }
        value
    }

    /// Bytes looked at so far.
    pub fn used(&self) -> usize {
        self.at.min(self.bytes.len())
    }

    /// Whether more was read than a writer would have written: the bytes are not what they seem.
    pub fn is_past_end(&self) -> bool {
        self.at > self.bytes.len() + 3
    }

    fn widen(&mut self) {
        while self.range < RANGE_MIN {
            self.range <<= 8;
            self.code = self.code << 8 | u32::from(self.next());
        }
    }

    fn next(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }
}
