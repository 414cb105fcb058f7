use super::super::{world::*, *};
use crate::{
    daemon::output::{OUTPUT_BYTES_MAX, Put},
    labels::LabelSet,
    store::{Store, TimelineKey, stored::Stored},
};
use alloc::{collections::BTreeMap, vec, vec::Vec};

const HOUR_MS: i64 = 3_600_000;

/// A store whose rows of one hour each were sealed into a segment of their own.
fn hours(store: &mut Store<'_>, disk: &mut Disk, count: i64) -> Spill {
    let (mut spill, _, _) = disk.recover(store);
    let names: Vec<LabelSet> = (0..20).map(|index| labels(&alloc::format!("gauge_{index}"), 1)).collect();
    for hour in 0..count {
        for row in 0..60 {
            let puts: Vec<Put1<'_>> = names.iter().map(|name| (name, (row as f64 / 4.0).to_bits(), None)).collect();
            scrape(store, 1, START_MS + hour * HOUR_MS + row * 60_000, &puts);
        }
        seal(&mut spill, store, disk, at(START_MS), SealReason::Checkpoint);
    }
    spill
}

/// Ages everything that ended before, in one transaction; commits it or not. How many segments were written anew.
fn age(spill: &mut Spill, store: &mut Store<'_>, disk: &mut Disk, before_ms: i64, ok: bool) -> usize {
    let mut out = vec![0; OUTPUT_BYTES_MAX];
    let mut database = disk.database.clone();
    while let Some(put) = spill.seal_next(store, at(START_MS), SealReason::Stop, &mut out) {
        database.put(&put);
    }
    let mut count = 0;
    while let Some((meta, length)) = spill.age_next(&mut database, before_ms, &mut out).unwrap() {
        database.put(&Put::Replace { meta, bytes: &out[..length] });
        count += 1;
    }
    assert_eq!(spill.aging_moved(), count > 0);
    if spill.aging_moved() {
        database.put(&spill.state_put(&mut out));
        assert!(!spill.aging_moved());
    }
    if ok {
        disk.database = database;
    }
    spill.commit(store, 7);
    spill.committed(store, 7, ok);
    count
}

fn bytes(disk: &Disk) -> Vec<usize> {
    disk.database.segments.iter().map(|(_, bytes)| bytes.len()).collect()
}

#[test]
fn segments_age_once_the_oldest_first_and_say_what_they_said() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let mut spill = hours(&mut store, &mut disk, 5);
    let (samples, before) = (all_samples(&store, &disk), bytes(&disk));
    let metas: Vec<_> = disk.database.segments.iter().map(|(meta, _)| *meta).collect();
    assert_eq!(metas.len(), 5);
    // The last sample of the second hour is not older than itself.
    assert_eq!(age(&mut spill, &mut store, &mut disk, metas[1].t_max_ms, true), 1);
    assert_eq!(age(&mut spill, &mut store, &mut disk, metas[1].t_max_ms + 1, true), 1);
    assert_eq!(age(&mut spill, &mut store, &mut disk, metas[1].t_max_ms + 1, true), 0, "once");
    let after = bytes(&disk);
    assert!(after[0] < before[0] && after[1] < before[1] && after[2..] == before[2..], "{before:?}, {after:?}");
    assert!(disk.database.segments.iter().map(|(meta, _)| *meta).eq(metas.iter().copied()));
    assert_eq!(all_samples(&store, &disk), samples);
    assert_eq!(disk.database.spill_state().aged_next, metas[1].sequence + 1);
}

#[test]
fn what_was_not_committed_is_aged_again_and_a_successor_goes_on_where_it_was() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let mut spill = hours(&mut store, &mut disk, 3);
    let before = bytes(&disk);
    let end_ms = disk.database.segments[1].0.t_max_ms + 1;
    assert_eq!(age(&mut spill, &mut store, &mut disk, end_ms, false), 2);
    assert_eq!((bytes(&disk), disk.database.spill_state().aged_next), (before, 0));
    assert_eq!(age(&mut spill, &mut store, &mut disk, end_ms, true), 2);
    let aged_next = disk.database.spill_state().aged_next;
    let mut store = create(&mut slab, &plan);
    let (mut spill, _, _) = disk.recover(&mut store);
    assert_eq!(age(&mut spill, &mut store, &mut disk, i64::MAX, true), 1, "the last one");
    assert!(disk.database.spill_state().aged_next > aged_next);
}

#[test]
fn a_segment_that_cannot_be_read_is_passed_over_and_stays_as_it_is() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let mut spill = hours(&mut store, &mut disk, 3);
    let at = disk.database.segments[1].1.len() / 2;
    disk.database.segments[1].1[at] ^= 1;
    let damaged = disk.database.segments[1].1.clone();
    assert_eq!(age(&mut spill, &mut store, &mut disk, i64::MAX, true), 2);
    assert_eq!(disk.database.segments[1].1, damaged);
    disk.database.fails = true;
    assert!(spill.age_next(&mut disk.database, i64::MAX, &mut vec![0; OUTPUT_BYTES_MAX]).is_err());
}

#[test]
fn a_segment_that_was_dropped_meanwhile_stays_away() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    hours(&mut store, &mut disk, 2);
    let (meta, bytes) = disk.database.segments.remove(0);
    disk.database.put(&Put::Replace { meta, bytes: &bytes });
    let mut rows = BTreeMap::new();
    disk.database
        .rows(TimelineKey(1), 0, &mut |meta, _| {
            rows.insert(meta.row_from, meta.row_count);
            true
        })
        .unwrap();
    assert_eq!(rows, BTreeMap::from([(60, 60)]));
}
