use super::*;
use crate::promql::source::LabelSort;
use crate::{
    daemon::reader::tests::{fill, fixture},
    labels::{LabelSet, MatchOp, Matcher},
    spill::{SealReason, Spill, world::*},
    store::{TimelineKey, stored::NothingStored},
};
use alloc::{collections::BTreeMap, rc::Rc, vec};

fn matcher(name: &str, op: MatchOp, value: &str) -> Matcher {
    Matcher::new(name, op, value).unwrap()
}

pub fn selection(matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Selection {
    let mut selection = Selection::new(vec![matchers.to_vec()], start_ms, end_ms);
    selection.bytes_max = 1 << 20;
    selection
}

pub fn select(source: &mut SeriesSource<'_, '_>, matchers: &[Matcher], start_ms: i64, end_ms: i64) -> Selection {
    let mut selection = selection(matchers, start_ms, end_ms);
    while !source.select(&mut selection, 1_000).unwrap() {}
    selection
}

fn labels_at(source: &mut SeriesSource<'_, '_>, selection: &Selection, index: usize) -> LabelSet {
    let mut labels = LabelsBuf::default();
    source.labels(selection, index, &mut labels).unwrap();
    labels.as_ref().into()
}

pub fn read_all(source: &mut SeriesSource<'_, '_>, start_ms: i64, end_ms: i64) -> BTreeMap<(LabelSet, i64), u64> {
    let selection = select(source, &[], start_ms, end_ms);
    read_selected(source, &selection)
}

fn read_selected(source: &mut SeriesSource<'_, '_>, selection: &Selection) -> BTreeMap<(LabelSet, i64), u64> {
    let mut found = BTreeMap::new();
    for index in 0..selection.series.len() {
        let labels = labels_at(source, selection, index);
        let mut samples = vec![Sample { t_ms: i64::MAX, value: 0.0 }];
        source.read_all(selection, index, selection.start_ms, selection.end_ms, &mut samples).unwrap();
        assert_eq!(samples[0].t_ms, i64::MAX, "what was there stays");
        assert!(samples[1..].windows(2).all(|pair| pair[0].t_ms < pair[1].t_ms), "ascending, one per instant");
        for sample in &samples[1..] {
            found.insert((labels.clone(), sample.t_ms), sample.value.to_bits());
        }
    }
    found
}

#[test]
fn ram_and_segments_read_as_one_whatever_the_range() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    let mut cache = ReadCache::new(64 * 1024);
    let mut source = SeriesSource::new(&store, &mut fixture.disk.database, &mut cache, u64::MAX);
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
        assert_eq!(read_all(&mut source, start_ms, end_ms), expected, "{from}..={to}");
    }
    assert_eq!(source.into_damage(), Damage::default());
}

#[test]
fn each_label_set_is_selected_once_with_all_its_places() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    let mut cache = ReadCache::new(64 * 1024);
    let mut source = SeriesSource::new(&store, &mut fixture.disk.database, &mut cache, u64::MAX);
    let (start_ms, end_ms) = (START_MS, START_MS + 60_000);
    let mut count = |matchers: &[Matcher]| select(&mut source, matchers, start_ms, end_ms).series.len();
    assert_eq!(count(&[]), 5);
    assert_eq!(count(&[matcher("job", MatchOp::Equal, "nobody")]), 0);
    let both = [matcher("__name__", MatchOp::Regexp, "up|own.*"), matcher("job", MatchOp::NotEqual, "2")];
    assert_eq!(count(&both), 2);
    let shared = [matcher("__name__", MatchOp::Equal, "shared")];
    let selected = select(&mut source, &shared, start_ms, end_ms);
    // Two timelines, of each a layout before and one after the restart.
    assert_eq!((selected.series.len(), selected.places(0).count()), (1, 4));
    assert_eq!(select(&mut source, &[], START_MS - 9_000, START_MS - 1_000).series.len(), 0);
    let lists = vec![shared.to_vec(), both.to_vec(), vec![matcher("__name__", MatchOp::Equal, "up")]];
    let mut several = Selection::new(lists, start_ms, end_ms);
    several.bytes_max = 1 << 20;
    while !source.select(&mut several, 1).unwrap() {}
    assert_eq!(several.series.len(), 4, "two of `up`, one of the others");
}

