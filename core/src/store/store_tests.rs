//! The store against a model that keeps every row there ever was; tiny regions, so that everything fills up and wraps.

use super::*;
use crate::{
    labels::{LabelSet, LabelsRef},
    limits::CHUNK_ROWS_MAX,
    memory::StateClass,
    prng::Prng,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

const IDENTITY: Identity = Identity { store_uuid: [7; 16], boot_id: [9; 16], log_generation: 5 };

const TINY: Plan = Plan {
    series_count: 28,
    label_bytes: 1600,
    timelines_count: 3,
    layouts_count: 9,
    layout_nodes_count: 14,
    raw_pages_count: 9,
    state: [
        StateClass { count: 2, bytes_each: 64 },
        StateClass { count: 1, bytes_each: 256 },
        StateClass { count: 0, bytes_each: 512 },
    ],
    ring_bytes: 3072,
};

/// So much label text that numbers are three bytes long.
const WIDE: Plan = Plan { label_bytes: 640 * 1024, ..TINY };

fn slab(plan: &Plan) -> Vec<u8> {
    // Foreign bytes: nothing may depend on a slab that was zeroed.
    vec![0xa5; plan.slab_bytes()]
}

fn labels(number: u64) -> LabelSet {
    let value = format!("a value that takes a few cells, {number}");
    LabelSet::from_pairs([("__name__", "metric"), ("n", value.as_str()), ("job", "test")])
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    instant_ms: i64,
    /// By series: timestamp and bits.
    samples: BTreeMap<LabelSet, (i64, u64)>,
}

#[derive(Clone, Debug, Default)]
struct Timeline {
    rows: BTreeMap<u64, Row>,
    next: u64,
    open: Option<Row>,
    /// Series with a value in the row before.
    before: BTreeSet<LabelSet>,
    released: bool,
}

/// What the store must hold, or would if it had all the memory in the world.
#[derive(Clone, Debug, Default)]
struct Model {
    timelines: BTreeMap<u64, Timeline>,
    /// Columns as they were told, by layout and series.
    columns: BTreeMap<(u64, u64), ColumnId>,
}

impl Model {
    fn commit(&mut self, key: u64, missing: Missing) -> RowCommitted {
        let timeline = self.timelines.get_mut(&key).unwrap();
        let mut row = timeline.open.take().unwrap();
        let samples = row.samples.values().filter(|(_, bits)| *bits != STALE_NAN_BITS).count() as u32;
        for series in &timeline.before {
            if missing == Missing::Stale && !row.samples.contains_key(series) {
                row.samples.insert(series.clone(), (row.instant_ms, STALE_NAN_BITS));
            }
        }
        let values = row.samples.iter().filter(|(_, (_, bits))| *bits != STALE_NAN_BITS);
        timeline.before = values.map(|(series, _)| series.clone()).collect();
        let stale = row.samples.len() as u32 - samples;
        let number = timeline.next;
        timeline.rows.insert(number, row);
        timeline.next += 1;
        RowCommitted { row: number, samples, stale, new_series: 0 }
    }
}

/// Rows as `rows_read` gives them; rows without samples have only an instant.
fn rows_of(store: &Store<'_>, timeline: TimelineId) -> BTreeMap<u64, Row> {
    let range = store.rows(timeline);
    let mut rows = BTreeMap::new();
    let mut next = range.start;
    while let Some(run) = store.layout_of_rows(timeline, next) {
        let to = run.rows.end.min(run.rows.start + 256);
        let mut instants = [0; 256];
        store.rows_instants(timeline, run.rows.start..to, &mut instants).unwrap();
        for (row, instant_ms) in (run.rows.start..to).zip(instants) {
            rows.insert(row, Row { instant_ms, samples: BTreeMap::new() });
        }
        next = to;
    }
    store.rows_read(timeline, range, &mut |column| {
        assert!(column.rows.len() == column.t_ms.len() && column.rows.len() == column.bits.len());
        for ((row, t_ms), bits) in column.rows.iter().zip(column.t_ms).zip(column.bits) {
            let old = rows.get_mut(row).unwrap().samples.insert(column.labels.into(), (*t_ms, *bits));
            assert_eq!(old, None, "a series has one sample in a row");
        }
        true
    });
    rows
}

/// Compares everything readable with the model; returns the first row held of each timeline.
fn check(store: &Store<'_>, model: &Model) -> BTreeMap<u64, u64> {
    let mut firsts = BTreeMap::new();
    let mut by_series: BTreeMap<LabelSet, Vec<(i64, u64)>> = BTreeMap::new();
    for (key, timeline) in &model.timelines {
        let Some(id) = store.timeline_find(TimelineKey(*key)) else {
            assert!(timeline.released, "an open timeline stays");
            continue;
        };
        assert_eq!(store.timeline_key(id), TimelineKey(*key));
        let range = store.rows(id);
        assert_eq!(range.end, timeline.next, "timeline {key}");
        let held = rows_of(store, id);
        let expected: BTreeMap<u64, Row> =
            timeline.rows.range(range.clone()).map(|(number, row)| (*number, row.clone())).collect();
        assert_eq!(held, expected, "timeline {key}");
        for row in held.into_values() {
            for (series, sample) in row.samples {
                by_series.entry(series).or_default().push(sample);
            }
        }
        check_runs(store, id, &expected);
        firsts.insert(*key, range.start);
    }
    let mut visited = 0;
    store.series_visit(&mut |id, found| {
        visited += 1;
        assert_eq!(store.series_find(found), Some(id));
        assert_eq!(store.series_labels_hash(id), Some(found.stable_hash()));
        let mut samples = Vec::new();
        store.series_read(id, i64::MIN, i64::MAX, &mut |t_ms, bits| samples.push((t_ms, bits)));
        let mut expected = by_series.remove(&LabelSet::from(found)).unwrap_or_default();
        if let (Some(least), Some(most)) = (expected.iter().min(), expected.iter().max()) {
            let (min_ms, max_ms) = store.series_time_range(id).unwrap();
            assert!(min_ms <= least.0 && max_ms >= most.0, "{found}: {min_ms}..={max_ms}");
        }
        samples.sort_unstable();
        expected.sort_unstable();
        assert_eq!(samples, expected, "{found}");
        true
    });
    assert_eq!(visited, store.series_count());
    assert!(by_series.is_empty(), "series without a record: {by_series:?}");
    firsts
}

/// Layout runs cover the rows held, and their columns say the same as the rows.
fn check_runs(store: &Store<'_>, timeline: TimelineId, expected: &BTreeMap<u64, Row>) {
    let mut next = store.rows(timeline).start;
    let mut buf = [0; 4096];
    while let Some(run) = store.layout_of_rows(timeline, next) {
        let rows = run.rows.start..run.rows.end.min(run.rows.start + 256);
        let mut instants = [0; 256];
        store.rows_instants(timeline, rows.clone(), &mut instants).unwrap();
        let mut columns = 0;
        let read = store.columns_read(timeline, rows.clone(), 0..run.columns, &mut |column| {
            assert_eq!(column.column, columns);
            assert_eq!(store.layout_column(timeline, run.layout, columns), Some((column.kind, column.series)));
            columns += 1;
            let name: LabelSet = store.series_labels(column.series, &mut buf).unwrap().into();
            for (index, row) in rows.clone().enumerate() {
                assert_eq!(instants[index], expected[&row].instant_ms);
                let sample = expected[&row].samples.get(&name);
                let (state, cell) = (column.presence[index], column.cells[index]);
                match (column.kind, sample) {
                    (ColumnKind::Float, None) => assert_eq!(state, Presence::Absent),
                    (ColumnKind::Float, Some((_, STALE_NAN_BITS))) => assert_eq!(state, Presence::Stale),
                    (ColumnKind::Float, Some((_, bits))) => assert_eq!((state, cell), (Presence::Value, *bits)),
                    (ColumnKind::Age, Some((t_ms, _))) if state == Presence::Value => {
                        assert_eq!(cell as i64, instants[index] - t_ms);
                    }
                    (ColumnKind::Age, _) => assert_eq!(state, Presence::Absent),
                }
            }
            true
        });
        assert_eq!((read, columns), (Some(()), run.columns));
        let too_wide = store.columns_read(timeline, rows.clone(), 0..run.columns + 1, &mut |_| true);
        assert_eq!(too_wide, None, "a run has no more columns than it says");
        next = rows.end;
    }
    assert_eq!(next, store.rows(timeline).end);
}

/// One random step on store and model alike.
fn step(store: &mut Store<'_>, model: &mut Model, prng: &mut Prng, clock_ms: &mut i64) {
    let key = 1 + prng.below(4);
    *clock_ms += if prng.chance(1, 40) { -50_000 } else { prng.below(2_000) as i64 };
    let kind = prng.below(100);
    let id = store.timeline_find(TimelineKey(key));
    let open = model.timelines.get(&key).is_some_and(|timeline| timeline.open.is_some());
    let usable = id.is_some() && !model.timelines[&key].released;
    match (id, kind) {
        (Some(id), 0) => {
            store.timeline_release(id);
            let timeline = model.timelines.get_mut(&key).unwrap();
            timeline.released = true;
            timeline.open = None;
            timeline.before.clear();
        }
        (Some(id), 1..4) if open => {
            store.row_abort(id);
            model.timelines.get_mut(&key).unwrap().open = None;
        }
        (Some(id), 4) if prng.chance(1, 8) => store.set_rows_spilled(id, store.rows(id).end),
        (Some(id), 1) if usable => store.timeline_set_sparse(id),
        (Some(id), 60..80) if usable && !open => fill(store, id, model.timelines.get_mut(&key).unwrap(), prng),
        (Some(id), _) if usable && !open => {
            store.row_begin(id, *clock_ms).unwrap();
            assert_eq!(store.row_begin(id, *clock_ms), Err(Refused::RowOpen));
            let row = Row { instant_ms: *clock_ms, samples: BTreeMap::new() };
            model.timelines.get_mut(&key).unwrap().open = Some(row);
        }
        (Some(id), 10..35) if open => {
            let missing = if prng.chance(4, 5) { Missing::Stale } else { Missing::Absent };
            let committed = store.row_commit(id, missing);
            let expected = model.commit(key, missing);
            assert_eq!(RowCommitted { new_series: 0, ..committed }, expected);
        }
        (Some(id), _) if open => {
            // Most puts go to a few series, some to a wide and changing range.
            let number = if prng.chance(9, 10) { key * 4 + prng.below(7) } else { prng.below(1_000) };
            let age = prng.chance(1, 6).then(|| prng.below(3_000) as i64 - 1_000);
            let bits = match prng.below(5) {
                0 => STALE_NAN_BITS,
                1 => prng.next_u64(),
                _ => (prng.below(100) as f64).to_bits(),
            };
            let layout = store.row_layout(id).expect("it is open");
            let column = model.columns.get(&(layout, number)).filter(|_| age.is_none() && prng.chance(1, 2));
            let put = match column.and_then(|column| store.row_put_at(id, *column, bits)) {
                Some(put) => Ok(put),
                None => store.row_put_told(id, labels(number).as_ref(), bits, age).map(|(put, column)| {
                    let before = model.columns.insert((layout, number), column);
                    assert!(before.is_none_or(|before| before == column), "a series keeps its column in a layout");
                    put
                }),
            };
            let row = model.timelines.get_mut(&key).unwrap().open.as_mut().unwrap();
            let t_ms = row.instant_ms - age.unwrap_or(0);
            match put {
                Ok(PutOutcome::Known | PutOutcome::New) => {
                    assert_eq!(row.samples.insert(labels(number), (t_ms, bits)), None);
                }
                Ok(PutOutcome::Duplicate { same_value }) => {
                    assert_eq!(row.samples[&labels(number)].1 == bits, same_value);
                }
                Err(Refused::Full { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        (_, _) => match store.timeline_open(TimelineKey(key)) {
            Ok(id) => {
                let timeline = model.timelines.entry(key).or_default();
                store.row_next_at_least(id, timeline.next);
                timeline.released = false;
            }
            Err(Refused::Full { region: RegionName::Timelines | RegionName::Layouts, .. }) => {}
            Err(other) => panic!("{other}"),
        },
    }
}

/// Puts a late sample into one of the rows that may lie raw.
fn fill(store: &mut Store<'_>, id: TimelineId, timeline: &mut Timeline, prng: &mut Prng) {
    let Some(number) = timeline.next.checked_sub(1 + prng.below(CHUNK_ROWS_MAX as u64 + 2)) else { return };
    let Some(instant_ms) = timeline.rows.get(&number).map(|row| row.instant_ms) else { return };
    let labels = labels(prng.below(25));
    let bits = if prng.chance(1, 5) { STALE_NAN_BITS } else { (prng.below(100) as f64).to_bits() };
    // Of two raw rows of one instant the newer one is found, unless it is not to be touched.
    let is_raw = store.raw_row_at(id, instant_ms, number).is_some_and(|found| found == number);
    match store.row_fill(id, number, labels.as_ref(), bits) {
        Ok(PutOutcome::Known | PutOutcome::New) => {
            let row = timeline.rows.get_mut(&number).unwrap();
            assert_eq!(row.samples.insert(labels.clone(), (instant_ms, bits)), None);
            if number + 1 == timeline.next && bits != STALE_NAN_BITS {
                timeline.before.insert(labels);
            }
        }
        Ok(PutOutcome::Duplicate { same_value }) => {
            assert_eq!(timeline.rows[&number].samples[&labels].1 == bits, same_value);
        }
        Err(Refused::NoRowOpen) => assert!(!is_raw, "row {number} lies raw"),
        Err(Refused::Full { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn whatever_happens_the_store_holds_the_newest_rows_of_the_model() {
    let (mut evicted, mut evicted_unspilled, mut refused, mut released) = (0, 0, 0, 0);
    assert_eq!([TINY, WIDE].map(|plan| plan.widths().id_bytes), [2, 3]);
    for seed in 0..5 {
        let plan = if seed < 4 { TINY } else { WIDE };
        let mut bytes = slab(&plan);
        let mut store = Store::create(&mut bytes, &plan, IDENTITY).unwrap();
        let (mut model, mut prng, mut clock_ms) = (Model::default(), Prng::new(seed), 1_700_000_000_000);
        for index in 0..4_000 {
            step(&mut store, &mut model, &mut prng, &mut clock_ms);
            if index % 37 == 0 {
                check(&store, &model);
            }
        }
        let counters = store.usage().counters;
        let held: u64 = store.timelines().map(|id| rows_of(&store, id).len() as u64).sum();
        assert_eq!(counters.committed_rows, held + counters.evicted_rows, "seed {seed}");
        evicted += counters.evicted_rows;
        evicted_unspilled += counters.evicted_unspilled_rows;
        refused += counters.refused_series;
        released += counters.released_series;
    }
    assert!(evicted > 300 && evicted_unspilled > 0, "{evicted} {evicted_unspilled}");
    assert!(refused > 50 && released > 30, "{refused} {released}");
}

#[test]
fn a_successor_goes_on_where_its_predecessor_was_after_any_number_of_steps() {
    for plan in [TINY, WIDE] {
        successors_go_on(&plan);
    }
}

fn successors_go_on(plan: &Plan) {
    let mut bytes = slab(plan);
    let mut store = Store::create(&mut bytes, plan, IDENTITY).unwrap();
    let (mut model, mut prng, mut clock_ms) = (Model::default(), Prng::new(99), 1_700_000_000_000);
    for _ in 0..60 {
        for _ in 0..prng.below(80) {
            step(&mut store, &mut model, &mut prng, &mut clock_ms);
        }
        let before = (check(&store, &model), store.usage().counters);
        let bytes = store.slab.into_bytes();
        let (successor, report) = Store::attach(bytes, plan, &IDENTITY).unwrap();
        store = successor;
        store.set_healthy();
        model.timelines.values_mut().for_each(|timeline| timeline.open = None);
        assert_eq!((check(&store, &model), store.usage().counters), before);
        let rows: u64 = store.timelines().map(|id| rows_of(&store, id).len() as u64).sum();
        let samples: usize =
            store.timelines().map(|id| rows_of(&store, id).values().map(|row| row.samples.len()).sum::<usize>()).sum();
        assert_eq!((report.rows, report.samples), (rows, samples as u64));
        assert_eq!(report.series as usize, store.series_count());
    }
}

#[test]
fn a_slab_copied_after_any_write_gives_exactly_the_committed_rows() {
    let copies: RefCell<Vec<Vec<u8>>> = RefCell::default();
    let mut after_write = |written: &slab::Written<'_>| copies.borrow_mut().push(written.bytes.to_vec());
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    store.slab.after_write = Some(&mut after_write);
    let (mut model, mut prng, mut clock_ms) = (Model::default(), Prng::new(3), 1_700_000_000_000);
    let mut firsts = check(&store, &model);
    let mut attached = 0;
    for index in 0..250 {
        let before = model.clone();
        step(&mut store, &mut model, &mut prng, &mut clock_ms);
        let firsts_after = check(&store, &model);
        for (number, copy) in copies.take().into_iter().enumerate() {
            // Every write of a rare step, a sample of those of puts.
            if number % 5 != index % 5 && number > 200 {
                continue;
            }
            attached += 1;
            check_copy(copy, &before, &model, &firsts, &firsts_after);
        }
        firsts = firsts_after;
    }
    assert!(attached > 400, "{attached}");
}

fn check_copy(
    mut copy: Vec<u8>,
    before: &Model,
    after: &Model,
    firsts: &BTreeMap<u64, u64>,
    firsts_after: &BTreeMap<u64, u64>,
) {
    let (mut store, _) = Store::attach(&mut copy, &TINY, &IDENTITY).map_err(|(error, _)| error).unwrap();
    let mut model = before.clone();
    for (key, timeline) in &mut model.timelines {
        let id = store.timeline_find(TimelineKey(*key));
        let next = &after.timelines[key];
        // A step that opens or releases a timeline, or fills a place in a row, may not have come that far.
        let released = timeline.released || next.released;
        let is_after = |id| {
            let held = rows_of(&store, id);
            let same_rows = || held.iter().all(|(number, row)| next.rows.get(number) == Some(row));
            store.rows(id).end == next.next && (timeline.next != next.next || same_rows())
        };
        if id.is_some_and(is_after) {
            *timeline = next.clone();
        }
        timeline.open = None;
        timeline.released = released;
        // Made anew, and not yet told that its numbers go on behind what was stored.
        if id.is_some_and(|id| store.rows(id).end == 0) && !firsts.contains_key(key) {
            (timeline.rows, timeline.next) = (BTreeMap::new(), 0);
        }
        if let (Some(id), Some(first), Some(first_after)) = (id, firsts.get(key), firsts_after.get(key)) {
            assert!((*first..=*first_after).contains(&store.rows(id).start), "no row left early, none came back");
        }
    }
    check(&store, &model);
    // It goes on: a row more in every timeline that there is, and one of a new series.
    for (key, timeline) in &mut model.timelines {
        let Some(id) = store.timeline_find(TimelineKey(*key)) else { continue };
        if store.row_begin(id, 5) == Err(Refused::NoTimeline) {
            continue;
        }
        let put = store.row_put(id, labels(5_000).as_ref(), 17, None);
        let samples = put.is_ok().then(|| (labels(5_000), (5, 17))).into_iter().collect();
        timeline.next = store.row_commit(id, Missing::Absent).row + 1;
        timeline.rows.insert(timeline.next - 1, Row { instant_ms: 5, samples });
    }
    check(&store, &model);
}

#[test]
fn attach_may_itself_end_after_any_write() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let (mut model, mut prng, mut clock_ms) = (Model::default(), Prng::new(5), 1_700_000_000_000);
    for _ in 0..1_000 {
        step(&mut store, &mut model, &mut prng, &mut clock_ms);
    }
    let firsts = check(&store, &model);
    let copies: RefCell<Vec<Vec<u8>>> = RefCell::default();
    let mut after_write = |written: &slab::Written<'_>| copies.borrow_mut().push(written.bytes.to_vec());
    let map = store.map;
    let mut successor = Store::over(store.slab.into_bytes(), map, &IDENTITY);
    successor.slab.after_write = Some(&mut after_write);
    successor.restore().unwrap();
    model.timelines.values_mut().for_each(|timeline| timeline.open = None);
    let copies = copies.into_inner();
    assert!(copies.len() > 300);
    for copy in copies.into_iter().step_by(3) {
        check_copy(copy, &model, &model, &firsts, &firsts);
    }
}

#[test]
fn a_foreign_slab_is_named_and_comes_back() {
    let mut bytes = slab(&TINY);
    Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let refused = |bytes: &mut [u8], plan: &Plan, identity: Identity| {
        let length = bytes.len();
        let (error, back) = Store::attach(bytes, plan, &identity).map(|_| ()).unwrap_err();
        assert_eq!(back.len(), length);
        error
    };
    let other_plan = Plan { ring_bytes: TINY.ring_bytes - 8, ..TINY };
    assert_eq!(refused(&mut bytes, &other_plan, IDENTITY), AttachError::OtherPlan);
    let other = Identity { store_uuid: [8; 16], ..IDENTITY };
    assert_eq!(refused(&mut bytes, &TINY, other), AttachError::OtherStore);
    assert_eq!(refused(&mut bytes, &TINY, Identity { boot_id: [8; 16], ..IDENTITY }), AttachError::OtherBoot);
    for (log_generation, accepted) in [(3, false), (4, true), (5, true), (6, false)] {
        let attached = Store::attach(&mut bytes, &TINY, &Identity { log_generation, ..IDENTITY });
        let expected = AttachError::OtherGeneration { found: 5, expected: log_generation };
        assert_eq!(attached.map(|_| ()).map_err(|(error, _)| error), if accepted { Ok(()) } else { Err(expected) });
    }
    let needed_bytes = TINY.slab_bytes();
    let short = refused(&mut bytes[1..], &TINY, IDENTITY);
    assert_eq!(short, AttachError::SlabTooSmall { bytes: needed_bytes - 1, needed_bytes });
    assert!(Store::create(&mut bytes[1..], &TINY, IDENTITY).is_err());
    bytes[8] = 77;
    assert_eq!(refused(&mut bytes, &TINY, IDENTITY), AttachError::OtherVersion { found: 77, expected: 3 });
    bytes[0] = 0;
    assert_eq!(refused(&mut bytes, &TINY, IDENTITY), AttachError::NoStore);
}

/// Three attaches without a flush were enough to give a slab up, and so a box whose process was killed three times in a
/// row within its first moments would have lost what was not flushed.
#[test]
fn a_slab_is_left_alone_after_three_panics_or_thirty_early_ends_in_a_row() {
    let mut bytes = slab(&TINY);
    Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let mut attach = |healthy: bool| {
        let (mut store, _) = Store::attach(&mut bytes, &TINY, &IDENTITY).map_err(|(error, _)| error)?;
        if healthy {
            store.set_healthy();
        }
        Ok(())
    };
    for count in 0..30 + 30 {
        assert_eq!(attach(count == 29), Ok(()), "{count}");
    }
    assert_eq!(attach(true), Err(AttachError::NeverHealthy { strikes: 30 }));

    Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let mut attach = |panics: bool| {
        Store::attach(&mut bytes, &TINY, &IDENTITY).map(drop).map_err(|(error, _)| error)?;
        bytes[STRIKES_AT] += if panics { crate::limits::PANIC_STRIKES_COUNT } else { 0 };
        Ok(())
    };
    for panics in [true, true, false, true] {
        assert_eq!(attach(panics), Ok(()));
    }
    assert_eq!(attach(false), Err(AttachError::NeverHealthy { strikes: 31 }));
}

#[test]
fn a_damaged_slab_is_refused_or_read_but_never_a_panic() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let (mut model, mut prng, mut clock_ms) = (Model::default(), Prng::new(8), 1_700_000_000_000);
    for _ in 0..1_500 {
        step(&mut store, &mut model, &mut prng, &mut clock_ms);
    }
    store.state_put("alerts", &[1; 60]).unwrap();
    let good = store.slab.into_bytes().to_vec();
    let mut refused = 0;
    for _ in 0..1_500 {
        let mut copy = good.clone();
        for _ in 0..=prng.below(3) {
            let at = prng.below(copy.len() as u64) as usize;
            copy[at] ^= 1 << prng.below(8);
        }
        match Store::attach(&mut copy, &TINY, &IDENTITY) {
            Ok((mut store, _)) => {
                for id in store.timelines().collect::<Vec<_>>() {
                    store.rows_read(id, 0..u64::MAX, &mut |_| true);
                }
                store.series_visit(&mut |id, _| {
                    store.series_read(id, i64::MIN, i64::MAX, &mut |_, _| {});
                    true
                });
                for id in store.timelines().collect::<Vec<_>>() {
                    if store.row_begin(id, 1).is_ok() {
                        store.row_commit(id, Missing::Stale);
                    }
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 120, "{refused}");
}

/// Commits one row with these series, all of one value.
fn put_row(store: &mut Store<'_>, id: TimelineId, instant_ms: i64, numbers: Range<u64>) -> RowCommitted {
    store.row_begin(id, instant_ms).unwrap();
    for number in numbers {
        let put = store.row_put(id, labels(number).as_ref(), number, None);
        assert!(matches!(put, Ok(_) | Err(Refused::Full { .. })), "{put:?}");
    }
    store.row_commit(id, Missing::Stale)
}

#[test]
fn series_that_were_there_go_on_when_the_tables_are_full() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    assert_eq!(put_row(&mut store, id, 0, 0..10).samples, 10);
    store.row_begin(id, 1_000).unwrap();
    let mut taken = 0;
    for number in 0..1_000 {
        match store.row_put(id, labels(number).as_ref(), 1, None) {
            Ok(outcome) => {
                taken += 1;
                assert_eq!(outcome, if number < 10 { PutOutcome::Known } else { PutOutcome::New });
            }
            Err(refused) => {
                let Refused::Full { region, .. } = refused else { panic!("{refused}") };
                let text = refused.to_string();
                assert!(text.contains(region.name()) && text.contains("--memory.limit"), "{text}");
            }
        }
    }
    assert!((20..40).contains(&taken), "{taken}");
    let committed = store.row_commit(id, Missing::Stale);
    assert_eq!((committed.samples, committed.stale, committed.new_series), (taken, 0, taken - 10));
    let usage = store.usage();
    assert_eq!(usage.counters.refused_series, 1_000 - u64::from(taken));
    assert!(usage.regions.iter().all(|region| region.used <= region.total && region.bytes >= region.total.min(1)));
    assert_eq!(put_row(&mut store, id, 2_000, 0..10).samples, 10, "the old ones still fit");
}

#[test]
fn churn_keeps_every_region_flat_and_lets_newcomers_in() {
    let plan = Plan { ring_bytes: 2 * 1024, ..TINY };
    let mut bytes = slab(&plan);
    let mut store = Store::create(&mut bytes, &plan, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    let mut peaks = Vec::new();
    let mut samples = 0;
    for row in 0..100_000_u64 {
        // Four series stay, one more is replaced every 40 rows.
        store.row_begin(id, row as i64 * 1_000).unwrap();
        for number in (0..4).chain([1_000 + row / 40]) {
            let put = store.row_put(id, labels(number).as_ref(), row, None);
            assert!(put.is_ok(), "row {row}: {put:?}");
        }
        samples += store.row_commit(id, Missing::Stale).samples;
        if row % 10_000 == 9_999 {
            peaks.push(store.usage().regions.map(|region| region.used));
        }
    }
    assert_eq!(samples, 500_000);
    for peak in &peaks {
        assert!(peak[0] <= 24 && peak[3] <= 9, "series and layouts stay few: {peaks:?}");
    }
    let counters = store.usage().counters;
    assert!(counters.released_series > 2_400, "{counters:?}");
    assert_eq!(counters.refused_series, 0);
}

#[test]
fn spilled_rows_of_ended_series_make_room_for_newcomers_and_unspilled_ones_do_not() {
    let plan = Plan { ring_bytes: 64 * 1024, ..TINY };
    let mut bytes = slab(&plan);
    let mut store = Store::create(&mut bytes, &plan, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    let put = |store: &mut Store<'_>, row: u64| {
        store.row_begin(id, row as i64).unwrap();
        let put = (0..8).map(|n| store.row_put(id, labels(1_000 * (row / 32) + n).as_ref(), 1, None));
        let put: Result<Vec<_>, _> = put.collect();
        store.row_commit(id, Missing::Stale);
        put
    };
    let mut row = 0;
    let refused = loop {
        match put(&mut store, row) {
            Ok(_) => row += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Refused::Full { .. }) && row < 200, "{refused} at row {row}");
    assert_eq!(store.usage().counters.evicted_rows, 0, "nothing unspilled makes room");
    assert!(store.newcomers_wait_for_spill());
    store.set_rows_spilled(id, store.rows(id).end);
    assert!(!store.newcomers_wait_for_spill());
    for row in row + 1..2_000 {
        let end = store.rows(id).end;
        store.set_rows_spilled(id, end);
        assert!(put(&mut store, row).is_ok(), "row {row}");
    }
    let counters = store.usage().counters;
    assert!(counters.evicted_rows > 1_000 && counters.evicted_unspilled_rows == 0, "{counters:?}");
    let rows = rows_of(&store, id).len() as u64;
    assert_eq!(rows + counters.evicted_rows, counters.committed_rows);
    let (store, report) = Store::attach(store.slab.into_bytes(), &plan, &IDENTITY).map_err(|(e, _)| e).unwrap();
    assert_eq!(report.rows, rows);
    assert_eq!(rows_of(&store, id).len() as u64, rows);
}

#[test]
fn a_released_timeline_makes_room_for_a_new_one_once_it_is_spilled() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    for key in 0..3 {
        let id = store.timeline_open(TimelineKey(key)).unwrap();
        put_row(&mut store, id, 0, key..key + 1);
        store.timeline_release(id);
    }
    let full = Refused::Full { region: RegionName::Timelines, total: 3 };
    assert_eq!(store.timeline_open(TimelineKey(9)), Err(full));
    let old = store.timeline_find(TimelineKey(1)).unwrap();
    store.set_rows_spilled(old, 1);
    assert_eq!(store.timeline_open(TimelineKey(9)), Ok(old), "in the place of the one that went");
    assert_eq!(store.series_find(labels(1).as_ref()), None);
    assert_eq!(store.timeline_open(TimelineKey(10)), Err(full));
}

#[test]
fn a_column_that_died_leaves_the_layout_and_comes_back_as_a_new_one() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    let first = put_row(&mut store, id, 0, 0..3);
    assert_eq!((first.row, first.samples, first.new_series), (0, 3, 3));
    let second = put_row(&mut store, id, 1_000, 0..2);
    assert_eq!((second.samples, second.stale, second.new_series), (2, 1, 0));
    assert_eq!(put_row(&mut store, id, 2_000, 0..2).stale, 0, "a series ends once");
    for row in 3..33 {
        put_row(&mut store, id, row * 1_000, 0..2);
    }
    let old = store.layout_of_rows(id, 0).unwrap();
    assert_eq!((old.columns, old.rows.clone()), (3, 0..32));
    let new = store.layout_of_rows(id, 32).unwrap();
    assert_eq!((new.columns, new.rows.clone()), (2, 32..33));
    assert!(new.layout > old.layout);
    assert_eq!(put_row(&mut store, id, 33_000, 0..3).new_series, 1);
}

#[test]
fn a_sample_goes_by_its_column_only_into_an_open_row_of_the_columns_layout() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let [id, other] = [1, 2].map(|key| store.timeline_open(TimelineKey(key)).unwrap());
    store.row_begin(id, 0).unwrap();
    let (put, value) = store.row_put_told(id, labels(1).as_ref(), 10, Some(700)).unwrap();
    assert_eq!(put, PutOutcome::New);
    assert_eq!(store.row_put_at(id, value, 10), Some(PutOutcome::Duplicate { same_value: true }));
    assert_eq!(store.row_put_at(id, value, 11), Some(PutOutcome::Duplicate { same_value: false }));
    let ages = ColumnId(value.0 + 1);
    assert_eq!(store.row_put_at(id, ages, 11), None, "ages are no values");
    assert_eq!(store.row_put_at(id, ColumnId(ages.0 + 1), 11), None, "beyond the layout");
    assert_eq!(store.row_put_at(id, ColumnId(u32::MAX - 1), 11), None, "no such column");
    store.row_commit(id, Missing::Stale);
    assert_eq!(store.row_put_at(id, value, 12), None, "no row is open");
    assert_eq!(store.usage().counters.duplicates, 2);
    store.row_begin(other, 0).unwrap();
    assert_eq!(store.row_put_at(other, value, 12), None, "another timeline's column");
    let layout = store.row_layout(id);
    store.row_begin(id, 1_000).unwrap();
    assert_eq!(store.row_put_at(id, value, 12), Some(PutOutcome::Known));
    store.row_put(id, labels(2).as_ref(), 20, None).unwrap();
    store.row_commit(id, Missing::Stale);
    assert_eq!(store.row_layout(id), layout, "a layout grows");
    let mut read = Vec::new();
    let series = store.series_find(labels(1).as_ref()).unwrap();
    store.series_read(series, i64::MIN, i64::MAX, &mut |t_ms, bits| read.push((t_ms, bits)));
    assert_eq!(read, [(-700, 10), (1_000, 12)]);
    (2..40).for_each(|row| _ = put_row(&mut store, id, row * 1_000, 1..2));
    assert_ne!(store.row_layout(id), layout, "a column has died");
    store.row_begin(id, 40_000).unwrap();
    assert_eq!(store.row_put_at(id, value, 13), None, "the column of a layout before");
}

#[test]
fn a_series_that_ends_at_a_chunks_boundary_gets_its_stale_marker() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    for row in 0..16 {
        put_row(&mut store, id, row, 0..2);
    }
    let (mut store, _) = Store::attach(store.slab.into_bytes(), &TINY, &IDENTITY).map_err(|(e, _)| e).unwrap();
    assert_eq!(put_row(&mut store, id, 16, 0..1).stale, 1);
    let (mut store, _) = Store::attach(store.slab.into_bytes(), &TINY, &IDENTITY).map_err(|(e, _)| e).unwrap();
    assert_eq!(put_row(&mut store, id, 17, 0..1).stale, 0);
}

#[test]
fn one_series_of_two_timelines_reads_from_both() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let ids = [1, 2].map(|key| store.timeline_open(TimelineKey(key)).unwrap());
    store.row_begin(ids[0], 1_000).unwrap();
    store.row_begin(ids[1], 1_500).unwrap();
    store.row_put(ids[0], labels(1).as_ref(), 10, None).unwrap();
    store.row_put(ids[1], labels(1).as_ref(), 20, Some(700)).unwrap();
    assert_eq!(
        store.row_put(ids[1], labels(1).as_ref(), 21, None),
        Ok(PutOutcome::Duplicate { same_value: false }),
        "the first value of a row stays"
    );
    store.row_commit(ids[0], Missing::Stale);
    let series = store.series_find(labels(1).as_ref()).unwrap();
    let read = |store: &Store<'_>, start_ms, end_ms| {
        let mut samples = Vec::new();
        store.series_read(series, start_ms, end_ms, &mut |t_ms, bits| samples.push((t_ms, bits)));
        samples.sort_unstable();
        samples
    };
    assert_eq!(read(&store, 0, 9_999), [(1_000, 10)], "a staged row is not there");
    store.row_commit(ids[1], Missing::Stale);
    assert_eq!(read(&store, 0, 9_999), [(800, 20), (1_000, 10)]);
    assert_eq!(read(&store, 800, 999), [(800, 20)]);
    assert_eq!(read(&store, 801, 1_000), [(1_000, 10)]);
    assert_eq!(store.series_time_range(series), Some((800, 1_000)));
    assert_eq!(store.series_count(), 1);
}

#[test]
fn a_clock_that_goes_back_loses_nothing() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    let instants: Vec<i64> = (0..40).map(|row| if row < 20 { 1_000_000 + row } else { row }).collect();
    for instant_ms in &instants {
        put_row(&mut store, id, *instant_ms, 0..1);
    }
    let mut found = Vec::new();
    let series = store.series_find(labels(0).as_ref()).unwrap();
    store.series_read(series, 0, 2_000_000, &mut |t_ms, _| found.push(t_ms));
    assert_eq!(found, instants);
    assert_eq!(store.series_time_range(series), Some((20, 1_000_019)));
}

#[test]
fn numbers_go_on_behind_what_is_stored() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    store.row_next_at_least(id, 500);
    store.row_next_at_least(id, 400);
    assert_eq!(store.rows(id), 500..500);
    assert_eq!(put_row(&mut store, id, 0, 0..1).row, 500);
    store.row_next_at_least(id, 600);
    assert_eq!(put_row(&mut store, id, 1, 0..1).row, 600);
    assert_eq!(store.rows(id), 500..601);
    assert_eq!(
        (store.row_instant(id, 500), store.row_instant(id, 501), store.row_instant(id, 600)),
        (Some(0), None, Some(1))
    );
    assert_eq!(store.layout_of_rows(id, 501).unwrap().rows, 600..601);
    assert_eq!(store.rows_instants(id, 500..502, &mut [0; 2]), None, "a gap is not made up");
    let numbered = store.layout_of_rows(id, 600).unwrap().layout;
    store.layout_next_at_least(numbered + 1_000);
    let other = store.timeline_open(TimelineKey(2)).unwrap();
    put_row(&mut store, other, 0, 0..1);
    assert!(store.layout_of_rows(other, 0).unwrap().layout >= numbered + 1_000);
}

#[test]
fn rows_lost_before_they_were_spilled_are_counted_with_their_range() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    store.set_rows_spilled(id, 24);
    while store.rows(id).start < 48 {
        let row = store.rows(id).end;
        put_row(&mut store, id, row as i64, 0..4);
    }
    let counters = store.usage().counters;
    assert_eq!((counters.evicted_rows, counters.evicted_samples), (48, 192));
    assert_eq!((counters.evicted_unspilled_rows, counters.evicted_unspilled_samples), (24, 96));
    // The chunk that was half spilled had its instants from row 16 on.
    assert_eq!(store.rows_lost(id), Some(RowsLost { rows: 24..48, samples: 96, span_ms: (16, 47) }));
    store.rows_lost_clear(id);
    assert_eq!(store.rows_lost(id), None);
    let pressure = store.ring_pressure();
    assert!(pressure.bytes_unspilled > 0 && pressure.bytes_unspilled + pressure.bytes_free <= pressure.bytes);
    store.set_rows_spilled(id, store.rows(id).end);
    assert_eq!(store.ring_pressure().bytes_unspilled, 0);
}

/// Its record went with its last rows, and what had been lost of it was never told.
#[test]
fn a_released_timeline_stays_until_its_losses_are_told() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let (released, other) = (TimelineKey(1), store.timeline_open(TimelineKey(2)).unwrap());
    let id = store.timeline_open(released).unwrap();
    put_row(&mut store, id, 0, 0..4);
    store.timeline_release(id);
    let mut row = 0;
    while store.rows_lost(id).is_none() {
        row += 1;
        put_row(&mut store, other, row, 4..8);
    }
    assert_eq!(store.timeline_find(released), Some(id));
    assert_eq!(store.rows_lost(id), Some(RowsLost { rows: 0..1, samples: 4, span_ms: (0, 0) }));
    store.rows_lost_clear(id);
    assert_eq!(store.timeline_find(released), None);
}

