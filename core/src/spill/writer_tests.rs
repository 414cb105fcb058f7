use super::{
    super::{frame::*, mark_stored, timeline_open, world::*},
    due::{SEAL_CELLS_FIRST_PARTS, SEAL_ROWS, SEGMENT_STEP_MS_MAX, segment_rows},
    frames::CHAIN_RUNS_MAX,
    *,
};
use crate::{
    labels::LabelSet,
    prng::Prng,
    store::{Plan, STALE_NAN_BITS},
    time::Now,
};
use alloc::{collections::BTreeMap, vec};

type Samples = BTreeMap<(LabelSet, i64), u64>;

fn sample(samples: &mut Samples, labels: &LabelSet, t_ms: i64, value: f64) -> u64 {
    samples.insert((labels.clone(), t_ms), value.to_bits());
    value.to_bits()
}

/// Starts a spill on an empty disk: the first checkpoint opens the log.
fn begin(store: &mut Store<'_>, disk: &mut Disk) -> Spill {
    let (mut spill, _, _) = disk.recover(store);
    spill.options.seal_cells = 1;
    assert!(spill.checkpoint_due() && spill.log_generation().is_none());
    seal(&mut spill, store, disk, at(START_MS), SealReason::Checkpoint);
    assert_eq!(spill.log_generation(), Some(disk.database.spill_state().log_generation));
    spill
}

#[test]
fn rows_that_were_flushed_survive_a_power_cut_and_the_others_do_not() {
    let (plan, mut slab, mut other) = (plan(), Vec::new(), Vec::new());
    let (mut store, mut disk, mut model) = (create(&mut slab, &plan), Disk::default(), Samples::new());
    let mut spill = begin(&mut store, &mut disk);
    let (up, temperature) = (labels("up", 1), labels("temperature", 1));
    for row in 0..50 {
        let t_ms = START_MS + row * 1_000;
        let up_bits = sample(&mut model, &up, t_ms, 1.0);
        // The thermometer tells its own time, sometimes the same as the scrape's.
        let age_ms = row % 3 * 250;
        let bits = sample(&mut model, &temperature, t_ms - age_ms, row as f64 / 4.0);
        scrape(&mut store, 1, t_ms, &[(&temperature, bits, Some(age_ms)), (&up, up_bits, None)]);
        if row == 20 {
            assert!(flush(&mut spill, &mut store, &mut disk) >= 3, "start, layout, rows");
        }
    }
    flush(&mut spill, &mut store, &mut disk);
    assert_eq!(flush(&mut spill, &mut store, &mut disk), 0, "all is logged");
    store.state_put("forward/site", b"row 9").unwrap();
    assert_eq!(flush(&mut spill, &mut store, &mut disk), 1);
    // Missing in this row: a stale marker for what was there.
    scrape(&mut store, 1, START_MS + 60_000, &[(&up, 0, None)]);
    let mut recovered = create(&mut other, &plan);
    let (_, reports, replayed) = disk.recover(&mut recovered);
    assert_eq!(all_samples(&recovered, &disk), model);
    assert_eq!((replayed.rows, replayed.samples, replayed.rows_lost), (50, 100, 0));
    assert!(reports.iter().all(|report| !report.torn && report.damaged == 0));
    assert_eq!(recovered.state_get("forward/site"), Some(&b"row 9"[..]));
    flush(&mut spill, &mut store, &mut disk);
    model.insert((up, START_MS + 60_000), 0);
    model.insert((temperature, START_MS + 60_000), STALE_NAN_BITS);
    let mut recovered = create(&mut other, &plan);
    disk.recover(&mut recovered);
    assert_eq!(all_samples(&recovered, &disk), model);
}

#[test]
fn a_full_segments_rows_are_sealed_and_a_row_less_is_not() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let mut spill = begin(&mut store, &mut disk);
    let up = labels("up", 1);
    for row in 0..SEAL_ROWS as i64 - 1 {
        scrape(&mut store, 1, START_MS + row * 1_000, &[(&up, 7, None)]);
    }
    let now = at(START_MS + SEAL_ROWS as i64 * 1_000);
    assert!(!spill.seal_due(&store, now));
    assert_eq!(seal(&mut spill, &mut store, &mut disk, now, SealReason::Due), 0);
    scrape(&mut store, 1, now.wall_ms, &[(&up, 7, None)]);
    assert!(spill.seal_due(&store, now));
    assert_eq!(seal(&mut spill, &mut store, &mut disk, now, SealReason::Due), 3, "layout, segment, the spill's state");
    let timeline = store.timeline_find(TimelineKey(1)).unwrap();
    assert_eq!(store.rows_spilled(timeline), SEAL_ROWS);
    let meta = disk.database.segments[0].0;
    assert_eq!((meta.row_from, meta.row_count, meta.column_from, meta.column_count), (0, SEAL_ROWS as u32, 0, 1));
    assert_eq!((meta.t_min_ms, meta.t_max_ms), (START_MS, now.wall_ms));
}

