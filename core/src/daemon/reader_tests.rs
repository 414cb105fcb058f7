use super::*;
use crate::daemon::rows::{HeldRows, StoredRows};
use crate::forward::RowSource;
use crate::{
    labels::MatchOp,
    spill::{SealReason, Spill, world::*},
    store::{SeriesId, stored::NothingStored},
};
use alloc::collections::BTreeMap;

/// 30 rows of two timelines at 1 s: the first 10 only stored, the next 10 stored and in RAM, the last 10 only in RAM.
struct Fixture {
    stored_only: Disk,
    disk: Disk,
    model: BTreeMap<(LabelSet, i64), u64>,
}

fn fill(store: &mut Store<'_>, rows: Range<i64>, model: &mut BTreeMap<(LabelSet, i64), u64>) {
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

fn fixture(store: &mut Store<'_>) -> Fixture {
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

fn matcher(name: &str, op: MatchOp, value: &str) -> Matcher {
    Matcher::new(name, op, value).unwrap()
}

fn select(reader: &mut Reader<'_, '_>, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Vec<Selected> {
    let mut selection = Vec::new();
    reader.select(matchers, start_ms, end_ms, 1 << 20, &mut selection).unwrap();
    selection.sort_by(|a, b| a.labels.cmp(&b.labels));
    selection
}

fn read_all(reader: &mut Reader<'_, '_>, start_ms: i64, end_ms: i64) -> BTreeMap<(LabelSet, i64), u64> {
    let mut found = BTreeMap::new();
    for selected in select(reader, &[], start_ms, end_ms) {
        let mut samples = vec![Sample { t_ms: i64::MAX, value: 0.0 }];
        reader.read(&selected, start_ms, end_ms, &mut samples).unwrap();
        assert_eq!(samples[0].t_ms, i64::MAX, "what was there stays");
        assert!(samples[1..].windows(2).all(|pair| pair[0].t_ms < pair[1].t_ms), "ascending, one per instant");
        for sample in &samples[1..] {
            found.insert((selected.labels.clone(), sample.t_ms), sample.value.to_bits());
        }
    }
    found
}

#[test]
fn ram_and_segments_read_as_one_whatever_the_range() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    let mut reader = Reader::new(&store, &mut fixture.disk.database);
    for (from, to) in
        [(0, 40_000), (-5, -1), (5_000, 5_002), (9_001, 10_001), (0, 15_500), (19_900, 20_100), (29_002, 99_000)]
    {
        let (start_ms, end_ms) = (START_MS + from, START_MS + to);
        let expected: BTreeMap<_, _> = fixture
            .model
            .iter()
            .filter(|((_, t_ms), _)| (start_ms..=end_ms).contains(t_ms))
            .map(|(key, bits)| (key.clone(), *bits))
            .collect();
        assert_eq!(read_all(&mut reader, start_ms, end_ms), expected, "{from}..={to}");
    }
    assert_eq!(reader.into_damage(), Damage::default());
}

#[test]
fn each_label_set_is_selected_once_with_all_its_parts() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    let mut reader = Reader::new(&store, &mut fixture.disk.database);
    let all = select(&mut reader, &[], START_MS, START_MS + 60_000);
    assert_eq!(all.len(), 5, "{all:?}");
    let shared = [matcher("__name__", MatchOp::Equal, "shared")];
    let selected = select(&mut reader, &shared, START_MS, START_MS + 60_000);
    // Two timelines, of each a layout before and one after the restart, and RAM.
    assert_eq!((selected.len(), selected[0].parts.len()), (1, 5));
    assert_eq!(select(&mut reader, &[matcher("job", MatchOp::Equal, "nobody")], START_MS, START_MS + 60_000).len(), 0);
    let both = [matcher("__name__", MatchOp::Regexp, "up|own.*"), matcher("job", MatchOp::NotEqual, "2")];
    assert_eq!(select(&mut reader, &both, START_MS, START_MS + 60_000).len(), 2);
    assert_eq!(select(&mut reader, &[], START_MS - 9_000, START_MS - 1_000).len(), 0);
}

#[test]
fn a_selection_that_does_not_fit_its_bound_fails_with_advice() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    let mut reader = Reader::new(&store, &mut fixture.disk.database);
    let needed = (0..100_000)
        .step_by(8)
        .find(|bytes_max| reader.select(&[], START_MS, START_MS + 60_000, *bytes_max, &mut Vec::new()).is_ok())
        .unwrap();
    let mut selection = Vec::new();
    reader.select(&[], START_MS, START_MS + 60_000, needed, &mut selection).unwrap();
    let held: usize = selection
        .iter()
        .map(|found| found.labels.heap_bytes() + size_of::<Selected>() + found.parts.len() * size_of::<Part>())
        .sum();
    assert!(needed >= held, "charged {needed}, holds {held}");
    let refused = reader.select(&[], START_MS, START_MS + 60_000, needed - 8, &mut Vec::new()).unwrap_err();
    assert!(refused.0.contains("narrow the selector"), "{refused}");
}