#[test]
fn rows_too_wide_for_the_ring_are_counted_as_lost_and_the_next_go_on() {
    let plan = Plan { ring_bytes: 256, ..TINY };
    let mut bytes = slab(&plan);
    let mut store = Store::create(&mut bytes, &plan, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    let mut prng = Prng::new(1);
    for row in 0..17 {
        store.row_begin(id, row).unwrap();
        for number in 0..8 {
            store.row_put(id, labels(number).as_ref(), prng.next_u64(), None).unwrap();
        }
        store.row_commit(id, Missing::Stale);
    }
    assert_eq!(store.rows(id), 16..17);
    let lost = RowsLost { rows: 0..16, samples: 128, span_ms: (0, 15) };
    assert_eq!((store.rows_lost(id), store.usage().counters.evicted_unspilled_samples), (Some(lost), 128));
}

#[test]
fn a_released_timeline_goes_when_its_rows_are_gone() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let released = store.timeline_open(TimelineKey(1)).unwrap();
    put_row(&mut store, released, 0, 100..103);
    store.timeline_release(released);
    assert_eq!(store.row_begin(released, 1), Err(Refused::NoTimeline));
    assert_eq!(store.rows(released), 0..1, "its rows can still be read");
    assert_eq!(store.usage().regions[5].used, 0, "its pages are free");
    store.set_rows_spilled(released, 1);
    let id = store.timeline_open(TimelineKey(2)).unwrap();
    while store.timeline_find(TimelineKey(1)).is_some() {
        let row = store.rows(id).end;
        assert!(row < 2_000);
        put_row(&mut store, id, row as i64, 0..4);
    }
    assert_eq!(store.series_find(labels(100).as_ref()), None);
    let empty = store.timeline_open(TimelineKey(3)).unwrap();
    store.timeline_release(empty);
    assert_eq!(store.timeline_find(TimelineKey(3)), None, "without rows it goes at once");
}

