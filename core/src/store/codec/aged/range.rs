//! The range coder: decisions with learned probabilities from the front of the bytes, bits of which nothing is known from
//! their end.
//!
//! One model drives both ways: a [`Coder`] is given what is to be coded and returns what was coded. The encoder returns
//! what it is given; the decoder looks at its bytes instead.

use super::super::CodecError;

/// How likely a decision is `true`, learned from those before it.
///
/// Bits 10 to 31 are the probability in 1/2^22; bits 0 to 9 count the decisions seen, up to [`COUNT_MAX`]: the more, the
/// less the next one moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probability(u32);

const COUNT_BITS: u32 = 10;
const ONE: u32 = 1 << (32 - COUNT_BITS);
const COUNT_MAX: usize = 30;

/// How far a decision moves a probability that has seen so many, in 1/65536: 1 / (count + 1.5).
const STEPS: [u32; COUNT_MAX + 1] = {
    let mut steps = [0; COUNT_MAX + 1];
    let mut count = 0;
    while count <= COUNT_MAX {
        steps[count] = 131_072 / (2 * count as u32 + 3);
        count += 1;
    }
    steps
};

/// A decision is never more certain than this, in 1/65536.
const CERTAIN: u32 = 32;

impl Probability {
    /// `likely` in 1/4096, above 0.
    pub const fn new(likely: u16, count: u16) -> Self {
        Self((likely as u32) << 20 | count as u32)
    }

    /// In 1/65536.
    #[inline(always)]
    pub fn likely(self) -> u32 {
        (self.0 >> 16).clamp(CERTAIN, 65_536 - CERTAIN)
    }

    #[inline(always)]
    pub fn learn(&mut self, decision: bool) {
        let count = (self.0 & ((1 << COUNT_BITS) - 1)) as usize;
        let step = u64::from(STEPS[count.min(COUNT_MAX)]);
        let likely = self.0 >> COUNT_BITS;
        let likely = if decision {
            likely + ((u64::from(ONE - 1 - likely) * step) >> 16) as u32
        } else {
            likely - ((u64::from(likely) * step) >> 16) as u32
        };
        self.0 = likely << COUNT_BITS | (count + usize::from(count < COUNT_MAX)) as u32;
    }
}

pub trait Coder {
    /// Whether what it is given means nothing.
    const DECODES: bool;
    /// Codes a decision by the probability of its context, which learns from it.
    fn bit(&mut self, context: usize, probability: &mut Probability, decision: bool) -> bool;
    /// Codes the low `bits` bits of a value, at most 64, of which nothing is known.
    fn raw(&mut self, value: u64, bits: u32) -> u64;
}

/// The range is kept above this.
const RANGE_MIN: u32 = 1 << 24;

/// The part of the range that stands for `true`.
#[inline(always)]
fn bound(range: u32, probability: Probability) -> u32 {
    (range >> 16) * probability.likely()
}

const fn mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

pub struct Encoder<'b> {
    out: &'b mut [u8],
    /// Bytes written from the front, and where those from the end begin.
    front: usize,
    back: usize,
    /// The interval's low end, with a carry in bit 32, and its width.
    low: u64,
    range: u32,
    /// The last byte that a carry may still change, and how many of 0xff behind it; none before the first byte.
    held: Option<u8>,
    held_ones: usize,
    raw: u64,
    raw_bits: u32,
    is_full: bool,
}

impl<'b> Encoder<'b> {
    pub fn new(out: &'b mut [u8]) -> Self {
        let back = out.len();
        Self {
            out,
            front: 0,
            back,
            low: 0,
            range: u32::MAX,
            held: None,
            held_ones: 0,
            raw: 0,
            raw_bits: 0,
            is_full: false,
        }
    }

    fn put_front(&mut self, byte: u8) {
        if self.front < self.back {
            self.out[self.front] = byte;
            self.front += 1;
        } else {
            self.is_full = true;
        }
    }

    fn put_back(&mut self, byte: u8) {
        if self.front < self.back {
            self.back -= 1;
            self.out[self.back] = byte;
        } else {
            self.is_full = true;
        }
    }

    /// Moves the interval's highest byte out.
    #[inline(never)]
    fn shift(&mut self) {
        let carry = (self.low >> 32) as u8;
        let byte = (self.low >> 24) as u8;
        if byte == 0xff && carry == 0 {
            self.held_ones += 1;
        } else {
            if let Some(held) = self.held {
                self.put_front(held.wrapping_add(carry));
            }
            for _ in 0..core::mem::take(&mut self.held_ones) {
                self.put_front(0xff_u8.wrapping_add(carry));
            }
            self.held = Some(byte);
        }
        self.low = (self.low & 0x00ff_ffff) << 8;
    }

