//! The range coder: decisions with learned probabilities from the front of the bytes, bits of which nothing is known from
//! their end.
//!
//! One model drives both ways: a [`Coder`] is given what is to be coded and returns what was coded. The encoder returns
//! what it is given; the decoder looks at its bytes instead.

use super::super::{
    CodecError,
    interval::{IntervalReader, IntervalWriter, Sink},
};

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

/// The part of an interval that stands for `true`.
#[inline(always)]
fn lower(width: u32, probability: Probability) -> u32 {
    (width >> 16) * probability.likely()
}

const fn mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

pub struct Encoder<'b> {
    interval: IntervalWriter,
    out: Out<'b>,
    raw: u64,
    raw_bits: u32,
}

/// Bytes written from the front, and where those from the end begin.
struct Out<'b> {
    bytes: &'b mut [u8],
    front: usize,
    back: usize,
    is_full: bool,
}

impl Sink for Out<'_> {
    fn put(&mut self, byte: u8) {
        if self.front < self.back {
            self.bytes[self.front] = byte;
            self.front += 1;
        } else {
            self.is_full = true;
        }
    }
}

impl Out<'_> {
    fn put_back(&mut self, byte: u8) {
        if self.front < self.back {
            self.back -= 1;
            self.bytes[self.back] = byte;
        } else {
            self.is_full = true;
        }
    }
}

impl<'b> Encoder<'b> {
    pub fn new(out: &'b mut [u8]) -> Self {
        let back = out.len();
        let out = Out { bytes: out, front: 0, back, is_full: false };
        Self { interval: IntervalWriter::NEW, out, raw: 0, raw_bits: 0 }
    }

    /// Ends the piece and returns its length.
    pub fn finish(mut self) -> Result<usize, CodecError> {
        // The raw bits follow.
        self.interval.end_before_anything(&mut self.out);
        while self.raw_bits > 0 {
            self.out.put_back(self.raw as u8);
            self.raw >>= 8;
            self.raw_bits = self.raw_bits.saturating_sub(8);
        }
        let Out { bytes, front, back, is_full } = self.out;
        let capacity = bytes.len();
        if is_full {
            return Err(CodecError::OutputFull { capacity });
        }
        bytes.copy_within(back..capacity, front);
        Ok(front + capacity - back)
    }
}

impl Coder for Encoder<'_> {
    const DECODES: bool = false;

    #[inline(always)]
    fn bit(&mut self, _: usize, probability: &mut Probability, decision: bool) -> bool {
        let lower = lower(self.interval.width(), *probability);
        self.interval.narrow(lower, decision, &mut self.out);
        probability.learn(decision);
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
                self.out.put_back(self.raw as u8);
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
    interval: IntervalReader<'b>,
    /// Where the bytes read from the end begin.
    back: usize,
    raw: u64,
    raw_bits: u32,
}

impl<'b> Decoder<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { interval: IntervalReader::new(bytes), back: bytes.len(), raw: 0, raw_bits: 0 }
    }

    /// Before the beginning stand zeros.
    #[inline(always)]
    fn next_back(&mut self) -> u64 {
        if self.back == 0 {
            return 0;
        }
        self.back -= 1;
        u64::from(self.interval.bytes()[self.back])
    }

    pub fn used(&self) -> usize {
        let length = self.interval.bytes().len();
        (self.interval.read_bytes() + length - self.back).min(length)
    }
}

impl Coder for Decoder<'_> {
    const DECODES: bool = true;

    #[inline(always)]
    fn bit(&mut self, _: usize, probability: &mut Probability, _: bool) -> bool {
        let decision = self.interval.narrow(lower(self.interval.width(), *probability));
        probability.learn(decision);
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