#[test]
fn misuse_is_refused_by_name() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    assert_eq!(store.row_put(id, labels(0).as_ref(), 0, None), Err(Refused::NoRowOpen));
    store.row_begin(id, 0).unwrap();
    assert_eq!(store.row_put(id, LabelsRef::EMPTY, 0, None), Err(Refused::NoLabels));
    let long = LabelSet::from_pairs([("a", "x".repeat(4_094).as_str())]);
    assert_eq!(store.row_put(id, long.as_ref(), 0, None), Err(Refused::LabelsTooLong));
    store.row_abort(id);
    assert_eq!(store.row_put(id, labels(0).as_ref(), 0, None), Err(Refused::NoRowOpen));
    assert_eq!(store.series_count(), 0);
}

#[test]
fn small_state_is_replaced_in_one_step_and_survives() {
    let mut bytes = slab(&TINY);
    let mut store = Store::create(&mut bytes, &TINY, IDENTITY).unwrap();
    let copies: RefCell<Vec<Vec<u8>>> = RefCell::default();
    let mut after_write = |written: &slab::Written<'_>| copies.borrow_mut().push(written.bytes.to_vec());
    store.slab.after_write = Some(&mut after_write);
    let values: [&[u8]; 7] = [&[1; 64], &[2; 10], &[3; 65], &[4; 256], &[5; 1], &[], &[6; 2]];
    let mut before: &[u8] = &[];
    for value in values {
        store.state_put("cursor", value).unwrap();
        assert_eq!(store.state_get("cursor").unwrap_or_default(), value);
        let mut seen = BTreeSet::new();
        for mut copy in copies.take() {
            let (store, _) = Store::attach(&mut copy, &TINY, &IDENTITY).map_err(|(error, _)| error).unwrap();
            let got = store.state_get("cursor").unwrap_or_default().to_vec();
            assert!(got == before || got == value, "{got:?}");
            seen.insert(got);
        }
        assert!(seen.contains(value));
        before = value;
    }
    store.state_put("other", &[9; 3]).unwrap();
    store.state_put("third", &[8; 3]).unwrap();
    assert!(matches!(store.state_put("fourth", &[7; 3]), Err(Refused::Full { region: RegionName::State, .. })));
    assert_eq!(store.state_put("cursor", &[0; 257]), Err(Refused::StateTooLong { bytes: 257, bytes_max: 256 }));
    assert_eq!(store.state_get("cursor"), Some(&[6_u8; 2][..]), "what was refused changes nothing");
    assert!(store.state_put(&"k".repeat(40), &[]).is_ok());
    assert!(matches!(store.state_put(&"k".repeat(41), &[1]), Err(Refused::StateKeyTooLong { bytes: 41, .. })));
    let mut names = Vec::new();
    store.state_visit(&mut |key, _| names.push(key.to_owned()));
    names.sort();
    assert_eq!(names, ["cursor", "other", "third"]);
}