#[test]
fn full_segments_wait_until_there_are_enough_of_them_or_four_times_as_many_rows() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let mut spill = begin(&mut store, &mut disk);
    spill.options.seal_cells = 3 * SEAL_ROWS * SEAL_CELLS_FIRST_PARTS;
    let up = labels("up", 1);
    let now = at(START_MS);
    let rows = |store: &mut Store<'_>, key: u64, count: u64| {
        for row in 0..count as i64 {
            scrape(store, key, START_MS + row, &[(&up, 7, None)]);
        }
    };
    let mut sealed = |spill: &mut Spill, store: &mut Store<'_>| -> Vec<(u64, u32)> {
        let before = disk.database.segments.len();
        seal(spill, store, &mut disk, now, SealReason::Due);
        disk.database.segments[before..].iter().map(|(meta, _)| (meta.timeline.0, meta.row_count)).collect()
    };
    rows(&mut store, 1, SEAL_ROWS * 2 - 1);
    rows(&mut store, 2, SEAL_ROWS - 1);
    assert!(!spill.seal_due(&store, now));
    assert_eq!(sealed(&mut spill, &mut store), []);
    rows(&mut store, 2, 1);
    assert!(!spill.seal_due(&store, now), "a cell less than it takes");
    rows(&mut store, 2, 1);
    rows(&mut store, 3, SEAL_ROWS - 1);
    assert_eq!(sealed(&mut spill, &mut store), [(1, 240), (1, 239), (2, 241)], "and what is not full waits");
    // Now that there are segments, it takes more; but not more rows than that.
    rows(&mut store, 1, 4 * SEAL_ROWS - 1);
    assert_eq!(sealed(&mut spill, &mut store), []);
    rows(&mut store, 1, 1);
    assert_eq!(sealed(&mut spill, &mut store), [(1, 240); 4]);
}

#[test]
fn old_rows_are_sealed_however_few_they_are() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let mut spill = begin(&mut store, &mut disk);
    scrape(&mut store, 1, START_MS, &[(&labels("up", 1), 7, None)]);
    let age_ms = SpillOptions::new(UUID, &plan).seal_age_ms;
    let after = |waited_ms: u64| Now { mono_ms: 1 + waited_ms, wall_ms: START_MS };
    assert!(!spill.seal_due(&store, after(0)));
    assert!(!spill.seal_due(&store, after(age_ms - 1)));
    assert!(spill.seal_due(&store, after(age_ms)));
    assert_eq!(seal(&mut spill, &mut store, &mut disk, after(age_ms), SealReason::Due), 3);
    assert!(!spill.seal_due(&store, after(age_ms)));
    // A row that comes a day late has not waited yet.
    scrape(&mut store, 1, START_MS - 86_400_000, &[(&labels("up", 1), 7, None)]);
    assert!(!spill.seal_due(&store, after(age_ms)));
    assert!(!spill.seal_due(&store, after(2 * age_ms - 1)));
    assert!(spill.seal_due(&store, after(2 * age_ms)));
}

#[test]
fn rows_are_sealed_before_they_would_leave_ram_unspilled() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let mut spill = begin(&mut store, &mut disk);
    let mut prng = Prng::new(1);
    let names: Vec<LabelSet> = (0..500).map(|index| labels(&alloc::format!("noise_{index}"), 1)).collect();
    for row in 0..1_000 {
        let puts: Vec<Put1<'_>> = names.iter().map(|name| (name, prng.next_u64(), None)).collect();
        let now = at(START_MS + row * 1_000);
        scrape(&mut store, 1, now.wall_ms, &puts);
        if spill.seal_due(&store, now) {
            seal(&mut spill, &mut store, &mut disk, now, SealReason::Due);
        }
    }
    let counters = store.usage().counters;
    assert!(counters.evicted_rows > 100, "{counters:?}");
    assert_eq!(counters.evicted_unspilled_rows, 0);
    assert_eq!(
        disk.database.rows_stored(TimelineKey(1)),
        store.rows_spilled(store.timeline_find(TimelineKey(1)).unwrap())
    );
}