#[test]
fn a_selection_is_the_same_in_however_small_bites_and_its_labels_come_in_order() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    for store in [&store, &create(&mut Vec::new(), &plan)] {
        let mut cache = ReadCache::new(64 * 1024);
        let mut source = SeriesSource::new(store, &mut fixture.disk.database, &mut cache, u64::MAX);
        let expected = select(&mut source, &[], 0, i64::MAX);
        for (count_max, sort_bytes) in [(1, 1 << 20), (2, 5 * 4), (3, 200), (7, 1 << 20)] {
            let (mut selection, mut bites) = (selection(&[], 0, i64::MAX), 1);
            while !source.select(&mut selection, count_max).unwrap() {
                bites += 1;
            }
            assert!(count_max > 3 || bites > 2, "{bites}");
            assert_eq!(selection.series, expected.series, "{count_max}");
            let mut sort = LabelSort::new(|a: LabelsRef<'_>, b| b.cmp(&a));
            while !sort.step(&mut source, &mut selection, sort_bytes, &mut 1).unwrap() {}
            let labels: Vec<_> = (0..5).map(|index| labels_at(&mut source, &selection, index)).collect();
            assert!(labels.windows(2).all(|pair| pair[0] > pair[1]), "{labels:?}");
            assert_eq!(sort.bytes(), 0);
        }
    }
}

#[test]
fn a_selection_that_does_not_fit_its_bound_fails_with_advice() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    let mut cache = ReadCache::new(64 * 1024);
    let mut source = SeriesSource::new(&store, &mut fixture.disk.database, &mut cache, u64::MAX);
    let mut refused = None;
    for bytes_max in (0..100_000).step_by(8) {
        let mut selection = selection(&[], START_MS, START_MS + 60_000);
        selection.bytes_max = bytes_max;
        match source.select(&mut selection, usize::MAX) {
            Ok(is_done) => {
                assert!(is_done && selection.bytes() <= bytes_max && bytes_max > 0);
                let refused: SourceError = refused.expect("the smallest bounds are too small");
                assert!(refused.0.contains("narrow the selector"), "{refused}");
                return;
            }
            Err(error) => refused = Some(error),
        }
        assert!(selection.bytes() <= bytes_max, "{} of {bytes_max}", selection.bytes());
    }
    panic!("a bound of 100 kB is enough for five series");
}

#[test]
fn a_series_that_left_ram_since_it_was_selected_gives_no_other_series_samples() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    scrape(&mut store, 1, START_MS, &[(&labels("up", 1), 7, None)]);
    let (mut stored, mut cache) = (NothingStored, ReadCache::new(64 * 1024));
    let mut source = SeriesSource::new(&store, &mut stored, &mut cache, u64::MAX);
    let mut selection = select(&mut source, &[], START_MS, START_MS);
    let Selected { series, labels_hash, .. } = selection.series[0];
    assert_eq!(store.series_labels_hash(SeriesId(series)), Some(labels_hash));
    selection.series[0].labels_hash ^= 1;
    let mut samples = Vec::new();
    source.read(&selection, 0, START_MS, START_MS, &mut samples).unwrap();
    assert_eq!(samples, []);
    let error = source.labels(&selection, 0, &mut LabelsBuf::default()).unwrap_err();
    assert!(error.0.contains("ask again"), "{error}");
}

/// A long query selected series whose rows were in RAM alone. Before it came to read them they were stored and left RAM:
/// they were missing from its answer.
#[test]
fn what_was_in_ram_alone_when_it_was_selected_and_is_stored_alone_when_it_is_read_is_found() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut disk = Disk::default();
    let (mut spill, _, _): (Spill, _, _) = disk.recover(&mut store);
    let mut model = BTreeMap::new();
    fill(&mut store, 0..10, &mut model);
    let mut cache = ReadCache::new(64 * 1024);
    let selection = select(&mut SeriesSource::new(&store, &mut disk.database, &mut cache, u64::MAX), &[], 0, i64::MAX);
    assert!(disk.database.segments.is_empty());
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
    let mut empty_slab = Vec::new();
    let mut empty = create(&mut empty_slab, &plan);
    assert_eq!(
        read_selected(&mut SeriesSource::new(&empty, &mut disk.database, &mut cache, u64::MAX), &selection),
        model
    );
    // Others have taken their numbers meanwhile.
    for index in 0..5 {
        scrape(&mut empty, 3 + index, START_MS, &[(&labels("other", index), 1, None)]);
    }
    assert_eq!(
        read_selected(&mut SeriesSource::new(&empty, &mut disk.database, &mut cache, u64::MAX), &selection),
        model
    );
    // And rows that came under a new layout since it was selected are read as well.
    fill(&mut store, 10..12, &mut model);
    scrape(&mut store, 9, START_MS + 99_000, &[(&labels("up", 1), 9, None)]);
    model.insert((labels("up", 1), START_MS + 99_000), 9);
    assert_eq!(
        read_selected(&mut SeriesSource::new(&store, &mut disk.database, &mut cache, u64::MAX), &selection),
        model
    );
    assert!(store.timeline_find(TimelineKey(9)).is_some());
}