#[test]
fn forty_eight_kib_hold_a_hundred_series_and_their_newest_rows() {
    let plan = Plan::for_series(48 * 1024, 104).unwrap();
    let mut bytes = slab(&plan);
    assert_eq!(bytes.len(), 48 * 1024);
    let mut store = Store::create(&mut bytes, &plan, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    // Half constant, half counters: much like a node exporter's.
    let value = |row: u64, number: u64| if number.is_multiple_of(2) { 5 } else { row * number + (row * 7919) % 13 };
    for row in 0..1_000 {
        store.row_begin(id, row as i64 * 5_000 + (row as i64 * 31) % 17).unwrap();
        for number in 0..100 {
            let bits = (value(row, number) as f64).to_bits();
            store.row_put(id, labels(number).as_ref(), bits, None).unwrap();
        }
        assert_eq!(store.row_commit(id, Missing::Stale).samples, 100);
    }
    let rows = store.rows(id);
    assert!(rows.end == 1_000 && rows.start <= 800, "{rows:?}");
    let mut samples = 0;
    store.rows_read(id, rows.clone(), &mut |column| {
        let text = column.labels.get("n").unwrap();
        let number = text.rsplit(' ').next().unwrap().parse().unwrap();
        for (row, bits) in column.rows.iter().zip(column.bits) {
            assert_eq!(*bits, (value(*row, number) as f64).to_bits());
            samples += 1;
        }
        true
    });
    assert_eq!(samples, (rows.end - rows.start) * 100);
    assert_eq!(store.usage().counters.evicted_rows, rows.start);
}

#[test]
fn every_column_of_a_wide_chunk_is_found_by_itself_and_with_all_others() {
    // 300 columns are 38 stripes, and a directory has an offset for every 16 of them.
    const COLUMNS: u64 = 300;
    let plan = Plan::for_series(512 * 1024, COLUMNS + 8).unwrap();
    let mut bytes = slab(&plan);
    let mut store = Store::create(&mut bytes, &plan, IDENTITY).unwrap();
    let id = store.timeline_open(TimelineKey(1)).unwrap();
    // Buckets that rise together, zeros, ones, noise, and a NaN among decimals: every kind of head.
    let value = |row: u64, number: u64| match number % 11 {
        0..4 => (row * 9 + crate::prng::mix(row) % (number % 11 + 2)) as f64,
        4 | 5 => 0.0,
        6 => 1.0,
        7 => f64::from_bits(crate::prng::mix(row * COLUMNS + number)),
        8 if row.is_multiple_of(7) => f64::NAN,
        8 => row as f64 / 4.0,
        _ => number as f64,
    };
    for row in 0..40_u64 {
        store.row_begin(id, row as i64 * 5_000).unwrap();
        for number in 0..COLUMNS {
            // One that comes and goes.
            if number != 77 || !row.is_multiple_of(3) {
                let age = number.is_multiple_of(50).then_some(row as i64 % 5);
                store.row_put(id, labels(number).as_ref(), value(row, number).to_bits(), age).unwrap();
            }
        }
        store.row_commit(id, Missing::Stale);
    }
    let number_of =
        |labels: LabelsRef<'_>| labels.get("n").unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    let mut together = BTreeMap::new();
    store.rows_read(id, 0..40, &mut |column| {
        let samples = column.t_ms.iter().copied().zip(column.bits.iter().copied());
        let series: &mut Vec<(i64, u64)> = together.entry(number_of(column.labels)).or_default();
        series.extend(samples);
        true
    });
    let mut columns = 0;
    store.series_visit(&mut |series, labels| {
        let number = number_of(labels);
        let mut alone = Vec::new();
        store.series_read(series, i64::MIN, i64::MAX, &mut |t_ms, bits| alone.push((t_ms, bits)));
        assert_eq!(alone, together[&number], "{number}");
        if number != 77 {
            let bits = alone.iter().map(|(_, bits)| *bits);
            assert!(bits.eq((0..40).map(|row| value(row, number).to_bits())), "{number}");
        }
        columns += 1;
        true
    });
    assert_eq!(columns, COLUMNS);
    assert_eq!(
        together[&77].len(),
        39,
        "13 gaps, each with a stale marker but the first row, which had nothing before it"
    );
}