#[test]
fn a_series_that_left_ram_since_it_was_selected_gives_no_other_series_samples() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    scrape(&mut store, 1, START_MS, &[(&labels("up", 1), 7, None)]);
    let mut stored = NothingStored;
    let mut reader = Reader::new(&store, &mut stored);
    let mut selected = select(&mut reader, &[], START_MS, START_MS).remove(0);
    let Part::Hot { series, labels_hash } = selected.parts[0] else { panic!("{selected:?}") };
    assert_eq!(store.series_labels_hash(SeriesId(series)), Some(labels_hash));
    selected.parts[0] = Part::Hot { series, labels_hash: labels_hash ^ 1 };
    let mut samples = Vec::new();
    reader.read(&selected, START_MS, START_MS, &mut samples).unwrap();
    assert_eq!(samples, []);
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
    let mut reader = Reader::new(&store, &mut fixture.disk.database);
    let found = read_all(&mut reader, 0, i64::MAX);
    assert!(found.len() < fixture.model.len() && found.len() >= fixture.model.len() - 3 * rows);
    assert!(found.iter().all(|(key, bits)| fixture.model[key] == *bits));
    let mut given = 0;
    reader
        .rows_read(timeline, 0..30, &mut |column| {
            given += column.rows.len();
            true
        })
        .unwrap();
    assert_eq!(given, 20 * 3, "the rows that are in RAM");
    let units = reader.into_damage().units;
    assert_eq!(units.iter().map(|unit| unit.sequence).collect::<Vec<_>>(), [Some(sequence)], "named once");
    assert_eq!(units[0].rows, Some(0..rows as u64));
    let (layout, _) = *fixture.stored_only.database.layouts.keys().next().unwrap();
    fixture.disk.database.layouts.get_mut(&(layout, 0)).unwrap().2[60] ^= 1;
    let mut reader = Reader::new(&store, &mut fixture.disk.database);
    select(&mut reader, &[], 0, i64::MAX);
    let units = reader.into_damage().units;
    assert_eq!(units.iter().map(|unit| (unit.sequence, unit.layout)).collect::<Vec<_>>(), [(None, layout)]);
}

#[test]
fn a_disk_that_does_not_answer_fails_the_query_and_the_forwarding() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    let mut reader = Reader::new(&store, &mut fixture.disk.database);
    let selected = select(&mut reader, &[], 0, i64::MAX);
    fixture.disk.database.fails = true;
    let mut reader = Reader::new(&store, &mut fixture.disk.database);
    assert!(reader.select(&[], 0, i64::MAX, 1 << 20, &mut Vec::new()).is_err());
    assert!(reader.read(&selected[0], 0, i64::MAX, &mut Vec::new()).is_err());
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
    let (plan, mut slab) = (plan(), Vec::new());
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

#[test]
fn one_series_is_read_without_reading_the_others_stripes() {
    let (plan, mut slab) = (plan(), Vec::new());
    let (mut store, mut disk) = (create(&mut slab, &plan), Disk::default());
    let (mut spill, _, _) = disk.recover(&mut store);
    let names: Vec<LabelSet> = (0..1_000).map(|index| labels(&format!("m_{index:04}"), 1)).collect();
    for row in 0..10 {
        let puts: Vec<Put1<'_>> = names
            .iter()
            .enumerate()
            .map(|(index, name)| (name, crate::prng::mix(row << 32 | index as u64), None))
            .collect();
        scrape(&mut store, 1, START_MS + row as i64, &puts);
    }
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Stop);
    let stored_bytes: usize = disk.database.segments.iter().map(|(_, bytes)| bytes.len()).sum();
    let empty_slab = &mut Vec::new();
    let empty = create(empty_slab, &plan);
    let mut reader = Reader::new(&empty, &mut disk.database);
    let selected = select(&mut reader, &[matcher("__name__", MatchOp::Equal, "m_0500")], 0, i64::MAX);
    let mut samples = Vec::new();
    reader.read(&selected[0], 0, i64::MAX, &mut samples).unwrap();
    assert_eq!(samples.len(), 10);
    assert!(disk.database.bytes_read < stored_bytes / 10, "{} of {stored_bytes}", disk.database.bytes_read);
}

#[test]
fn of_two_timelines_samples_at_one_instant_a_value_wins_over_a_stale_marker() {
    let stale = Sample { t_ms: 5, value: f64::from_bits(STALE_NAN_BITS) };
    let value = Sample { t_ms: 5, value: -1.0 };
    let first = Sample { t_ms: 1, value: 9.0 };
    for added in [[stale, value, first], [value, first, stale], [first, stale, value]] {
        let mut samples = vec![stale];
        let mut merge = Merge::new(&mut samples);
        added.iter().for_each(|sample| merge.push(sample.t_ms, sample.value.to_bits()));
        merge.finish();
        assert_eq!(samples[1..], [first, value]);
        assert_eq!(samples[0].value.to_bits(), STALE_NAN_BITS, "what was there before is left alone");
    }
}

#[test]
fn of_two_values_at_one_instant_the_later_one_stays() {
    // The clock went back by an hour: the scrapes of that hour meet the instants of the hour before, and what an alert
    // has to see is the new one.
    let mut samples = Vec::new();
    let mut merge = Merge::new(&mut samples);
    let given = [(1, 1.0), (2, 1.0), (3, 1.0), (2, 0.0), (4, 5.0), (3, 0.5), (1, 7.0)];
    given.iter().for_each(|(t_ms, value): &(i64, f64)| merge.push(*t_ms, value.to_bits()));
    merge.push(2, STALE_NAN_BITS);
    merge.finish();
    let found: Vec<(i64, f64)> = samples.iter().map(|sample| (sample.t_ms, sample.value)).collect();
    assert_eq!(found, [(1, 7.0), (2, 0.0), (3, 0.5), (4, 5.0)]);
    let mut merge = Merge::new(&mut samples);
    [(9, 1.0_f64), (7, 2.0), (9, 3.0)].iter().for_each(|(t_ms, value)| merge.push(*t_ms, value.to_bits()));
    merge.finish();
    let found: Vec<(i64, f64)> = samples[4..].iter().map(|sample| (sample.t_ms, sample.value)).collect();
    assert_eq!(found, [(7, 2.0), (9, 3.0)]);
}