/// A target that replaces its series all the time leaves a layout every few minutes, and a question for one that ended days
/// ago once read every label set of all of them.
#[test]
fn an_ended_series_is_found_without_reading_the_layouts_that_lack_it() {
    let (plan, mut disk) = (plan(), Disk::default());
    let metric = |turn: u64, index: u64| labels(&format!("metric_of_{turn}_{index}"), turn);
    for turn in 0..20 {
        let mut slab = Vec::new();
        let mut store = create(&mut slab, &plan);
        let (mut spill, _, _): (Spill, _, _) = disk.recover(&mut store);
        crate::spill::timeline_open(&mut store, &mut disk.database, TimelineKey(1)).unwrap();
        let names: Vec<LabelSet> = (0..300).map(|index| metric(turn, index)).collect();
        let puts: Vec<Put1<'_>> = names.iter().map(|name| (name, turn, None)).collect();
        scrape(&mut store, 1, START_MS + turn as i64, &puts);
        seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
    }
    assert_eq!(disk.database.layouts.len(), 20);
    let parts_bytes: usize = disk.database.layouts.values().map(|(_, _, bytes)| bytes.len()).sum();
    let mut empty_slab = Vec::new();
    let (empty, mut cache) = (create(&mut empty_slab, &plan), ReadCache::new(64 * 1024));
    let wanted = metric(7, 150);
    let name = wanted.get("__name__").unwrap();
    for (matchers, parts_read) in [
        (vec![matcher("__name__", MatchOp::Equal, name)], 1),
        (vec![matcher("__name__", MatchOp::Regexp, &format!("{name}|nothing"))], 1),
        (vec![matcher("job", MatchOp::Equal, "7"), matcher("__name__", MatchOp::Regexp, ".*_150")], 1),
        (vec![matcher("__name__", MatchOp::Equal, name), matcher("job", MatchOp::Equal, "8")], 0),
        (vec![matcher("__name__", MatchOp::Regexp, ".*_7_150"), matcher("none", MatchOp::Equal, "")], 20),
    ] {
        disk.database.bytes_read = 0;
        disk.database.parts_read = 0;
        let mut source = SeriesSource::new(&empty, &mut disk.database, &mut cache, u64::MAX);
        let selection = select(&mut source, &matchers, 0, i64::MAX);
        assert_eq!(selection.series.len(), usize::from(parts_read > 0), "{matchers:?}");
        if parts_read > 0 {
            assert_eq!(labels_at(&mut source, &selection, 0), wanted);
            let mut samples = Vec::new();
            source.read(&selection, 0, 0, i64::MAX, &mut samples).unwrap();
            assert_eq!(samples.len(), 1);
        }
        cache.clear();
        // A part is read once, but for one whose labels are asked for after another was read.
        assert!((parts_read..=parts_read + 1).contains(&disk.database.parts_read), "{matchers:?}");
        assert!(disk.database.bytes_read < parts_bytes / 2, "{} of {parts_bytes}", disk.database.bytes_read);
    }
}

/// A series that ended is looked for in ever longer slices, each of which once was one bite, whatever it held.
#[test]
fn a_time_with_too_many_segments_for_a_bite_is_refused_and_read_in_smaller_ones() {
    let (plan, mut disk) = (plan(), Disk::default());
    let mut slab = Vec::new();
    let mut store = create(&mut slab, &plan);
    let (mut spill, _, _): (Spill, _, _) = disk.recover(&mut store);
    let mut expected = Vec::new();
    for row in 0..3 * SEGMENTS_PER_READ_MAX as i64 {
        let t_ms = START_MS + 2 * READ_MS_MIN * row;
        scrape(&mut store, 1, t_ms, &[(&labels("up", 1), (row as f64).to_bits(), None)]);
        seal(&mut spill, &mut store, &mut disk, at(t_ms), SealReason::Checkpoint);
        expected.push(Sample { t_ms, value: row as f64 });
    }
    assert_eq!(disk.database.segments.len(), expected.len());
    let mut cache = ReadCache::new(64 * 1024);
    let mut source = SeriesSource::new(&store, &mut disk.database, &mut cache, u64::MAX);
    let selection = select(&mut source, &[], START_MS, START_MS + 10_000_000);
    let mut samples = Vec::new();
    let until_ms = |count: usize| START_MS + 2 * READ_MS_MIN * count as i64 - 1;
    let mut read = |end_ms| source.read(&selection, 0, START_MS, end_ms, &mut samples).unwrap();
    assert_eq!(read(selection.end_ms), None);
    assert_eq!(read(until_ms(SEGMENTS_PER_READ_MAX + 1)), None);
    let cost = read(until_ms(SEGMENTS_PER_READ_MAX)).unwrap();
    assert!(cost >= SEGMENTS_PER_READ_MAX * SEGMENT_COST, "{cost}");
    assert_eq!(samples, expected[..SEGMENTS_PER_READ_MAX]);
    samples.clear();
    source.read_all(&selection, 0, i64::MIN, i64::MAX, &mut samples).unwrap();
    assert_eq!(samples, expected);
}