#[test]
fn what_did_not_reach_the_disk_is_given_again() {
    let (plan, mut slab, mut other) = (plan(), Vec::new(), Vec::new());
    let (mut store, mut disk, mut model) = (create(&mut slab, &plan), Disk::default(), Samples::new());
    let mut spill = begin(&mut store, &mut disk);
    let up = labels("up", 1);
    let mut out = vec![0; FRAME_BYTES_MAX];
    for row in 0..10 {
        let bits = sample(&mut model, &up, START_MS + row, row as f64);
        scrape(&mut store, 1, START_MS + row, &[(&up, bits, None)]);
    }
    while spill.frame_next(&store, &mut out).is_some() {}
    spill.log_sync(3);
    assert_eq!(spill.frame_next(&store, &mut out), None, "nothing more before the sync has ended");
    spill.log_synced(&mut store, 2, true);
    assert_eq!(spill.frame_next(&store, &mut out), None, "another sync says nothing about this one");
    spill.log_synced(&mut store, 3, false);
    assert_eq!(store.rows_logged(store.timeline_find(TimelineKey(1)).unwrap()), 0);
    flush(&mut spill, &mut store, &mut disk);
    while spill.seal_next(&store, at(START_MS), SealReason::Stop, &mut out).is_some() {}
    spill.commit(&mut store, 4);
    assert!(spill.seal_next(&store, at(START_MS), SealReason::Stop, &mut out).is_none());
    spill.committed(&mut store, 4, false);
    assert_eq!(store.rows_spilled(store.timeline_find(TimelineKey(1)).unwrap()), 0);
    let mut recovered = create(&mut other, &plan);
    disk.recover(&mut recovered);
    assert_eq!(all_samples(&recovered, &disk), model);
    assert_eq!(seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Stop), 3);
    let empty = create(&mut other, &plan);
    assert_eq!(all_samples(&empty, &disk), model);
}

#[test]
fn a_state_that_changed_goes_to_the_log_at_once_and_to_the_database_at_the_next_seal() {
    let (plan, mut slab, mut other) = (plan(), Vec::new(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    store.state_put("alerts", b"before the log is open").unwrap();
    let mut spill = begin(&mut store, &mut disk);
    assert_eq!(disk.database.states["alerts"], b"before the log is open");
    flush(&mut spill, &mut store, &mut disk);
    store.state_put("alerts", b"one").unwrap();
    let mut out = vec![0; FRAME_BYTES_MAX];
    let bytes = spill.state_frame("alerts", b"one", &mut out).unwrap();
    disk.append(spill.log_generation().unwrap(), &out[..bytes]);
    let mut recovered = create(&mut other, &plan);
    disk.recover(&mut recovered);
    assert_eq!(recovered.state_get("alerts"), Some(&b"one"[..]));
    store.state_put("alerts", b"").unwrap();
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Stop);
    assert!(!disk.database.states.contains_key("alerts"));
    flush(&mut spill, &mut store, &mut disk);
    let mut recovered = create(&mut other, &plan);
    disk.recover(&mut recovered);
    assert_eq!(recovered.state_get("alerts"), None);
    assert_eq!(spill.state_frame("too long", &vec![0; FRAME_BYTES_MAX], &mut out), None);
}

#[test]
fn a_checkpoint_leaves_the_old_log_behind_and_the_new_one_holds_only_what_is_not_stored() {
    let (plan, mut slab, mut other) = (plan(), Vec::new(), Vec::new());
    let (mut store, mut disk, mut model) = (create(&mut slab, &plan), Disk::default(), Samples::new());
    let mut spill = begin(&mut store, &mut disk);
    let up = labels("up", 1);
    for row in 0..400 {
        let bits = sample(&mut model, &up, START_MS + row, row as f64);
        scrape(&mut store, 1, START_MS + row, &[(&up, bits, None)]);
        if row % 7 == 0 {
            flush(&mut spill, &mut store, &mut disk);
        }
        if row % 100 == 50 {
            let before = spill.log_generation().unwrap();
            seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
            assert_eq!(spill.log_generation(), Some(before + 1));
            assert!(spill.log_bytes() == 0 && !spill.checkpoint_due());
        }
    }
    flush(&mut spill, &mut store, &mut disk);
    let mut recovered = create(&mut other, &plan);
    let (_, reports, replayed) = disk.recover(&mut recovered);
    assert_eq!(all_samples(&recovered, &disk), model);
    assert!(replayed.rows < 60, "{replayed:?}");
    assert!(reports.iter().all(|report| report.damaged == 0), "{reports:?}");
}

#[test]
fn rows_flushed_while_a_checkpoint_is_being_committed_survive_a_cut_right_behind_it() {
    let (plan, mut slab, mut other) = (plan(), Vec::new(), Vec::new());
    let (mut store, mut disk, mut model) = (create(&mut slab, &plan), Disk::default(), Samples::new());
    let mut spill = begin(&mut store, &mut disk);
    let (up, mut out) = (labels("up", 1), vec![0; OUTPUT_BYTES]);
    let mut row = |store: &mut Store<'_>, t_ms: i64| {
        let bits = sample(&mut model, &up, t_ms, t_ms as f64);
        scrape(store, 1, t_ms, &[(&up, bits, None)]);
    };
    row(&mut store, START_MS);
    flush(&mut spill, &mut store, &mut disk);
    while let Some(put) = spill.seal_next(&store, at(START_MS), SealReason::Checkpoint, &mut out) {
        disk.database.put(&put);
    }
    spill.commit(&mut store, 9);
    row(&mut store, START_MS + 1);
    assert_eq!(flush(&mut spill, &mut store, &mut disk), 1, "still into the old generation");
    // The database has committed; the daemon has not heard of it when the power goes.
    assert_eq!(disk.database.spill_state().log_generation, spill.log_generation().unwrap() + 1);
    let mut recovered = create(&mut other, &plan);
    disk.recover(&mut recovered);
    assert_eq!(all_samples(&recovered, &disk), model);
}

