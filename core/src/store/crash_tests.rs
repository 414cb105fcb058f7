//! A minute of a small node's life, and its slab as it was after every single write of that minute.
//!
//! Three targets are scraped every second and a rule is evaluated every five: series come and go, a target fails, one
//! goes by a reload and comes back, samples have their own times or come twice, the ring wraps and evicts, small states
//! change. A process may be killed between any two of its writes, and within one that is longer than a word; what the
//! compiler may have done to the order of the others is tried too. Each such slab must give exactly the committed rows,
//! and the states as they were before or after.
//!
//! `HOLDFAST_CRASH_SECONDS` makes the minute longer, `HOLDFAST_CRASH_REORDERED` is how many orders are tried per write (2).

use super::*;
use crate::{
    labels::LabelSet,
    memory::StateClass,
    prng::{Prng, mix},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

const IDENTITY: Identity = Identity { store_uuid: [7; 16], boot_id: [9; 16], log_generation: 5 };
const START_MS: i64 = 1_790_000_000_000;

/// So small that the ring wraps several times in a minute, and that some series are refused.
const PLAN: Plan = Plan {
    series_count: 26,
    label_bytes: 1_280,
    timelines_count: 4,
    layouts_count: 9,
    layout_nodes_count: 12,
    raw_pages_count: 9,
    state: [
        StateClass { count: 2, bytes_each: 64 },
        StateClass { count: 1, bytes_each: 256 },
        StateClass { count: 0, bytes_each: 512 },
    ],
    ring_bytes: 1_024,
};

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|error| panic!("{variable}: {error}")))
}

/// A committed row as it must be read.
#[derive(Debug, Default)]
struct Row {
    /// Of the instant and all samples, in any order.
    digest: u64,
    /// By series: time and bits.
    samples: Vec<(u64, i64, u64)>,
}

impl Row {
    fn new(instant_ms: i64) -> Self {
        Self { digest: mix(instant_ms as u64), samples: Vec::new() }
    }

    fn add(&mut self, series: u64, t_ms: i64, bits: u64) {
        self.digest = self.digest.wrapping_add(digest(series, t_ms, bits));
        self.samples.push((series, t_ms, bits));
    }
}

fn digest(series: u64, t_ms: i64, bits: u64) -> u64 {
    mix(series ^ mix(t_ms as u64 ^ mix(bits)))
}

#[derive(Clone, Debug, Default)]
struct Timeline {
    rows: BTreeMap<u64, Rc<Row>>,
    next: u64,
    /// Series with a value in the row before.
    before: BTreeSet<u64>,
}

/// What must be there.
#[derive(Clone, Debug, Default)]
struct Model {
    timelines: BTreeMap<u64, Timeline>,
    states: BTreeMap<&'static str, Vec<u8>>,
    /// Rows of each timeline that the store held.
    held: BTreeMap<u64, core::ops::Range<u64>>,
}

/// A slab as a kill could leave it, and in words when that was.
struct Copy {
    bytes: Vec<u8>,
    when: &'static str,
}

/// Collects the slabs that the writes of one step can leave.
struct Copies {
    copies: Vec<Copy>,
    prng: Prng,
    reordered: u64,
    /// Plain writes since the last one that nothing passes: where, and what was there before.
    plain: Vec<(usize, Vec<u8>)>,
}

impl Copies {
    fn add(&mut self, written: &slab::Written<'_>) {
        let slab::Written { bytes, at, before, is_published } = written;
        self.copies.push(Copy { bytes: bytes.to_vec(), when: "after a write" });
        let length = before.len();
        if length > 8 {
            // Copied from either end, as far as some byte.
            let cut = 1 + self.prng.below(length as u64 - 1) as usize;
            for (kept, when) in
                [(cut..length, "within a write, from its start"), (0..cut, "within a write, from its end")]
            {
                let mut torn = bytes.to_vec();
                torn[at + kept.start..at + kept.end].copy_from_slice(&before[kept]);
                self.copies.push(Copy { bytes: torn, when });
            }
        }
        if *is_published {
            self.plain.clear();
            return;
        }
        self.plain.push((*at, before.clone()));
        for _ in 0..self.reordered {
            // Newest first. Writes to the same bytes keep their order: one is undone only if no later one there is done.
            let mut reordered = bytes.to_vec();
            let mut undone: Vec<(usize, usize)> = Vec::new();
            let mut done: Vec<(usize, usize)> = Vec::new();
            for (at, before) in self.plain.iter().rev() {
                let range = (*at, at + before.len());
                let overlaps = |other: &(usize, usize)| other.0 < range.1 && range.0 < other.1;
                if self.prng.chance(1, 2) && !done.iter().any(overlaps) {
                    reordered[range.0..range.1].copy_from_slice(before);
                    undone.push(range);
                } else {
                    done.push(range);
                }
            }
            if !undone.is_empty() {
                self.copies
                    .push(Copy { bytes: reordered, when: "before some of the writes since the last published one" });
            }
        }
    }
}

