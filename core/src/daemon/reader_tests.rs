use super::*;
use crate::daemon::rows::{HeldRows, StoredRows};
use crate::forward::RowSource;
use crate::{
    daemon::series::{
        ReadCache, SeriesSource,
        tests::{read_all, select, selection},
    },
    promql::source::Source,
    spill::{SealReason, Spill, world::*},
    store::{Plan, STALE_NAN_BITS, stored::NothingStored},
};
use alloc::collections::BTreeMap;

/// 30 rows of two timelines at 1 s: the first 10 only stored, the next 10 stored and in RAM, the last 10 only in RAM.
pub(in crate::daemon) struct Fixture {
    pub stored_only: Disk,
    pub disk: Disk,
    pub model: BTreeMap<(LabelSet, i64), u64>,
}

pub(in crate::daemon) fn fill(store: &mut Store<'_>, rows: Range<i64>, model: &mut BTreeMap<(LabelSet, i64), u64>) {
    for row in rows {
        for key in [1, 2] {
            let t_ms = START_MS + row * 1_000 + key as i64;
            let (up, shared, own) = (labels("up", key), labels("shared", 9), labels("own_time", key));
            let bits = |index: i64| ((row * 10 + index) as f64).to_bits();
            let mut puts: Vec<Put1<'_>> = vec![(&up, bits(0), None), (&own, bits(2), Some(row % 4 * 100))];
            model.insert((up.clone(), t_ms), bits(0));
            model.insert((own.clone(), t_ms - row % 4 * 100), bits(2));
            if row % 2 == 0 || key == 1 {
                puts.push((&shared, bits(1), None));
                model.insert((shared.clone(), t_ms), bits(1));
            } else {
                model.insert((shared.clone(), t_ms), STALE_NAN_BITS);
            }
            scrape(store, key, t_ms, &puts);
        }
    }
}

pub(in crate::daemon) fn fixture(store: &mut Store<'_>) -> Fixture {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut model = BTreeMap::new();
    let mut disk = Disk::default();
    {
        let mut first = create(&mut slab, &plan);
        let (mut spill, _, _) = disk.recover(&mut first);
        fill(&mut first, 0..10, &mut model);
        seal(&mut spill, &mut first, &mut disk, at(START_MS), SealReason::Checkpoint);
    }
    let stored_only = disk.clone();
    let (mut spill, _, _): (Spill, _, _) = disk.recover(store);
    for key in [1, 2] {
        crate::spill::timeline_open(store, &mut disk.database, TimelineKey(key)).unwrap();
    }
    fill(store, 10..20, &mut model);
    seal(&mut spill, store, &mut disk, at(START_MS), SealReason::Checkpoint);
    fill(store, 20..30, &mut model);
    Fixture { stored_only, disk, model }
}

#[test]
fn damaged_units_are_left_out_and_counted_and_the_rest_is_answered() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    let (meta, bytes) = &mut fixture.disk.database.segments[0];
    let (timeline, sequence, rows) = (meta.timeline, meta.sequence, meta.row_count as usize);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut cache = ReadCache::new(64 * 1024);
    let mut source = SeriesSource::new(&store, &mut fixture.disk.database, &mut cache, u64::MAX);
    let found = read_all(&mut source, 0, i64::MAX);
    assert!(found.len() < fixture.model.len() && found.len() >= fixture.model.len() - 3 * rows);
    assert!(found.iter().all(|(key, bits)| fixture.model[key] == *bits));
    let units = source.into_damage().units;
    assert_eq!(units.iter().map(|unit| unit.sequence).collect::<Vec<_>>(), [Some(sequence)], "named once");
    assert_eq!(units[0].rows, Some(0..rows as u64));
    let mut reader = Reader::new(&store, &mut fixture.disk.database);
    let mut given = 0;
    reader
        .rows_read(timeline, 0..30, &mut |column| {
            given += column.rows.len();
            true
        })
        .unwrap();
    assert_eq!(given, 20 * 3, "the rows that are in RAM");
    let (layout, _) = *fixture.stored_only.database.layouts.keys().next().unwrap();
    fixture.disk.database.layouts.get_mut(&(layout, 0)).unwrap().2[60] ^= 1;
    let mut source = SeriesSource::new(&store, &mut fixture.disk.database, &mut cache, u64::MAX);
    select(&mut source, &[], 0, i64::MAX);
    let units = source.into_damage().units;
    assert_eq!(units.iter().map(|unit| (unit.sequence, unit.layout)).collect::<Vec<_>>(), [(None, layout)]);
}

#[test]
fn a_disk_that_does_not_answer_fails_the_query_and_the_forwarding() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    let mut cache = ReadCache::new(64 * 1024);
    let selected =
        select(&mut SeriesSource::new(&store, &mut fixture.disk.database, &mut cache, u64::MAX), &[], 0, i64::MAX);
    fixture.disk.database.fails = true;
    let mut source = SeriesSource::new(&store, &mut fixture.disk.database, &mut cache, u64::MAX);
    assert!(source.select(&mut selection(&[], 0, i64::MAX), 1_000).is_err());
    assert!(source.read(&selected, 0, 0, i64::MAX, &mut Vec::new()).is_err());
    let mut reader = Reader::new(&store, &mut fixture.disk.database);
    assert!(reader.rows_read(TimelineKey(1), 0..5, &mut |_| true).is_err());
    assert!(reader.rows_read(TimelineKey(1), 20..30, &mut |_| true).is_ok(), "rows in RAM need no disk");
}

