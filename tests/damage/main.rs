//! Flipped bits, one at a time, anywhere in what a process leaves: database, logs and slab.
//!
//! Whatever is hit, the daemon starts. In database and logs a flipped bit invents nothing and costs at most the damaged unit: a
//! segment, a layout, a frame of the log, or where SQLite's own pages are hit the database, which is set
//! aside; and whatever is lacking has been told. `HOLDFAST_FLIPS=100000` flips as many.

mod stored;

use holdfast_core::prng::Prng;
use std::collections::BTreeMap;
use stored::{FlipFile, Outcome, Stored};

fn flips(default: u64) -> u64 {
    let Ok(text) = std::env::var("HOLDFAST_FLIPS") else { return default };
    text.parse().unwrap_or_else(|_| panic!("HOLDFAST_FLIPS={text}: give a number"))
}

#[test]
fn any_flipped_bit_costs_at_most_its_unit_and_that_is_told() {
    let stored = Stored::new();
    let mut prng = Prng::new(flips(0) ^ 7);
    let mut outcomes: BTreeMap<(FlipFile, Outcome), u64> = BTreeMap::new();
    let mut failures = Vec::new();
    for _ in 0..flips(150) {
        let flip = stored.random_flip(&mut prng);
        match stored.try_flip(flip) {
            Ok(outcome) => *outcomes.entry((flip.file, outcome)).or_default() += 1,
            Err(error) => failures.push(format!("{flip:?}: {error}")),
        }
    }
    for ((file, outcome), count) in &outcomes {
        println!("{file:?}: {outcome:?} {count}");
    }
    assert!(
        failures.is_empty(),
        "{} failures, the first ones: {:#?}",
        failures.len(),
        &failures[..failures.len().min(20)]
    );
}