/// The names of the series, made once.
struct Names {
    labels: Vec<LabelSet>,
    numbers: HashMap<u64, u64>,
}

impl Names {
    fn new() -> Self {
        let labels: Vec<LabelSet> = (0..400).map(labels).collect();
        let numbers = labels.iter().zip(0..).map(|(labels, number)| (labels.as_ref().stable_hash(), number));
        Self { numbers: numbers.collect(), labels }
    }
}

fn labels(number: u64) -> LabelSet {
    let value = format!("a value of several cells, {number}");
    LabelSet::from_pairs([("__name__", "metric"), ("n", value.as_str())])
}

struct Life<'m, 'c> {
    store: Store<'m>,
    copies: &'c RefCell<Copies>,
    model: Model,
    names: Names,
    checked: BTreeMap<&'static str, u64>,
}

impl Life<'_, '_> {
    /// One call of the store's, with what the model makes of it; then all slabs that it can have left are looked at.
    fn step(&mut self, act: impl FnOnce(&mut Store<'_>, &mut Model, &Names)) {
        let before = self.model.clone();
        act(&mut self.store, &mut self.model, &self.names);
        let (store, model) = (&self.store, &mut self.model);
        let held =
            model.timelines.keys().filter_map(|key| Some((*key, store.rows(store.timeline_find(TimelineKey(*key))?))));
        model.held = held.collect();
        let copies = core::mem::take(&mut self.copies.borrow_mut().copies);
        for mut copy in copies {
            let count = self.checked.entry(copy.when).or_default();
            *count += 1;
            let goes_on = count.is_multiple_of(5);
            check(&mut copy, &before, &self.model, &self.names, *count, goes_on);
        }
    }

    fn begin(&mut self, key: u64, instant_ms: i64) -> Row {
        self.step(|store, _, _| {
            let id = store.timeline_find(TimelineKey(key)).unwrap();
            store.row_begin(id, instant_ms).unwrap();
        });
        Row::new(instant_ms)
    }

    fn put(&mut self, key: u64, row: &mut Row, instant_ms: i64, series: u64, bits: u64, age_ms: Option<i64>) {
        self.step(|store, _, names| {
            let id = store.timeline_find(TimelineKey(key)).unwrap();
            match store.row_put(id, names.labels[series as usize].as_ref(), bits, age_ms) {
                Ok(PutOutcome::Known | PutOutcome::New) => row.add(series, instant_ms - age_ms.unwrap_or(0), bits),
                Ok(PutOutcome::Duplicate { .. }) | Err(Refused::Full { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        });
    }

    fn commit(&mut self, key: u64, mut row: Row, instant_ms: i64, missing: Missing) {
        self.step(|store, model, _| {
            let id = store.timeline_find(TimelineKey(key)).unwrap();
            let committed = store.row_commit(id, missing);
            let timeline = model.timelines.get_mut(&key).unwrap();
            let present: BTreeSet<u64> = row.samples.iter().map(|(series, ..)| *series).collect();
            if missing == Missing::Stale {
                for series in timeline.before.difference(&present) {
                    row.add(*series, instant_ms, STALE_NAN_BITS);
                }
            }
            timeline.before = present;
            assert_eq!(committed.row, timeline.next);
            timeline.rows.insert(timeline.next, Rc::new(row));
            timeline.next += 1;
        });
    }

    fn open(&mut self, key: u64) {
        self.step(|store, model, _| {
            model.timelines.entry(key).or_default();
            store.timeline_open(TimelineKey(key)).unwrap();
        });
        self.step(|store, model, _| {
            let id = store.timeline_find(TimelineKey(key)).unwrap();
            store.row_next_at_least(id, model.timelines[&key].next);
        });
    }

    fn release(&mut self, key: u64) {
        self.step(|store, model, _| {
            store.timeline_release(store.timeline_find(TimelineKey(key)).unwrap());
            model.timelines.get_mut(&key).unwrap().before.clear();
        });
    }

    fn state(&mut self, key: &'static str, bytes: Vec<u8>) {
        self.step(|store, model, _| {
            store.state_put(key, &bytes).unwrap();
            model.states.insert(key, bytes);
        });
    }
}

/// Rows of one timeline as the store gives them.
fn read(store: &Store<'_>, timeline: TimelineId, names: &Names) -> BTreeMap<u64, u64> {
    let range = store.rows(timeline);
    let mut digests = BTreeMap::new();
    let mut next = range.start;
    while let Some(run) = store.layout_of_rows(timeline, next) {
        let mut instants = [0; 256];
        store.rows_instants(timeline, run.rows.clone(), &mut instants).unwrap();
        digests.extend(run.rows.clone().zip(instants.map(|instant_ms| mix(instant_ms as u64))));
        next = run.rows.end;
    }
    store.rows_read(timeline, range, &mut |column| {
        let series = names.numbers[&column.labels.stable_hash()];
        for ((row, t_ms), bits) in column.rows.iter().zip(column.t_ms).zip(column.bits) {
            let known = digests.get_mut(row).expect("a row that has an instant");
            *known = known.wrapping_add(digest(series, *t_ms, *bits));
        }
        true
    });
    digests
}

fn check(copy: &mut Copy, before: &Model, after: &Model, names: &Names, number: u64, goes_on: bool) {
    let when = copy.when;
    let (mut store, _) = Store::attach(&mut copy.bytes, &PLAN, &IDENTITY)
        .map_err(|(error, _)| error)
        .unwrap_or_else(|error| panic!("{when}: {error}"));
    let series = number % names.labels.len().min(60) as u64;
    let mut expected = Vec::new();
    for (key, timeline) in &after.timelines {
        let (held_before, held_after) = (before.held.get(key), after.held.get(key));
        let Some(id) = store.timeline_find(TimelineKey(*key)) else {
            assert!(held_before.is_none() || held_after.is_none(), "{when}: timeline {key} is gone");
            continue;
        };
        let rows = store.rows(id);
        let ends = [held_before, held_after].map(|held| held.map(|held| held.end));
        // One that is being made has no number yet.
        let is_new = held_before.is_none() && rows == (0..0);
        assert!(is_new || ends.contains(&Some(rows.end)), "{when}: timeline {key} ends with {rows:?}, not {ends:?}");
        if let (Some(before), Some(after)) = (held_before, held_after) {
            assert!((before.start..=after.start).contains(&rows.start), "{when}: {rows:?}, {before:?} {after:?}");
        }
        let found = read(&store, id, names);
        let committed = timeline.rows.range(rows.clone()).map(|(row, known)| (*row, known.digest));
        assert!(found.iter().map(|(row, digest)| (*row, *digest)).eq(committed), "{when}: timeline {key}, {rows:?}");
        let held = timeline.rows.range(rows).flat_map(|(_, row)| &row.samples);
        expected.extend(held.filter(|sample| sample.0 == series).map(|(_, t_ms, bits)| (*t_ms, *bits)));
    }
    let mut found = Vec::new();
    if let Some(id) = store.series_find(names.labels[series as usize].as_ref()) {
        store.series_read(id, i64::MIN, i64::MAX, &mut |t_ms, bits| found.push((t_ms, bits)));
    }
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{when}: series {series}");
    for (key, bytes) in &after.states {
        let found = store.state_get(key);
        let is_known = found == Some(bytes) || found == before.states.get(key).map(Vec::as_slice);
        assert!(is_known, "{when}: state {key} is {found:?}");
    }
    if goes_on {
        go_on(&mut store, after, names);
    }
}

/// One row more in every timeline that is open, with a series that is new and one that may be known.
fn go_on(store: &mut Store<'_>, model: &Model, names: &Names) {
    for key in model.timelines.keys() {
        let Some(id) = store.timeline_find(TimelineKey(*key)) else { continue };
        if store.row_begin(id, 5) == Err(Refused::NoTimeline) {
            continue;
        }
        let mut row = Row::new(5);
        for series in [399, 1] {
            if store.row_put(id, names.labels[series].as_ref(), 17, None).is_ok() {
                row.add(series as u64, 5, 17);
            }
        }
        let committed = store.row_commit(id, Missing::Absent);
        assert_eq!(read(store, id, names).remove(&committed.row), Some(row.digest));
    }
}

#[test]
fn a_slab_copied_after_every_write_of_a_minute_gives_exactly_the_committed_scrapes() {
    let seconds = number_from("HOLDFAST_CRASH_SECONDS", 60) as i64;
    let copies = RefCell::new(Copies {
        copies: Vec::new(),
        prng: Prng::new(1),
        reordered: number_from("HOLDFAST_CRASH_REORDERED", 2),
        plain: Vec::new(),
    });
    let mut after_write = |written: &slab::Written<'_>| copies.borrow_mut().add(written);
    let mut bytes = vec![0xa5; PLAN.slab_bytes()];
    let mut store = Store::create(&mut bytes, &PLAN, IDENTITY).unwrap();
    store.slab.after_write = Some(&mut after_write);
    let mut life =
        Life { store, copies: &copies, model: Model::default(), names: Names::new(), checked: BTreeMap::new() };
    (1..=4).for_each(|key| life.open(key));
    for second in 0..seconds {
        scrape_second(&mut life, second);
    }
    let counters = life.store.usage().counters;
    println!("{:?} slabs, {counters:?}", life.checked);
    assert!(counters.evicted_rows > 40 && counters.evicted_unspilled_rows > 5, "{counters:?}");
    assert!(counters.refused_series > 0 && counters.released_series > 2, "{counters:?}");
    assert!(counters.duplicates > 0 && counters.committed_rows > 150, "{counters:?}");
    assert!(life.checked.values().sum::<u64>() > 5_000 && life.checked.len() == 4, "{:?}", life.checked);
}

/// What happens in one second of the trace.
fn scrape_second(life: &mut Life<'_, '_>, second: i64) {
    let t_ms = START_MS + second * 1_000;
    let value = |series: i64| match series % 4 {
        0 => 1.0,
        1 => (second * series) as f64,
        2 => (second * second % 7) as f64 / 10.0,
        _ => f64::from_bits(mix((second * 64 + series) as u64) >> 2),
    };
    // A target that stays as it is.
    let mut row = life.begin(1, t_ms);
    for series in 0..5 {
        life.put(1, &mut row, t_ms, series as u64, value(series).to_bits(), None);
    }
    life.commit(1, row, t_ms, Missing::Stale);

    // One whose pods come and go, and which is down at times. Once, it has far too many of them.
    let is_down = second % 20 == 13;
    let pods = if second % 30 == 24 { 100..130 } else { 20 + second / 6..22 + second / 6 };
    let t_pods_ms = t_ms + 150;
    let mut row = life.begin(2, t_pods_ms);
    for series in [8, 9].into_iter().chain(pods).filter(|_| !is_down) {
        life.put(2, &mut row, t_pods_ms, series as u64, value(series).to_bits(), None);
    }
    life.commit(2, row, t_pods_ms, Missing::Stale);

    // One with its own times, a page that has a line twice, and a reload that takes it away for ten seconds.
    let t_aged_ms = t_ms + 370;
    match second % 50 {
        31 => life.release(3),
        41 => life.open(3),
        _ => {}
    }
    if !(31..41).contains(&(second % 50)) {
        let mut row = life.begin(3, t_aged_ms);
        for series in 10..13 {
            let age_ms = (series == 12 && second % 3 > 0).then_some(second * 17 % 400);
            life.put(3, &mut row, t_aged_ms, series as u64, value(series).to_bits(), age_ms);
        }
        if second % 9 == 4 {
            life.put(3, &mut row, t_aged_ms, 10, 3, None);
        }
        if second % 17 == 6 {
            // The scrape breaks off: its row was never there, and the failed one ends all series.
            life.step(|store, _, _| store.row_abort(store.timeline_find(TimelineKey(3)).unwrap()));
            row = life.begin(3, t_aged_ms);
        }
        life.commit(3, row, t_aged_ms, Missing::Stale);
    }

    if second % 5 == 2 {
        let t_rule_ms = t_ms + 500;
        let mut row = life.begin(4, t_rule_ms);
        life.put(4, &mut row, t_rule_ms, 15, value(2).to_bits(), None);
        life.commit(4, row, t_rule_ms, Missing::Absent);
        life.state("alerts", vec![second as u8; 40 + second as usize % 60]);
    }
    if second % 10 == 7 {
        // A flush: the cursor, and what the log and the segments have.
        life.state("cursor", second.to_le_bytes().to_vec());
        for key in 1..=4 {
            life.step(|store, _, _| {
                let Some(id) = store.timeline_find(TimelineKey(key)) else { return };
                let rows = store.rows(id);
                store.set_rows_logged(id, rows.end);
                // The disk is slow for a while, so that rows leave memory before they are stored.
                if !(10..45).contains(&(second % 60)) {
                    store.set_rows_spilled(id, rows.end);
                }
            });
        }
    }
}
