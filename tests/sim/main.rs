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
use world::{World, churn::Churn};

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

#[test]
fn a_database_found_damaged_is_replaced_while_the_daemon_runs() {
    let _others_may_run_too = HEAP.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    for seed in 0..6 {
        World::database_damaged(seed);
    }
}

#[test]
fn a_clock_that_jumps_a_year_ahead_takes_no_history_with_it() {
    let _others_may_run_too = HEAP.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    for seed in 0..2 {
        World::clock_ahead_for_a_while(seed);
        World::clock_ahead_for_good(seed);
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

/// Every write and every sync of ten minutes may be the last thing the medium took. `HOLDFAST_CUTS` is how often the
/// unsynced sectors are drawn at each of them.
#[test]
fn a_power_cut_at_any_write_or_sync_of_ten_minutes_costs_one_flush_interval_at_most() {
    let _others_may_run_too = HEAP.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cuts = World::ten_minutes_with_cuts(1, number_from("HOLDFAST_CUTS", 2));
    println!("{:?} places, {} recoveries, {} ms lost at most", cuts.places, cuts.recoveries, cuts.lost_ms_max);
    assert!(cuts.places.len() == 4 && cuts.places.values().all(|count| *count > 3), "{:?}", cuts.places);
    assert!(cuts.lost_ms_max > 20_000, "the newest scrapes are lost with what was not synced");
}

/// A target replaces a tenth of its series every minute.
#[test]
fn a_week_of_churn_ends_as_its_third_day_did() {
    let _alone = HEAP.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let days = number_from("HOLDFAST_CHURN_DAYS", 7);
    let ends = Churn::live(number_from("HOLDFAST_CHURN_SERIES", 50), days);
    // The ring, the files and what is remembered of them fill until the retention has come round once, everything else within
    // the first day.
    let (first, third, last) = (&ends[0], &ends[2.min(ends.len() - 1)], &ends[ends.len() - 1]);
    for (region, used) in &last.regions {
        let before = if region == "ring" { third } else { first }.regions[region];
        assert!(*used <= before + before / 10 + 8, "{region}: {before} at first, {used} after {days} days");
    }
    assert!(
        last.heap_bytes <= third.heap_bytes + 32 * 1024,
        "heap: {} bytes, then {}",
        third.heap_bytes,
        last.heap_bytes
    );
    assert!(
        last.disk_bytes <= third.disk_bytes + third.disk_bytes / 10,
        "{} bytes of files, then {}",
        third.disk_bytes,
        last.disk_bytes
    );
    assert!(
        last.bites <= third.bites + third.bites / 4,
        "{} bites for the questions, then {}",
        third.bites,
        last.bites
    );
    assert_eq!(
        (last.refused, last.evicted_unspilled),
        (0, 0),
        "newcomers find room, and nobody's rows are lost for it"
    );
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|error| panic!("{variable}: {error}")))
}

/// Seeds that once found a mistake, each with the story; they stay for ever.
#[test]
fn kept_seeds_stay_calm() {
    for line in include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let seed = line.split_whitespace().next().unwrap_or_default();
        run(seed.parse().unwrap_or_else(|_| panic!("seeds.txt: {line:?} does not begin with a number")));
    }
}