/// A process killed around its checkpoint's commit: the slab knows of the next generation, the database may or may not.
#[test]
fn a_successor_that_attaches_around_a_checkpoint_goes_on_and_loses_nothing() {
    for database_committed in [false, true] {
        let (plan, mut slab, mut other) = (plan(), Vec::new(), Vec::new());
        let (mut disk, mut model, up) = (Disk::default(), Samples::new(), labels("up", 1));
        let mut out = vec![0; OUTPUT_BYTES];
        {
            let mut store = create(&mut slab, &plan);
            let mut spill = begin(&mut store, &mut disk);
            let bits = sample(&mut model, &up, START_MS, 1.0);
            scrape(&mut store, 1, START_MS, &[(&up, bits, None)]);
            flush(&mut spill, &mut store, &mut disk);
            let mut database = disk.database.clone();
            while let Some(put) = spill.seal_next(&store, at(START_MS), SealReason::Checkpoint, &mut out) {
                database.put(&put);
            }
            spill.commit(&mut store, 5);
            let bits = sample(&mut model, &up, START_MS + 1, 2.0);
            scrape(&mut store, 1, START_MS + 1, &[(&up, bits, None)]);
            if database_committed {
                disk.database = database;
            }
        }
        for round in 2..4 {
            let state = disk.database.spill_state();
            let log_generation = state.log_generation;
            let identity = crate::store::Identity { store_uuid: UUID, boot_id: [1; 16], log_generation };
            let (mut store, _) = Store::attach(&mut slab, &plan, &identity).map_err(|(error, _)| error).unwrap();
            mark_stored(&mut store, &mut disk.database).unwrap();
            let mut spill = Spill::new(SpillOptions::new(UUID, &plan), super::super::testing::EPOCH, state, 0);
            if round == 2 {
                // Killed once more before the commit.
                while spill.seal_next(&store, at(START_MS), SealReason::Checkpoint, &mut out).is_some() {}
                spill.commit(&mut store, 5);
                continue;
            }
            seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
            let bits = sample(&mut model, &up, START_MS + round, 3.0);
            scrape(&mut store, 1, START_MS + round, &[(&up, bits, None)]);
            flush(&mut spill, &mut store, &mut disk);
            assert_eq!(all_samples(&store, &disk), model);
            let stored = disk.database.segments.iter().map(|(meta, _)| u64::from(meta.row_count)).sum::<u64>();
            assert_eq!(stored, 2, "no row is stored twice");
        }
        let mut recovered = create(&mut other, &plan);
        disk.recover(&mut recovered);
        assert_eq!(all_samples(&recovered, &disk), model, "database committed: {database_committed}");
    }
}

