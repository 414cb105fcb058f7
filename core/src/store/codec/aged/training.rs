//! Where the contexts start: learned beforehand from recorded scrapes by core/examples/aged_start.rs, which writes
//! `start.rs` with what is here.

pub use super::model::CONTEXTS;
use super::{
    ColumnKind, Presence,
    column::Stripe,
    range::{Coder, Probability},
};

/// A probability in 1/4096 (bits 4 to 15) and how many decisions it counts as (bits 0 to 3), for each context.
pub type Start = [u16; CONTEXTS];

/// Only a context's first decisions in a stripe count: later ones it has learned itself.
const FIRST_DECISIONS: u8 = 30;

/// How often a context was decided so and so early in a stripe, and what all decisions cost.
pub struct Training {
    /// `false`, `true`.
    pub decisions: [[u32; 2]; CONTEXTS],
    seen: [u8; CONTEXTS],
    /// In 1/65536 bit.
    cost: u64,
}

impl Training {
    pub const fn new() -> Self {
        Self { decisions: [[0; 2]; CONTEXTS], seen: [0; CONTEXTS], cost: 0 }
    }

    /// Bits of all stripes so far, but for those that end each one.
    pub fn bits(&self) -> f64 {
        self.cost as f64 / 65_536.0
    }
}

impl Default for Training {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts one stripe's decisions, as they would be made with this start.
pub fn measure<'c>(
    training: &mut Training,
    start: &Start,
    columns: impl IntoIterator<Item = (ColumnKind, &'c [u64], &'c [Presence])>,
) {
    training.seen = [0; CONTEXTS];
    let mut stripe = Stripe::new();
    stripe.begin(start);
    for (kind, cells, presence) in columns {
        stripe.encode(training, kind, cells, presence);
        if kind == ColumnKind::Float {
            stripe.flag(training, false);
        }
    }
}

impl Coder for Training {
    const DECODES: bool = false;

    fn bit(&mut self, context: usize, probability: &mut Probability, decision: bool) -> bool {
        let likely = if decision { probability.likely() } else { 65_536 - probability.likely() };
        self.cost += u64::from(cost(likely));
        if self.seen[context] < FIRST_DECISIONS {
            self.seen[context] += 1;
            self.decisions[context][usize::from(decision)] += 1;
        }
        probability.learn(decision);
        decision
    }

    fn raw(&mut self, value: u64, bits: u32) -> u64 {
        self.cost += u64::from(bits) << 16;
        value
    }
}

/// Of a decision that is so likely, in 1/65536: its bits, in 1/65536.
fn cost(likely: u32) -> u32 {
    let whole = likely.ilog2();
    let mut mantissa = u64::from(likely) << (30 - whole);
    let (mut log, mut bit) = (whole << 16, 1 << 15);
    while bit > 0 {
        mantissa = (mantissa * mantissa) >> 30;
        if mantissa >= 2 << 30 {
            mantissa >>= 1;
            log += bit;
        }
        bit >>= 1;
    }
    (16 << 16) - log
}