/// `(row, labels, t_ms, bits)` of what forwarding is given, by row.
fn forwarded(reader: &mut Reader<'_, '_>, key: u64, rows: Range<u64>) -> Vec<(u64, LabelSet, i64, u64)> {
    let mut found = Vec::new();
    let mut visit = |column: SeriesRows<'_>| {
        for ((row, t_ms), bits) in column.rows.iter().zip(column.t_ms).zip(column.bits) {
            found.push((*row, LabelSet::from(column.labels), *t_ms, *bits));
        }
        true
    };
    reader.rows_read(TimelineKey(key), rows, &mut visit).unwrap();
    found.sort();
    found
}

/// Each timeline's rows, stored or in RAM, as the forwarders are told of them.
fn held(store: &Store<'_>, stored: &mut dyn Stored) -> Vec<(u64, Range<u64>)> {
    let mut rows = StoredRows::default();
    rows.refresh(stored);
    let mut found = Vec::new();
    HeldRows::new(store, stored, &rows).timelines(&mut |key, range| found.push((key.0, range)));
    found
}

#[test]
fn a_commit_adds_the_rows_that_a_look_at_the_database_would_find() {
    let mut rows = StoredRows::default();
    for range in [0..10, 10..25, 5..7] {
        rows.add(TimelineKey(1), range);
    }
    rows.add(TimelineKey(2), 40..41);
    let (plan, mut slab) = (plan(), Vec::new());
    let store = create(&mut slab, &plan);
    let mut found = Vec::new();
    HeldRows::new(&store, &mut NothingStored, &rows).timelines(&mut |key, range| found.push((key.0, range)));
    assert_eq!(found, [(1, 0..25), (2, 40..41)]);
}

#[test]
fn rows_are_forwarded_once_whether_stored_or_in_ram() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    assert_eq!(held(&store, &mut fixture.disk.database), [(1, 0..30), (2, 0..30)]);
    let mut reader = Reader::new(&store, &mut fixture.disk.database);
    for key in [1, 2] {
        let all = forwarded(&mut reader, key, 0..30);
        assert_eq!(all.len(), 30 * 3);
        assert!(all.iter().all(|(_, labels, t_ms, bits)| fixture.model[&(labels.clone(), *t_ms)] == *bits));
        for rows in [0..1, 3..7, 9..11, 8..22, 19..21, 29..30, 25..99, 30..40, 5..5] {
            let expected: Vec<_> = all.iter().filter(|(row, _, _, _)| rows.contains(row)).cloned().collect();
            assert_eq!(forwarded(&mut reader, key, rows.clone()), expected, "{rows:?}");
        }
    }
    assert_eq!(forwarded(&mut reader, 3, 0..9), []);
    let empty_slab = &mut Vec::new();
    let empty = create(empty_slab, &plan);
    let mut stored = fixture.stored_only.database.clone();
    assert_eq!(held(&empty, &mut stored), [(1, 0..10), (2, 0..10)]);
    let mut reader = Reader::new(&empty, &mut stored);
    assert_eq!(forwarded(&mut reader, 1, 0..30).len(), 10 * 3);
    let mut visits = 0;
    let stop = &mut |_: SeriesRows<'_>| {
        visits += 1;
        false
    };
    reader.rows_read(TimelineKey(1), 0..30, stop).unwrap();
    assert_eq!(visits, 1);
}

#[test]
fn a_layout_larger_than_one_pass_of_labels_is_forwarded_whole() {
    // Names of 200 bytes that no other series shares: more than a plan has for so many series.
    let (plan, mut slab) = (Plan { label_bytes: 192 * 1024, ..plan() }, Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let (mut spill, _, _) = disk.recover(&mut store);
    let long = "x".repeat(200);
    let names: Vec<LabelSet> = (0..620).map(|index| labels(&format!("m_{index}_{long}"), 1)).collect();
    for row in 0..2 {
        let puts: Vec<Put1<'_>> = names.iter().map(|name| (name, row, Some(row as i64))).collect();
        scrape(&mut store, 1, START_MS + row as i64, &puts);
    }
    assert!(names.iter().map(|name| name.heap_bytes()).sum::<usize>() > 2 * LABELS_PASS_BYTES);
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Stop);
    let empty_slab = &mut Vec::new();
    let empty = create(empty_slab, &plan);
    let found = forwarded(&mut Reader::new(&empty, &mut disk.database), 1, 0..2);
    assert_eq!(found.len(), 2 * names.len());
    assert!(found.iter().all(|(row, _, t_ms, bits)| *t_ms == START_MS && bits == row));
}