#[test]
fn a_log_of_another_data_directory_is_not_replayed() {
    let (plan, mut slab, mut other) = (plan(), Vec::new(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let options = SpillOptions::new([8; 16], &plan);
    let mut spill = Spill::new(options, super::super::testing::EPOCH, SpillState::default(), 0);
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
    scrape(&mut store, 1, START_MS, &[(&labels("up", 1), 7, None)]);
    flush(&mut spill, &mut store, &mut disk);
    let mut recovered = create(&mut other, &plan);
    let (_, _, replayed) = disk.recover(&mut recovered);
    assert_eq!((replayed.rows, replayed.frames_foreign), (0, 2), "{replayed:?}");
}

#[test]
fn a_log_that_has_grown_beyond_its_bound_asks_for_a_checkpoint() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    // Room for two pages, of which each flush takes one.
    let options = SpillOptions { log_bytes_max: 2 * LOG_PAGE_BYTES, ..SpillOptions::new(UUID, &plan) };
    let mut spill = Spill::new(options, super::super::testing::EPOCH, SpillState::default(), 0);
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
    flush(&mut spill, &mut store, &mut disk);
    assert!(!spill.checkpoint_due());
    scrape(&mut store, 1, START_MS, &[(&labels("up", 1), 7, None)]);
    flush(&mut spill, &mut store, &mut disk);
    assert!(spill.checkpoint_due());
}

/// Rows are told against those before them, so that a damaged frame takes others with it; but not beyond the next run
/// that stands alone.
#[test]
fn damage_in_the_log_takes_the_rows_told_against_it_and_no_others() {
    let (plan, mut slab, mut other) = (plan(), Vec::new(), Vec::new());
    let (mut store, mut disk, mut model) = (create(&mut slab, &plan), Disk::default(), Samples::new());
    let mut spill = begin(&mut store, &mut disk);
    let (counter, runs, rows) = (labels("counter", 1), 2 * i64::from(CHAIN_RUNS_MAX) + 2, 3);
    let mut pages = Vec::new();
    for run in 0..runs {
        for row in run * rows..(run + 1) * rows {
            let bits = sample(&mut model, &counter, START_MS + row * 1_000, (row * row) as f64);
            scrape(&mut store, 1, START_MS + row * 1_000, &[(&counter, bits, None)]);
        }
        pages.push(disk.files[1].position);
        flush(&mut spill, &mut store, &mut disk);
    }
    // The frame of the fourth run; those up to the run that stands alone cannot be told without it.
    disk.files[1].bytes[pages[3] + FRAME_HEAD_BYTES + 5] ^= 4;
    let mut recovered = create(&mut other, &plan);
    let (_, reports, replayed) = disk.recover(&mut recovered);
    let chained = i64::from(CHAIN_RUNS_MAX) - 4;
    assert_eq!(replayed.rows_lost, (chained * rows) as u64);
    let gone = START_MS + 3 * rows * 1_000..START_MS + i64::from(CHAIN_RUNS_MAX) * rows * 1_000;
    model.retain(|(_, t_ms), _| !gone.contains(t_ms));
    assert_eq!(all_samples(&recovered, &disk), model);
    let damaged: Vec<_> = reports.iter().filter_map(|report| report.damaged_first.clone()).collect();
    assert!(damaged.len() == 1 && damaged[0].contains(&(pages[3] as u64)), "{damaged:?}");
    assert_eq!(damaged[0].end, pages[4] as u64);
    assert_eq!(reports.iter().map(|report| report.frames_missing).sum::<u64>(), 1);
}

/// The labels of 10,000 series are 430 kB. Each generation began with them, half a file, so that the next checkpoint was
/// due with the next flush.
#[test]
fn a_generation_does_not_tell_layouts_that_the_database_has() {
    let (plan, mut slab, mut other) = (plan(), Vec::new(), Vec::new());
    let (mut store, mut disk, mut model) = (create(&mut slab, &plan), Disk::default(), Samples::new());
    let mut spill = begin(&mut store, &mut disk);
    let names: Vec<LabelSet> =
        (0..301_u64).map(|index| labels(&alloc::format!("s{:016x}", crate::prng::mix(index)), 1)).collect();
    let mut row = |store: &mut Store<'_>, row: i64, count: usize| {
        let mut puts: Vec<Put1<'_>> = Vec::new();
        for name in &names[..count] {
            puts.push((name, sample(&mut model, name, START_MS + row, row as f64), None));
        }
        scrape(store, 1, START_MS + row, &puts);
    };
    row(&mut store, 0, 300);
    flush(&mut spill, &mut store, &mut disk);
    assert!(spill.log_bytes() >= 2 * LOG_PAGE_BYTES);
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
    row(&mut store, 1, 300);
    flush(&mut spill, &mut store, &mut disk);
    assert_eq!(spill.log_bytes(), LOG_PAGE_BYTES);
    // A column that is new since: its labels are in the log, the others' in the database.
    row(&mut store, 2, 301);
    assert_eq!(flush(&mut spill, &mut store, &mut disk), 2, "the new column's labels, rows");
    let mut recovered = create(&mut other, &plan);
    let (_, _, replayed) = disk.recover(&mut recovered);
    assert_eq!((replayed.rows, replayed.rows_lost), (2, 0));
    assert_eq!(all_samples(&recovered, &disk), model);
    // Without the database nobody knows whose rows these are, and nobody guesses.
    disk.database.layouts.clear();
    let mut recovered = create(&mut other, &plan);
    let (_, _, replayed) = disk.recover(&mut recovered);
    assert_eq!((replayed.rows, replayed.rows_lost), (0, 2));
}