#[test]
fn looking_for_layouts_is_done_in_bites_too() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut fixture = fixture(&mut store);
    let mut empty_slab = Vec::new();
    let (empty, mut cache) = (create(&mut empty_slab, &plan), ReadCache::new(64 * 1024));
    let mut source = SeriesSource::new(&empty, &mut fixture.disk.database, &mut cache, u64::MAX);
    let mut selection = selection(&[matcher("job", MatchOp::Equal, "nobody")], 0, i64::MAX);
    let mut bites = 1;
    while !source.select(&mut selection, PART_COLUMNS).unwrap() {
        bites += 1;
    }
    assert_eq!(
        (selection.series.len(), bites),
        (0, 5),
        "one for each of four parts, and one to see that there are no more"
    );
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
    let mut cache = ReadCache::new(64 * 1024);
    let mut source = SeriesSource::new(&empty, &mut disk.database, &mut cache, u64::MAX);
    let selected = select(&mut source, &[matcher("__name__", MatchOp::Equal, "m_0500")], 0, i64::MAX);
    let mut samples = Vec::new();
    source.read(&selected, 0, 0, i64::MAX, &mut samples).unwrap();
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

/// A query that is read in bites had a scrape that came meanwhile in its later series only.
#[test]
fn a_snapshot_has_no_row_that_came_later_wherever_it_lies_now() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut disk = Disk::default();
    let (mut spill, _, _): (Spill, _, _) = disk.recover(&mut store);
    let mut model = BTreeMap::new();
    fill(&mut store, 0..10, &mut model);
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
    fill(&mut store, 10..15, &mut model);
    let check = |store: &Store<'_>, disk: &mut Disk, selection: &Selection, snapshot: &Snapshot, where_: &str| {
        for stripes_bytes in [0, 64 * 1024] {
            let mut cache = ReadCache::new(stripes_bytes);
            let mut source = SeriesSource::new(store, &mut disk.database, &mut cache, u64::MAX);
            assert_eq!(read_selected(&mut source, selection), model, "{where_}, {stripes_bytes} bytes of stripes");
            // One that is selected now has nothing more, either.
            let mut fresh = select(&mut source, &[], 0, i64::MAX);
            fresh.snapshot = Some(Rc::new(snapshot.clone()));
            assert_eq!(read_selected(&mut source, &fresh), model, "{where_}, {stripes_bytes} bytes of stripes");
        }
    };
    let mut cache = ReadCache::new(64 * 1024);
    let sequence_next = spill.segment_sequence_next();
    let mut source = SeriesSource::new(&store, &mut disk.database, &mut cache, sequence_next);
    let snapshot = source.snapshot();
    let mut selection = select(&mut source, &[], 0, i64::MAX);
    selection.snapshot = Some(Rc::new(snapshot.clone()));
    check(&store, &mut disk, &selection, &snapshot, "nothing came");

    fill(&mut store, 15..20, &mut BTreeMap::new());
    scrape(&mut store, 3, START_MS + 500, &[(&labels("up", 1), 1, None), (&labels("new", 1), 1, None)]);
    check(&store, &mut disk, &selection, &snapshot, "what came is in RAM");
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
    assert!(disk.database.segments.iter().any(|(meta, _)| (meta.row_from..meta.row_from + 15).contains(&14)));
    check(&store, &mut disk, &selection, &snapshot, "it is in RAM and stored, also in segments with older rows");
    let mut empty_slab = Vec::new();
    check(&create(&mut empty_slab, &plan), &mut disk, &selection, &snapshot, "it is stored");
}

/// What was stored before and is in RAM no more is no less there.
#[test]
fn a_snapshot_has_timelines_that_had_left_ram() {
    let (plan, mut slab) = (plan(), Vec::new());
    let mut store = create(&mut slab, &plan);
    let mut disk = Disk::default();
    let (mut spill, _, _): (Spill, _, _) = disk.recover(&mut store);
    let mut model = BTreeMap::new();
    fill(&mut store, 0..10, &mut model);
    seal(&mut spill, &mut store, &mut disk, at(START_MS), SealReason::Checkpoint);
    let (mut empty_slab, mut cache) = (Vec::new(), ReadCache::new(64 * 1024));
    let empty = create(&mut empty_slab, &plan);
    let sequence_next = spill.segment_sequence_next();
    let mut source = SeriesSource::new(&empty, &mut disk.database, &mut cache, sequence_next);
    let mut selection = select(&mut source, &[], 0, i64::MAX);
    selection.snapshot = Some(Rc::new(source.snapshot()));
    assert_eq!(read_selected(&mut source, &selection), model);
}
