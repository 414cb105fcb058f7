//! The contexts: one learned probability for each decision in each situation that is told apart.

use super::range::{Coder, Probability};

/// Names each group of contexts and where it begins.
macro_rules! contexts {
    ($($(#[$doc:meta])* $name:ident: $count:expr,)*) => { contexts!(@ 0; $($(#[$doc])* $name: $count,)*); };
    (@ $base:expr; $(#[$doc:meta])* $name:ident: $count:expr, $($rest:tt)*) => {
        $(#[$doc])*
        pub const $name: usize = $base;
        contexts!(@ $base + $count; $($rest)*);
    };
    (@ $base:expr;) => {
        pub const CONTEXTS: usize = $base;
    };
}

contexts! {
    /// Between columns.
    FLAG: 1,
    /// Whether presence is that of the column before.
    PRESENCE_SAME: 1,
    /// All values, all absent, or told row by row: a tree.
    PRESENCE_KIND: 4,
    /// Whether a row's state is that of the row before: by that state, and whether the column before changes here.
    PRESENCE_KEPT: 6,
    /// Which of the two others it is, by the state before.
    PRESENCE_OTHER: 3,
    /// Whether there are exceptions; whether they are the usual NaN; whether a value is one, by whether the last was.
    EXCEPTIONS: 2,
    EXCEPTION: 2,
    /// Whether all values are the same, by the three columns before.
    CONSTANT: 8,
    /// Whether it is the constant before, zero, one.
    CONSTANT_KNOWN: 3,
    /// A constant's transform: a tree.
    CONSTANT_TRANSFORM: 32,
    /// Whether the transform is the one before; whether it is a drifting decimal; which: two trees.
    TRANSFORM_KNOWN: 2,
    TRANSFORM: 32,
    TRANSFORM_DRIFT: 32,
    /// Whether there is a reference, by whether the column before has one; which: a tree.
    REFERENCE: 2,
    REFERENCE_WHICH: 8,
    /// The predictor: a tree for each of the column before's.
    PREDICTOR: 64,
    /// Whether there is a divisor, by whether there was one; whether it is the one before; its length.
    DIVISOR: 2,
    DIVISOR_KNOWN: 1,
    DIVISOR_LENGTH: 128,
    /// Lengths of first values: of a constant, of one without and one with a reference: trees.
    FIRST_LENGTH: 384,
    /// Whether a value differs from the one before: by how often that was so lately (8), whether it was so for the last two
    /// (4), for the two columns before in this row (4), for the three before those (3).
    MOVED: 384,
    /// Whether a residual is longer, or shorter, than the expected length, and so on, bit by bit: by the expected length (26),
    /// by whether it can be zero (2), up or down (2), by how far it is already (8).
    LENGTH: 832,
    /// Whether a residual is negative: by predictor (4), by the last four (16), by the column before's in this row (3).
    SIGN: 192,
    /// The bits behind the first of short residuals: a tree for each length.
    SHORT: 16,
    /// The two bits behind the first of longer residuals: a tree for each length, up to 32.
    LONG: 132,
    /// Whether a drift's rest is the one before where the value is; the length of its difference: by the expected one
    /// (16), by how far it is already (16).
    REST_KEPT: 1,
    REST_LENGTH: 256,
}

pub struct Model([Probability; CONTEXTS]);

impl Model {
    pub const fn new() -> Self {
        Self([Probability::new(2048, 0); CONTEXTS])
    }

    /// Forgets what was learned. A start is a probability in 1/4096 (bits 4 to 15) and a count (bits 0 to 3).
    pub fn begin(&mut self, start: &[u16; CONTEXTS]) {
        for (probability, start) in self.0.iter_mut().zip(start) {
            *probability = Probability::new(start >> 4, start & 15);
        }
    }

    #[inline(always)]
    pub fn bit(&mut self, coder: &mut impl Coder, context: usize, decision: bool) -> bool {
        coder.bit(context, &mut self.0[context], decision)
    }

    /// A number below 2^`bits`, highest bit first: each bit's context is 1 and the bits before it, as a binary number.
    #[inline(always)]
    pub fn tree(&mut self, coder: &mut impl Coder, base: usize, bits: u32, value: u32) -> u32 {
        let mut node = 1_usize;
        for shift in (0..bits).rev() {
            let bit = self.bit(coder, base + node, value >> shift & 1 == 1);
            node = node << 1 | usize::from(bit);
        }
        (node - (1 << bits)) as u32
    }

    /// A number of any size: its length as a tree of 7 bits, then what is behind its first bit, raw.
    pub fn number(&mut self, coder: &mut impl Coder, base: usize, value: u64) -> u64 {
        let length = self.tree(coder, base, 7, length(value)).min(64);
        if length <= 1 {
            return u64::from(length);
        }
        let low_bits = length - 1;
        1 << low_bits | coder.raw(value & ((1 << low_bits) - 1), low_bits)
    }
}

/// Bits up to the highest one that is set.
pub const fn length(value: u64) -> u32 {
    64 - value.leading_zeros()
}