#[test]
fn the_log_turns_when_a_seal_leaves_little_and_everything_is_sealed_when_it_is_full() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let options = SpillOptions { log_bytes_max: 32 * LOG_PAGE_BYTES, seal_cells: 1, ..SpillOptions::new(UUID, &plan) };
    let mut spill = Spill::new(options, super::super::testing::EPOCH, SpillState::default(), 0);
    let up = labels("up", 1);
    let now = at(START_MS);
    assert_eq!(spill.seal_reason(&store, now), SealReason::Checkpoint, "no generation is open");
    seal(&mut spill, &mut store, &mut disk, now, SealReason::Checkpoint);
    let mut next = 0;
    let mut rows = |store: &mut Store<'_>, key: u64, count: u64| {
        for _ in 0..count {
            next += 1;
            scrape(store, key, START_MS + next, &[(&up, next as u64, None)]);
        }
    };
    let pages = |spill: &Spill| spill.log_bytes() / LOG_PAGE_BYTES;
    // A page a flush, and one timeline has nearly all there is.
    for _ in 0..15 {
        rows(&mut store, 1, SEAL_ROWS / 15);
        flush(&mut spill, &mut store, &mut disk);
    }
    assert_eq!(spill.seal_reason(&store, now), SealReason::Due, "the log is short");
    rows(&mut store, 2, SEAL_ROWS / 4);
    flush(&mut spill, &mut store, &mut disk);
    assert_eq!((pages(&spill), spill.seal_reason(&store, now)), (16, SealReason::Turn));
    rows(&mut store, 2, 1);
    assert_eq!(spill.seal_reason(&store, now), SealReason::Due, "more than a fifth would be told twice");
    rows(&mut store, 1, 4);
    assert_eq!(spill.seal_reason(&store, now), SealReason::Turn);
    let generation = spill.log_generation().unwrap();
    seal(&mut spill, &mut store, &mut disk, now, SealReason::Turn);
    assert_eq!((spill.log_generation(), pages(&spill)), (Some(generation + 1), 0));
    let spilled = |store: &Store<'_>, key| store.rows_spilled(store.timeline_find(TimelineKey(key)).unwrap());
    assert_eq!((spilled(&store, 1), spilled(&store, 2)), (SEAL_ROWS + 4, 0), "what was not due is not cut short");
    // What is left lies in the generation before until the new one is filled, so that one has to stay.
    rows(&mut store, 1, SEAL_ROWS);
    assert_eq!(spill.seal_reason(&store, now), SealReason::Due);
    seal(&mut spill, &mut store, &mut disk, now, SealReason::Due);
    while pages(&spill) < 31 {
        rows(&mut store, 3, 1);
        assert_eq!(spill.seal_reason(&store, now), SealReason::Due, "one more page fits");
        flush(&mut spill, &mut store, &mut disk);
    }
    rows(&mut store, 3, 1);
    flush(&mut spill, &mut store, &mut disk);
    assert_eq!(spill.seal_reason(&store, now), SealReason::Checkpoint);
    seal(&mut spill, &mut store, &mut disk, now, SealReason::Checkpoint);
    flush(&mut spill, &mut store, &mut disk);
    // A file that takes nothing is left behind.
    rows(&mut store, 3, 1);
    let mut out = vec![0; OUTPUT_BYTES];
    while spill.frame_next(&store, &mut out).is_some() {}
    spill.log_sync(2);
    assert_eq!(spill.seal_reason(&store, now), SealReason::Due);
    spill.log_synced(&mut store, 2, false);
    assert_eq!(spill.seal_reason(&store, now), SealReason::Checkpoint);
}

/// The log turns twice; what is never due has to be in a generation that recovery reads, at each moment.
#[test]
fn wherever_the_power_is_cut_around_a_turn_of_the_log_nothing_that_was_safe_is_lost() {
    let mut cuts = 0;
    for cut in 0.. {
        let (plan, mut slab, mut other) = (plan(), Vec::new(), Vec::new());
        let (mut store, mut disk, mut model) = (create(&mut slab, &plan), Disk::default(), Samples::new());
        let mut spill = begin(&mut store, &mut disk);
        let (often, seldom, mut out) = (labels("often", 1), labels("seldom", 1), vec![0; OUTPUT_BYTES]);
        let (mut safe, mut steps, mut t_ms) = (Samples::new(), 0, START_MS);
        let mut goes_on = || {
            steps += 1;
            steps <= cut
        };
        let outlived = 'life: {
            for _ in 0..3 {
                for row in 0..SEAL_ROWS {
                    t_ms += 1_000;
                    let bits = sample(&mut model, &often, t_ms, row as f64);
                    scrape(&mut store, 1, t_ms, &[(&often, bits, None)]);
                    if row % 40 == 20 {
                        let bits = sample(&mut model, &seldom, t_ms, row as f64);
                        scrape(&mut store, 2, t_ms, &[(&seldom, bits, None)]);
                    }
                    if row % 60 == 59 {
                        while let Some(bytes) = spill.frame_next(&store, &mut out) {
                            disk.append(spill.log_generation().unwrap(), &out[..bytes]);
                            if !goes_on() {
                                break 'life false;
                            }
                        }
                        spill.log_sync(1);
                        disk.sync();
                        safe.clone_from(&model);
                        if !goes_on() {
                            break 'life false;
                        }
                        spill.log_synced(&mut store, 1, true);
                    }
                }
                let mut transaction = disk.database.clone();
                while let Some(put) = spill.seal_next(&store, at(t_ms), SealReason::Turn, &mut out) {
                    transaction.put(&put);
                }
                spill.commit(&mut store, 1);
                disk.database = transaction;
                if !goes_on() {
                    break 'life false;
                }
                spill.committed(&mut store, 1, true);
            }
            true
        };
        let mut recovered = create(&mut other, &plan);
        disk.recover(&mut recovered);
        let found = all_samples(&recovered, &disk);
        let lacking = safe.keys().filter(|key| !found.contains_key(*key)).count();
        assert_eq!(lacking, 0, "cut {cut}");
        assert!(found.iter().all(|(key, bits)| model.get(key) == Some(bits)), "cut {cut}: invented");
        cuts += 1;
        if outlived {
            break;
        }
    }
    assert!(cuts > 20, "{cuts} cuts");
}

