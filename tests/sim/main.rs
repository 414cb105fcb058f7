//! The simulated world: the real core between a fake network, a fake disk and fake clocks, all driven by one seed.
//!
//! A run has a time of faults (network, upstream, disk, clock, killed processes, power cuts) and then a calm one, at the
//! end of which everything must be in order: nothing lost that had to survive, nothing invented, the upstream complete.
//! The same seed gives the same run: its trace hash says so. `HOLDFAST_SIM_SEEDS=FROM..TO` runs other seeds.

#[path = "../contract/fake_stored.rs"]
mod fake_stored;
mod model;
mod network;
mod world;

use std::sync::RwLock;
use world::World;

/// Held alone by the one who counts the heap of the process.
static HEAP: RwLock<()> = RwLock::new(());

fn run(seed: u64) -> world::End {
    let _others_may_run_too = HEAP.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    World::run(seed)
}

const SEEDS: std::ops::Range<u64> = 0..200;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("HOLDFAST_SIM_SEEDS") else { return SEEDS };
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("HOLDFAST_SIM_SEEDS={text}: write it as 0..200"))
}

#[test]
fn every_seed_ends_calm() {
    let (mut faults, mut scrapes, mut device_ms) = (0, 0, 0);
    let mut failed = Vec::new();
    for seed in seeds() {
        let Ok(end) = std::panic::catch_unwind(|| run(seed)) else {
            failed.push(seed);
            continue;
        };
        faults += end.faults;
        scrapes += end.scrapes;
        device_ms += end.simulated_ms;
    }
    assert!(failed.is_empty(), "these seeds failed, each for the reason above: {failed:?}");
    println!("{faults} faults, {scrapes} scrapes stored, {} simulated hours", device_ms / 3_600_000);
    assert!(faults > seeds().count() as u64, "a world without faults proves nothing");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [0, 1, 17] {
        assert_eq!(run(seed).trace_hash, run(seed).trace_hash, "seed {seed}");
    }
    assert_ne!(run(0).trace_hash, run(1).trace_hash);
}

#[test]
fn a_disk_that_is_away_for_long_costs_only_the_oldest_rows_and_they_are_named() {
    let _others_may_run_too = HEAP.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    World::disk_away(0);
}

#[test]
fn what_was_lost_is_still_known_after_kills_and_power_cuts() {
    let _others_may_run_too = HEAP.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    for seed in 0..3 {
        World::losses(seed);
    }
}

/// Nothing in the daemon or on its disk grows with its age, and what it tells stays right.
#[test]
fn a_day_ends_as_it_began() {
    let _alone = HEAP.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let end = World::day(1);
    println!("{} faults, {} scrapes stored", end.faults, end.scrapes);
    assert!(end.scrapes > 8_000 && end.faults > 200, "{} scrapes, {} faults", end.scrapes, end.faults);
}

/// Seeds that once found a mistake, each with the story; they stay for ever.
#[test]
fn kept_seeds_stay_calm() {
    for line in include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let seed = line.split_whitespace().next().unwrap_or_default();
        run(seed.parse().unwrap_or_else(|_| panic!("seeds.txt: {line:?} does not begin with a number")));
    }
}
