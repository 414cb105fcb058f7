//! Flipped bits, one at a time, anywhere in what a process leaves: database, logs and slab.
//!
//! Whatever is hit, the daemon starts. In database and logs a flipped bit invents nothing and costs at most the damaged unit: a
//! segment, a layout, a frame of the log, or where SQLite's own pages are hit the database, which is set
//! aside; and whatever is lacking has been told. `HOLDFAST_FLIPS=100000` flips as many at random, `HOLDFAST_FLIPS=all` every bit of
//! the database that has no checksum of ours, and every bit of the logs.

mod pages;
mod stored;

use holdfast_core::prng::Prng;
use std::collections::BTreeMap;
use stored::{Flip, FlipFile, Outcome, Stored};

/// Tries flips, prints what they came to, and fails with those that broke the promise.
fn try_all(stored: &Stored, flips: impl Iterator<Item = Flip>) -> BTreeMap<(FlipFile, Outcome), u64> {
    let mut outcomes: BTreeMap<(FlipFile, Outcome), u64> = BTreeMap::new();
    let mut failures = Vec::new();
    for flip in flips {
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
    outcomes
}

#[test]
fn any_flipped_bit_costs_at_most_its_unit_and_that_is_told() {
    let stored = Stored::new();
    let count = match std::env::var("HOLDFAST_FLIPS").as_deref() {
        Err(_) => 150,
        Ok("all") => {
            let flips = stored.unchecked_bits();
            println!("{} bits", flips.len());
            try_all(&stored, flips.into_iter());
            return;
        }
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("HOLDFAST_FLIPS={text}: give a number, or all")),
    };
    let mut prng = Prng::new(count ^ 7);
    try_all(&stored, (0..count).map(|_| stored.random_flip(&mut prng)));
}

/// Ten of 30,000 flips at random hit the numbers by which SQLite finds a segment, and samples were missing, or were given under
/// another series' name or time, and nobody was told.
#[test]
fn a_flipped_bit_in_any_number_of_an_index_costs_nothing_and_is_told() {
    let stored = Stored::new();
    for name in [
        "segments_by_row",
        "segments_by_layout",
        "segments_by_end",
        "segments_by_start",
        "layouts_by_layout",
        "layouts_by_timeline",
        "sqlite_autoindex_state_1",
    ] {
        let flips = stored.number_flips(name);
        assert!(flips.len() >= 2, "{name}: {}", flips.len());
        let count = flips.len() as u64;
        let outcomes = try_all(&stored, flips.into_iter());
        assert_eq!(outcomes, BTreeMap::from([((FlipFile::Database, Outcome::ToldOnly), count)]), "{name}");
    }
}

#[test]
fn a_flipped_bit_in_any_number_of_a_row_costs_at_most_its_segment() {
    let stored = Stored::new();
    for name in ["segments", "layouts"] {
        let outcomes = try_all(&stored, stored.number_flips(name).into_iter());
        assert!(outcomes.keys().all(|(_, outcome)| *outcome <= Outcome::Unit), "{name}: {outcomes:?}");
        assert!(outcomes.values().sum::<u64>() >= 4, "{name}: {outcomes:?}");
    }
}

/// One flip at random made the header of the log's last frame look like the log's end.
#[test]
fn a_flipped_bit_in_any_field_of_the_last_frames_header_costs_nothing_and_is_told() {
    let stored = Stored::new();
    let flips = stored.last_frame_flips();
    let (file, count) = (flips[0].file, flips.len() as u64);
    let outcomes = try_all(&stored, flips.into_iter());
    assert_eq!(outcomes, BTreeMap::from([((file, Outcome::ToldOnly), count)]));
}