#[test]
fn rows_are_parted_evenly() {
    assert_eq!([1, 240, 256, 257, 269, 512, 513].map(segment_rows), [1, 240, 256, 129, 135, 256, 171]);
}

#[test]
fn a_segment_ends_where_the_clock_jumps_and_not_at_a_late_row_between_others() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let mut spill = begin(&mut store, &mut disk);
    let (up, hour_ms) = (labels("up", 1), SEGMENT_STEP_MS_MAX as i64);
    let year_ms = 365 * 24 * hour_ms;
    let mut t_ms = START_MS;
    // An hour is no jump, a row that is two hours late stays alone, a year ahead is one, and so is the way back.
    for step in [1, 1, hour_ms, 1 - 2 * hour_ms, 2 * hour_ms, 1, year_ms, 1, 1, -year_ms, 1] {
        t_ms += step;
        scrape(&mut store, 1, t_ms, &[(&up, 7, None)]);
    }
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Stop);
    let rows: Vec<_> = disk.database.segments.iter().map(|(meta, _)| (meta.row_from, meta.row_count)).collect();
    assert_eq!(rows, [(0, 6), (6, 3), (9, 2)]);
    assert!(disk.database.segments[2].0.t_max_ms < START_MS + year_ms);
}

#[test]
fn a_wide_timeline_is_split_by_columns_and_comes_back_whole() {
    let (plan, mut slab, mut other) = (Plan::for_series(24 << 20, 22_000).unwrap(), Vec::new(), Vec::new());
    let (mut store, mut disk, mut model) = (create(&mut slab, &plan), Disk::default(), Samples::new());
    let mut spill = begin(&mut store, &mut disk);
    let names: Vec<LabelSet> = (0..20_000).map(|index| labels(&alloc::format!("wide_{index}"), 1)).collect();
    let mut prng = Prng::new(3);
    for row in 0..3 {
        let t_ms = START_MS + row * 1_000;
        let mut puts: Vec<Put1<'_>> = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let age_ms = if index % 1_000 == 7 { 5 } else { 0 };
            let bits = prng.next_u64() >> 2;
            model.insert((name.clone(), t_ms - age_ms), bits);
            puts.push((name, bits, Some(age_ms)));
        }
        scrape(&mut store, 1, t_ms, &puts);
    }
    flush(&mut spill, &mut store, &mut disk);
    let mut recovered = create(&mut other, &plan);
    let (_, _, replayed) = disk.recover(&mut recovered);
    assert_eq!((replayed.rows, replayed.rows_lost, replayed.refused_first), (3, 0, None));
    assert!(all_samples(&recovered, &disk) == model);
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Stop);
    assert!(disk.database.segments.len() > 2);
    let columns: u32 = disk.database.segments.iter().map(|(meta, _)| meta.column_count).sum();
    assert_eq!(columns, 20_020, "with the columns of ages");
    let empty = create(&mut other, &plan);
    assert!(all_samples(&empty, &disk) == model);
}

#[test]
fn a_layout_whose_segments_were_dropped_is_put_again() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let mut spill = begin(&mut store, &mut disk);
    let up = labels("up", 1);
    scrape(&mut store, 1, START_MS, &[(&up, 7, None)]);
    assert_eq!(seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Stop), 3);
    scrape(&mut store, 1, START_MS + 1, &[(&up, 7, None)]);
    assert_eq!(seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Stop), 2, "the layout is there");
    spill.dropped_before(START_MS + 2);
    scrape(&mut store, 1, START_MS + 2, &[(&up, 7, None)]);
    assert_eq!(seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Stop), 3);
}

/// A life with flushes, seals and checkpoints, its power cut behind every single write. Each time what was synced or
/// committed must come back, and nothing that was never scraped; then life goes on from there, to the next cut.
#[test]
fn a_power_cut_behind_any_write_loses_nothing_that_was_synced() {
    let mut cuts = 0;
    for first_cut in 0.. {
        let mut world = World::default();
        let mut prng = Prng::new(first_cut);
        let outlived = world.live(first_cut, &mut prng);
        world.check("the first cut");
        cuts += 1;
        // Once more, with another cut soon after: also within recovery's own checkpoint.
        let second_cut = prng.below(12);
        world.live(second_cut, &mut prng);
        world.check("the second cut");
        if outlived {
            break;
        }
    }
    assert!(cuts > 100, "{cuts} cuts");
}

#[derive(Default)]
struct World {
    disk: Disk,
    scraped: Samples,
    /// Of those the medium was said to hold.
    safe: Samples,
    clock: i64,
    safe_state: u64,
}