    /// Ends the piece and returns its length.
    pub fn finish(mut self) -> Result<usize, CodecError> {
        // As few bytes as stay inside the interval whatever follows them: the raw bits do.
        let end = self.low + u64::from(self.range);
        let mut bytes = 1;
        loop {
            let unit = 1_u64 << (32 - 8 * bytes);
            let low = self.low.next_multiple_of(unit);
            if low + unit <= end {
                self.low = low;
                break;
            }
            bytes += 1;
        }
        // The held byte goes out with the one behind it.
        for _ in 0..=bytes {
            self.shift();
        }
        while self.raw_bits > 0 {
            self.put_back(self.raw as u8);
            self.raw >>= 8;
            self.raw_bits = self.raw_bits.saturating_sub(8);
        }
        if self.is_full {
            return Err(CodecError::OutputFull { capacity: self.out.len() });
        }
        let capacity = self.out.len();
        self.out.copy_within(self.back..capacity, self.front);
        Ok(self.front + capacity - self.back)
    }
}

impl Coder for Encoder<'_> {
    const DECODES: bool = false;

    #[inline(always)]
    fn bit(&mut self, _: usize, probability: &mut Probability, decision: bool) -> bool {
        let bound = bound(self.range, *probability);
        if decision {
            self.range = bound;
        } else {
            self.low += u64::from(bound);
            self.range -= bound;
        }
        probability.learn(decision);
        while self.range < RANGE_MIN {
            self.range <<= 8;
            self.shift();
        }
        decision
    }

    #[inline(always)]
    fn raw(&mut self, value: u64, bits: u32) -> u64 {
        let (mut rest, mut left) = (value, bits);
        while left > 0 {
            let taken = left.min(32);
            self.raw |= (rest & mask(taken)) << self.raw_bits;
            self.raw_bits += taken;
            while self.raw_bits >= 8 {
                self.put_back(self.raw as u8);
                self.raw >>= 8;
                self.raw_bits -= 8;
            }
            rest >>= taken;
            left -= taken;
        }
        value
    }
}

pub struct Decoder<'b> {
    bytes: &'b [u8],
    /// Bytes read from the front, those behind the end too, and where those read from the end begin.
    front: usize,
    back: usize,
    /// Where in the interval the bytes point, and the interval's width.
    code: u32,
    range: u32,
    raw: u64,
    raw_bits: u32,
}

impl<'b> Decoder<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        let mut decoder = Self { bytes, front: 0, back: bytes.len(), code: 0, range: u32::MAX, raw: 0, raw_bits: 0 };
        for _ in 0..4 {
            decoder.code = decoder.code << 8 | decoder.next_front();
        }
        decoder
    }

    /// Behind the end follow zeros.
    #[inline(always)]
    fn next_front(&mut self) -> u32 {
        let byte = self.bytes.get(self.front).copied().unwrap_or(0);
        self.front += 1;
        u32::from(byte)
    }

    /// Before the beginning stand zeros.
    #[inline(always)]
    fn next_back(&mut self) -> u64 {
        if self.back == 0 {
            return 0;
        }
        self.back -= 1;
        u64::from(self.bytes[self.back])
    }

    pub fn used(&self) -> usize {
        (self.front + self.bytes.len() - self.back).min(self.bytes.len())
    }
}

impl Coder for Decoder<'_> {
    const DECODES: bool = true;

    #[inline(always)]
    fn bit(&mut self, _: usize, probability: &mut Probability, _: bool) -> bool {
        let bound = bound(self.range, *probability);
        let decision = self.code < bound;
        if decision {
            self.range = bound;
        } else {
            self.code -= bound;
            self.range -= bound;
        }
        probability.learn(decision);
        while self.range < RANGE_MIN {
            self.range <<= 8;
            self.code = self.code << 8 | self.next_front();
        }
        decision
    }

    #[inline(always)]
    fn raw(&mut self, _: u64, bits: u32) -> u64 {
        let (mut value, mut done) = (0, 0);
        while done < bits {
            let taken = (bits - done).min(32);
            while self.raw_bits < taken {
                self.raw |= self.next_back() << self.raw_bits;
                self.raw_bits += 8;
            }
            value |= (self.raw & mask(taken)) << done;
            self.raw >>= taken;
            self.raw_bits -= taken;
            done += taken;
        }
        value
    }
}