impl World {
    /// Lives from what the disk has until `cut` writes were made; true when nothing was left to do before that.
    fn live(&mut self, cut: u64, prng: &mut Prng) -> bool {
        let (plan, mut slab) = (plan(), Vec::new());
        let mut store = create(&mut slab, &plan);
        let (mut spill, _, _) = self.disk.recover(&mut store);
        for key in [1, 2] {
            timeline_open(&mut store, &mut self.disk.database, TimelineKey(key)).unwrap();
        }
        let mut out = vec![0; OUTPUT_BYTES];
        let mut writes = 0;
        let names: Vec<LabelSet> = (0..6).map(|index| labels(&alloc::format!("m_{index}"), 1)).collect();
        // Bytes of the log that were written and not synced: the cut keeps some of them.
        let mut unsynced: Vec<(u64, Vec<u8>)> = Vec::new();
        for step in 0..90 {
            if step % 20 == 0 {
                let mut transaction = self.disk.database.clone();
                let reason = if step % 40 == 0 { SealReason::Checkpoint } else { SealReason::Stop };
                while let Some(put) = spill.seal_next(&store, at(self.clock), reason, &mut out) {
                    transaction.put(&put);
                    writes += 1;
                    if writes > cut {
                        return self.power_off(unsynced, prng);
                    }
                }
                spill.commit(&mut store, step);
                self.disk.database = transaction;
                self.safe = self.scraped.clone();
                writes += 1;
                if writes > cut {
                    return self.power_off(unsynced, prng);
                }
                spill.committed(&mut store, step, true);
            }
            for key in 1..=2_u64 {
                self.clock += 1 + prng.below(3) as i64;
                let mut puts: Vec<Put1<'_>> = Vec::new();
                for name in &names {
                    if prng.chance(4, 5) {
                        puts.push((name, prng.next_u64() >> 2, None));
                    }
                }
                let row = scrape(&mut store, key, START_MS + self.clock, &puts);
                let timeline = store.timeline_find(TimelineKey(key)).unwrap();
                store.rows_read(timeline, row..row + 1, &mut |column| {
                    self.scraped.insert((LabelSet::from(column.labels), column.t_ms[0]), column.bits[0]);
                    true
                });
            }
            if step % 3 == 1 {
                store.state_put("count", &(self.safe_state + 1).to_le_bytes()).unwrap();
                while let Some(bytes) = spill.frame_next(&store, &mut out) {
                    unsynced.push((spill.log_generation().unwrap(), out[..bytes].to_vec()));
                    writes += 1;
                    if writes > cut {
                        return self.power_off(unsynced, prng);
                    }
                }
                spill.log_sync(step);
                for (generation, bytes) in unsynced.drain(..) {
                    self.disk.append(generation, &bytes);
                }
                self.disk.sync();
                self.safe = self.scraped.clone();
                self.safe_state += 1;
                writes += 1;
                if writes > cut {
                    return self.power_off(unsynced, prng);
                }
                spill.log_synced(&mut store, step, true);
            }
        }
        true
    }

    /// Of what was not synced some frames are there, some are not, and one is torn.
    fn power_off(&mut self, unsynced: Vec<(u64, Vec<u8>)>, prng: &mut Prng) -> bool {
        for (generation, mut bytes) in unsynced {
            match prng.below(3) {
                0 => bytes.fill(0),
                1 => {
                    let from = prng.below(bytes.len() as u64) as usize;
                    bytes[from..].fill(0xee);
                }
                _ => {}
            }
            self.disk.append(generation, &bytes);
        }
        false
    }

    fn check(&mut self, when: &str) {
        let (plan, mut slab) = (plan(), Vec::new());
        let mut store = create(&mut slab, &plan);
        self.disk.recover(&mut store);
        let found = all_samples(&store, &self.disk);
        for (sample, bits) in &self.safe {
            assert_eq!(found.get(sample), Some(bits), "{when}: {} at {} was safe", sample.0, sample.1);
        }
        for (sample, bits) in &found {
            assert_eq!(self.scraped.get(sample), Some(bits), "{when}: {} at {} was never scraped", sample.0, sample.1);
        }
        let state = store.state_get("count").map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        assert!(state == self.safe_state || state == self.safe_state + 1, "{when}: {state}, safe {}", self.safe_state);
        self.safe_state = state;
        self.scraped = found;
        self.safe = self.scraped.clone();
    }
}

const OUTPUT_BYTES: usize = crate::daemon::output::OUTPUT_BYTES_MAX;

/// A flipped bit in the slab, or in the database that it is compared with, put a timeline's stored rows behind its last one: the
/// first seal of the next start overflowed.
#[test]
fn stored_rows_beyond_a_timelines_last_one_leave_nothing_to_seal() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let mut spill = begin(&mut store, &mut disk);
    let up = labels("up", 1);
    scrape(&mut store, 1, START_MS, &[(&up, 1, None)]);
    let timeline = store.timeline_find(TimelineKey(1)).unwrap();
    let end = store.rows(timeline).end;
    for (spilled, segments) in [(end + 7, 0), (end, 0), (end - 1, 1)] {
        store.set_rows_spilled(timeline, spilled);
        let before = disk.database.segments.len();
        seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
        assert_eq!(disk.database.segments.len() - before, segments, "{spilled} of {end}");
    }
}
