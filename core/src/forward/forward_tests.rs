//! A forwarder between a plain store and a scripted upstream with a ledger.

use super::{
    encode::tests::{WriteRequest, decode},
    *,
};
use crate::{
    labels::LabelSet,
    prng::Prng,
    store::{STALE_NAN_BITS, TimelineKey},
    time::Now,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    format,
    ops::Range,
    string::{String, ToString},
    vec,
    vec::Vec,
};

const START_MS: i64 = 1_700_000_000_000;
const STEP_MS: i64 = 15_000;

/// Rows in memory. A layout begins at the row it is filed under.
#[derive(Default)]
struct Rows {
    timelines: BTreeMap<u64, TimelineRows>,
    /// Reads fail this often from now on.
    read_failures: u32,
}

#[derive(Default, Clone)]
struct TimelineRows {
    first: u64,
    layouts: BTreeMap<u64, Vec<LabelSet>>,
    rows: Vec<(i64, Vec<Option<u64>>)>,
}

impl TimelineRows {
    fn layout_at(&self, row: u64) -> (u64, &Vec<LabelSet>) {
        self.layouts.range(..=row).next_back().map(|(from, layout)| (*from, layout)).unwrap()
    }

    fn end(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    fn push(&mut self, t_ms: i64, values: Vec<Option<u64>>) {
        self.rows.push((t_ms, values));
    }
}

impl Rows {
    fn with(key: u64, width: usize, row_count: u64) -> Self {
        let mut rows = Self::default();
        rows.add(key, width);
        rows.grow(key, row_count);
        rows
    }

    fn add(&mut self, key: u64, width: usize) {
        let layout = (0..width).map(|column| series(key, column)).collect();
        self.timelines.entry(key).or_default().layouts.insert(0, layout);
    }

    fn grow(&mut self, key: u64, row_count: u64) {
        let timeline = self.timelines.get_mut(&key).unwrap();
        for _ in 0..row_count {
            let row = timeline.end();
            let width = timeline.layout_at(row).1.len();
            let value = |column: usize| (row as usize + column) % 5 != 4 || column == 0;
            let values = (0..width).map(|column| value(column).then_some(row * 1_000 + column as u64)).collect();
            timeline.push(START_MS + row as i64 * STEP_MS, values);
        }
    }

    /// Retention takes the rows before `row`.
    fn drop_before(&mut self, key: u64, row: u64) {
        let timeline = self.timelines.get_mut(&key).unwrap();
        let count = row.saturating_sub(timeline.first) as usize;
        timeline.rows.drain(..count);
        timeline.first = timeline.first.max(row);
    }

    /// Every sample as (series, time, bits).
    fn ledger(&self) -> BTreeSet<(String, i64, u64)> {
        let mut all = BTreeSet::new();
        for timeline in self.timelines.values() {
            for (index, (t_ms, values)) in timeline.rows.iter().enumerate() {
                let layout = timeline.layout_at(timeline.first + index as u64).1;
                for (labels, value) in layout.iter().zip(values) {
                    all.extend(value.map(|bits| (labels.to_string(), *t_ms, bits)));
                }
            }
        }
        all
    }
}

impl RowSource for Rows {
    fn timelines(&mut self, visit: &mut dyn FnMut(TimelineKey, Range<u64>)) {
        for (key, timeline) in &self.timelines {
            visit(TimelineKey(*key), timeline.first..timeline.end());
        }
    }

    fn run(&mut self, timeline: TimelineKey, row: u64) -> Option<Run> {
        let timeline = self.timelines.get(&timeline.0)?;
        let start = row.max(timeline.first);
        if start >= timeline.end() {
            return None;
        }
        let layout = timeline.layout_at(start).1;
        let next_layout = timeline.layouts.range(start + 1..).next().map_or(u64::MAX, |(from, _)| *from);
        // Rows lie in places of ten, as if in segments.
        let end = timeline.end().min(next_layout).min((start / 10 + 1) * 10);
        let at = |row: u64| timeline.rows[(row - timeline.first) as usize].0;
        Some(Run { rows: start..end, column_count: layout.len() as u32, first_ms: at(start), last_ms: at(end - 1) })
    }

    fn columns(
        &mut self,
        timeline: TimelineKey,
        rows: Range<u64>,
        column_from: u32,
        visit: &mut ColumnVisit<'_>,
    ) -> Result<(), RowsUnreadable> {
        if self.read_failures > 0 {
            self.read_failures -= 1;
            return Err(RowsUnreadable { reason: "the disk said no" });
        }
        let run = self.run(timeline, rows.start).unwrap();
        assert!(run.rows.start == rows.start && rows.end <= run.rows.end, "{rows:?} is not inside {run:?}");
        let timeline = &self.timelines[&timeline.0];
        for column in column_from..run.column_count {
            let samples: Vec<_> = rows
                .clone()
                .filter_map(|row| {
                    let (t_ms, values) = &timeline.rows[(row - timeline.first) as usize];
                    Some(RowSample { row, t_ms: *t_ms, bits: values[column as usize]? })
                })
                .collect();
            let labels = &timeline.layout_at(rows.start).1[column as usize];
            if !visit(column, labels.as_ref(), &samples) {
                break;
            }
        }
        Ok(())
    }
}

fn series(key: u64, column: usize) -> LabelSet {
    LabelSet::from_pairs([("__name__", "m"), ("t", &*format!("{key:03}")), ("column", &*format!("{column:03}"))])
}

/// Takes messages whole or not at all, as Prometheus does.
#[derive(Default)]
struct Upstream {
    held: BTreeMap<String, Vec<(i64, u64)>>,
    /// Samples that came again.
    repeats: usize,
    /// Refuses whatever has this in its labels.
    bad: Vec<&'static str>,
    /// Oldest timestamp taken.
    window_from_ms: i64,
    in_order: bool,
    samples_max: usize,
}

impl Upstream {
    fn new() -> Self {
        Self { samples_max: usize::MAX, in_order: true, ..Self::default() }
    }

    fn post(&mut self, message: &WriteRequest) -> (u16, &'static str) {
        let count: usize = message.timeseries.iter().map(|series| series.samples.len()).sum();
        assert!(count > 0 && !message.timeseries.is_empty());
        if count > self.samples_max {
            return (413, "too big");
        }
        let mut added = Vec::new();
        for series in &message.timeseries {
            assert!(series.labels.is_sorted_by(|a, b| a.name < b.name) && !series.samples.is_empty());
            assert!(series.samples.is_sorted_by(|a, b| a.timestamp < b.timestamp));
            let labels = LabelSet::from_pairs(
                series.labels.iter().filter(|l| l.name != "box").map(|l| (l.name.as_str(), l.value.as_str())),
            );
            let name = labels.to_string();
            assert!(series.labels.iter().any(|label| label.name == "box" && label.value == "7"));
            if self.bad.iter().any(|bad| name.contains(bad)) {
                return (400, "label is invalid");
            }
            for sample in &series.samples {
                let entry = (sample.timestamp, sample.value.to_bits());
                if entry.0 < self.window_from_ms {
                    return (400, "out of bounds");
                }
                let newest = self.held.get(&name).and_then(|held| held.last());
                if self.in_order && newest.is_some_and(|newest| entry.0 < newest.0) {
                    return (400, "out of order sample");
                }
                added.push((name.clone(), entry));
            }
        }
        for (name, entry) in added {
            let held = self.held.entry(name).or_default();
            if held.contains(&entry) {
                self.repeats += 1;
            } else {
                held.push(entry);
            }
        }
        (204, "")
    }

    fn ledger(&self) -> BTreeSet<(String, i64, u64)> {
        let entries = |(name, held): (&String, &Vec<(i64, u64)>)| {
            held.iter().map(|(t_ms, bits)| (name.clone(), *t_ms, *bits)).collect::<Vec<_>>()
        };
        self.held.iter().flat_map(entries).collect()
    }
}

fn settings(samples_per_send_max: u64) -> ForwardSettings {
    ForwardSettings {
        samples_per_send_max,
        batch_deadline_ms: 5_000,
        backoff_ms_min: 30,
        backoff_ms_max: 5_000,
        external_labels: LabelSet::from_pairs([("box", "7")]),
    }
}

struct World {
    now: Now,
    rows: Rows,
    upstream: Upstream,
    forwarder: Forwarder,
    out: Vec<u8>,
    lost: Vec<Lost>,
    messages: usize,
}

impl World {
    fn new(rows: Rows, samples_per_send_max: u64) -> Self {
        Self {
            now: Now { mono_ms: 1_000, wall_ms: START_MS + 1_000_000 },
            rows,
            upstream: Upstream::new(),
            forwarder: Forwarder::new(settings(samples_per_send_max), 1),
            out: vec![0; 128 * 1024],
            lost: Vec::new(),
            messages: 0,
        }
    }

    fn advance(&mut self, ms: u64) {
        self.now = Now { mono_ms: self.now.mono_ms + ms, wall_ms: self.now.wall_ms + ms as i64 };
    }

    fn next(&mut self) -> Option<WriteRequest> {
        let batch = self.forwarder.next_batch(self.now, &mut self.rows, &mut self.out);
        self.lost.extend(self.forwarder.take_lost());
        let message = decode(&self.out[..batch.as_ref()?.bytes]);
        let count: usize = message.timeseries.iter().map(|series| series.samples.len()).sum();
        assert_eq!(batch?.samples, count as u64);
        self.messages += 1;
        Some(message)
    }

    fn answer(&mut self, message: &WriteRequest) {
        let (status, body) = self.upstream.post(message);
        self.forwarder.answered(self.now, status, None, body);
        self.lost.extend(self.forwarder.take_lost());
    }

    /// Upstream holds exactly these samples.
    fn check_whole(&self, expected: &BTreeSet<(String, i64, u64)>) {
        let held = self.upstream.ledger();
        let missing: Vec<_> = expected.difference(&held).take(3).collect();
        let surplus: Vec<_> = held.difference(expected).take(3).collect();
        assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:?}, surplus {surplus:?}");
    }

    /// Goes on until nothing is left to do within `limit_ms`.
    fn settle(&mut self, limit_ms: u64) {
        let end_ms = self.now.mono_ms + limit_ms;
        for _ in 0..200_000 {
            if let Some(message) = self.next() {
                self.answer(&message);
                continue;
            }
            match self.forwarder.wake_mono_ms(self.now) {
                Some(wake_ms) if wake_ms <= end_ms => self.advance((wake_ms - self.now.mono_ms).max(1)),
                _ => return,
            }
        }
        panic!("the forwarder does not come to rest");
    }
}

#[test]
fn everything_held_is_sent_once_in_few_messages() {
    let mut rows = Rows::with(1, 30, 200);
    rows.add(2, 3);
    rows.grow(2, 45);
    // A change of layout in the middle of a place.
    let layout = (0..5).map(|column| series(2, column + 100)).collect();
    rows.timelines.get_mut(&2).unwrap().layouts.insert(45, layout);
    rows.grow(2, 70);
    let mut world = World::new(rows, 2_000);
    world.settle(60_000);
    world.check_whole(&world.rows.ledger());
    assert_eq!((world.upstream.repeats, world.lost.len()), (0, 0));
    assert!(world.messages <= 35, "{} messages", world.messages);
    assert_eq!(world.forwarder.lag(&mut world.rows), Lag::default());
    assert_eq!(world.forwarder.status().samples_sent, world.rows.ledger().len() as u64);
}

#[test]
fn a_row_wider_than_a_message_goes_in_several_and_a_full_buffer_ends_one() {
    let mut world = World::new(Rows::with(1, 500, 3), 64);
    world.settle(60_000);
    world.check_whole(&world.rows.ledger());
    let mut world = World::new(Rows::with(1, 500, 3), 2_000);
    world.out = vec![0; 700];
    world.settle(60_000);
    world.check_whole(&world.rows.ledger());
    assert_eq!(world.upstream.repeats, 0);
}

#[test]
fn rows_wait_for_company_until_the_deadline_or_a_full_message() {
    let mut world = World::new(Rows::with(1, 10, 1), 100);
    assert!(world.next().is_none());
    assert_eq!(world.forwarder.wake_mono_ms(world.now), Some(6_000));
    world.advance(4_999);
    assert!(world.next().is_none());
    world.advance(1);
    assert!(world.next().is_some());
    assert!(world.next().is_none(), "one message at a time");
    world.forwarder.answered(world.now, 200, None, "");
    world.rows.grow(1, 9);
    assert!(world.next().is_none());
    world.rows.grow(1, 1);
    assert!(world.next().is_some(), "ten rows of ten columns fill a message");
}

#[test]
fn a_bad_series_is_found_and_nothing_else_is_skipped() {
    for bad in [vec!["column=\"007\""], vec!["column=\"000\"", "column=\"049\""], vec!["column=\"003\"", "column=\"004\"", "column=\"005\""]] {
        let mut world = World::new(Rows::with(1, 50, 20), 400);
        world.upstream.bad = bad.clone();
        world.settle(600_000);
        let is_bad = |entry: &(String, i64, u64)| bad.iter().any(|bad| entry.0.contains(bad));
        let expected: BTreeSet<_> = world.rows.ledger().into_iter().filter(|entry| !is_bad(entry)).collect();
        world.check_whole(&expected);
        let bad_count = world.rows.ledger().iter().filter(|entry| is_bad(entry)).count() as u64;
        assert_eq!(world.forwarder.status().samples_refused, bad_count);
        assert_eq!(world.upstream.repeats, 0);
        assert!(world.lost.iter().all(|lost| {
            lost.reason == LostReason::Refused { status: 400 }
                && lost.rows.end - lost.rows.start == 1
                && lost.columns.end - lost.columns.start == 1
                && lost.span_ms.is_some()
        }));
    }
}

#[test]
fn an_upstream_that_refuses_everything_costs_waiting_and_no_samples() {
    let mut world = World::new(Rows::with(1, 20, 10), 100);
    world.upstream.bad = vec!["m{"];
    world.settle(3_600_000);
    assert_eq!((world.lost.len(), world.forwarder.status().samples_refused), (0, 0));
    assert!(world.messages < 20_000);
    world.upstream.bad.clear();
    world.settle(600_000);
    world.check_whole(&world.rows.ledger());
}

#[test]
fn a_message_that_is_too_big_is_made_smaller() {
    let mut world = World::new(Rows::with(1, 50, 20), 400);
    world.upstream.samples_max = 7;
    world.settle(600_000);
    world.check_whole(&world.rows.ledger());
    assert_eq!(world.lost.len(), 0);
}

#[test]
fn one_series_that_never_fits_is_lost_by_name_and_alone() {
    let mut rows = Rows::with(1, 3, 2);
    let long = LabelSet::from_pairs([("__name__", "m"), ("long", &"x".repeat(600))]);
    rows.timelines.get_mut(&1).unwrap().layouts.get_mut(&0).unwrap()[1] = long;
    let mut world = World::new(rows, 400);
    world.out = vec![0; 500];
    world.settle(60_000);
    let lost: Vec<_> = world.lost.iter().map(|lost| (lost.rows.clone(), lost.columns.clone(), lost.reason)).collect();
    assert_eq!(lost, [(0..1, 1..2, LostReason::TooLarge), (1..2, 1..2, LostReason::TooLarge)]);
    assert!(world.upstream.held.len() == 2 && world.upstream.held.values().all(|held| !held.is_empty()));
}

#[test]
fn waiting_follows_the_answer_and_the_same_rows_go_again() {
    let mut world = World::new(Rows::with(1, 10, 10), 100);
    for status in [500, 503, 429, 401, 404, 302] {
        let first = world.next().unwrap();
        world.forwarder.answered(world.now, status, Some(20_000), "");
        world.advance(19_999);
        assert!(world.next().is_none(), "{status}");
        world.advance(1);
        let again = world.next().unwrap();
        assert!(first == again, "{status}");
        world.forwarder.failed(world.now, "connection refused");
        world.advance(5_000);
    }
    assert_eq!(world.forwarder.status().messages_retried, 12);
    assert_eq!(world.forwarder.status().last_error, "connection refused");
    assert_eq!(world.forwarder.lag(&mut world.rows).rows, 10);
    world.settle(60_000);
    world.check_whole(&world.rows.ledger());
    assert_eq!(world.upstream.repeats, 0);
}

#[test]
fn retention_that_overtakes_the_cursor_is_reported_as_an_exact_range() {
    let mut world = World::new(Rows::with(1, 10, 40), 100);
    let message = world.next().unwrap();
    world.forwarder.failed(world.now, "no route to host");
    drop(message);
    world.rows.drop_before(1, 25);
    world.advance(10_000);
    world.settle(60_000);
    let lost: Vec<_> = world.lost.iter().map(|lost| (lost.rows.clone(), lost.reason)).collect();
    assert_eq!(lost, [(0..10, LostReason::Retention), (10..25, LostReason::Retention)]);
    world.check_whole(&world.rows.ledger());
}

#[test]
fn a_disk_that_fails_for_a_while_costs_nothing_and_for_good_costs_what_it_held() {
    let mut world = World::new(Rows::with(1, 10, 20), 100);
    world.rows.read_failures = 4;
    world.settle(60_000);
    world.check_whole(&world.rows.ledger());
    assert_eq!(world.lost.len(), 0);
    world.rows.grow(1, 20);
    world.rows.read_failures = 5;
    world.settle(60_000);
    let lost: Vec<_> = world.lost.iter().map(|lost| (lost.rows.clone(), lost.reason)).collect();
    assert_eq!(lost, [(20..30, LostReason::Unreadable)]);
}

#[test]
fn a_backlog_outside_the_window_is_parked_while_live_data_goes_on() {
    // Two days of outage; the upstream takes the last hour.
    let mut rows = Rows::with(1, 4, 2 * 5_760);
    rows.add(2, 4);
    rows.grow(2, 2 * 5_760);
    let mut world = World::new(rows, 2_000);
    world.now.wall_ms = START_MS + 2 * 86_400_000;
    let window_from_ms = world.now.wall_ms - 3_600_000 + 40_000;
    world.upstream.window_from_ms = window_from_ms;
    world.settle(300_000);
    let inside: BTreeSet<_> = world.rows.ledger().into_iter().filter(|entry| entry.1 >= window_from_ms).collect();
    world.check_whole(&inside);
    assert!(world.messages < 60, "{} messages", world.messages);
    let lag = world.forwarder.lag(&mut world.rows);
    assert!((lag.rows, lag.rows_parked) == (0, 2 * (2 * 5_760 - 237)), "{lag:?}");
    assert_eq!(world.lost, []);
    // Live rows go on.
    world.rows.grow(1, 5);
    world.settle(60_000);
    assert_eq!(world.upstream.ledger().len(), inside.len() + world.rows.timelines[&1].rows[2 * 5_760..].iter().map(|(_, v)| v.iter().flatten().count()).sum::<usize>());
    // The operator opens an out-of-order window; a retry finds it, and all is told.
    let restored = world.forwarder.save().unwrap();
    world.forwarder = Forwarder::new(settings(2_000), 2);
    world.forwarder.restore(&restored, &mut world.rows).unwrap();
    (world.upstream.window_from_ms, world.upstream.in_order) = (0, false);
    world.settle(PARKED_RETRY_MS * 3);
    world.check_whole(&world.rows.ledger());
    assert_eq!(world.lost.len(), 0);
    assert_eq!(world.forwarder.lag(&mut world.rows), Lag::default());
}

#[test]
fn stale_markers_are_handed_on_bit_for_bit() {
    let mut rows = Rows::with(1, 2, 1);
    rows.timelines.get_mut(&1).unwrap().push(START_MS + STEP_MS, vec![Some(STALE_NAN_BITS), None]);
    let mut world = World::new(rows, 100);
    world.settle(60_000);
    world.check_whole(&world.rows.ledger());
    assert!(world.upstream.ledger().iter().any(|entry| entry.2 == STALE_NAN_BITS));
}

#[test]
fn a_new_upstream_can_begin_with_what_comes() {
    let mut world = World::new(Rows::with(1, 5, 30), 100);
    world.forwarder.skip_held(&mut world.rows);
    world.rows.grow(1, 2);
    world.settle(60_000);
    assert_eq!(world.upstream.held.values().map(Vec::len).max(), Some(2));
}

#[test]
fn damaged_or_newer_cursors_are_refused() {
    let mut world = World::new(Rows::with(1, 5, 30), 100);
    world.settle(60_000);
    let saved = world.forwarder.save().unwrap();
    let mut restore = |bytes: &[u8]| Forwarder::new(settings(100), 1).restore(bytes, &mut world.rows);
    assert_eq!(restore(&saved), Ok(()));
    assert_eq!(restore(&[]), Err(RestoreError::Damaged));
    for length in 1..saved.len() {
        assert_eq!(restore(&saved[..length]), Err(RestoreError::Damaged), "{length}");
    }
    assert_eq!(restore(&[2, 0]), Err(RestoreError::OtherVersion { found: 2 }));
}

#[test]
fn a_store_that_lost_its_newest_rows_sets_the_cursor_back() {
    let mut world = World::new(Rows::with(1, 5, 30), 100);
    world.settle(60_000);
    let saved = world.forwarder.save().unwrap();
    // A power cut takes the last five rows; their numbers are given to new ones.
    let timeline = world.rows.timelines.get_mut(&1).unwrap();
    timeline.rows.truncate(25);
    world.forwarder = Forwarder::new(settings(100), 2);
    world.forwarder.restore(&saved, &mut world.rows).unwrap();
    let timeline = world.rows.timelines.get_mut(&1).unwrap();
    for row in 25..40 {
        timeline.push(START_MS + 1_000_000 + row * STEP_MS, vec![Some(7), None, None, None, Some(8)]);
    }
    world.settle(60_000);
    assert!(world.rows.ledger().is_subset(&world.upstream.ledger()));
}

/// The model check: any mixture of outages, lost answers, crashes and slow growth ends with everything upstream, nothing
/// lost, and repeats only where an answer or the process was lost.
#[test]
fn nothing_is_missing_after_any_sequence_of_faults() {
    for seed in 0..150 {
        let mut prng = Prng::new(seed);
        let mut rows = Rows::default();
        for key in 0..1 + prng.below(4) {
            rows.add(key, 1 + prng.below(40) as usize);
        }
        let mut world = World::new(rows, 20 + prng.below(300));
        world.upstream.in_order = prng.chance(2, 3);
        let mut saved = world.forwarder.save().unwrap();
        for _ in 0..120 {
            let key = prng.below(world.rows.timelines.len() as u64);
            world.rows.grow(key, prng.below(6));
            world.advance(prng.below(4_000));
            let Some(message) = world.next() else { continue };
            match prng.below(10) {
                0 => world.forwarder.answered(world.now, 500, None, "sorry"),
                1 => world.forwarder.answered(world.now, 429, Some(prng.below(3_000)), ""),
                2 => world.forwarder.failed(world.now, "connection reset"),
                3 => {
                    // Taken, and the answer lost.
                    world.upstream.post(&message);
                    world.forwarder.failed(world.now, "timed out");
                }
                4 => {
                    // Taken or not, then killed; the slab had the state of before this message.
                    if prng.chance(1, 2) {
                        world.upstream.post(&message);
                    }
                    let samples = world.forwarder.status().samples_sent;
                    assert!(samples < u64::MAX);
                    saved = world.forwarder.save().unwrap();
                    world.forwarder = Forwarder::new(settings(320), seed);
                    world.forwarder.restore(&saved, &mut world.rows).unwrap();
                }
                _ => world.answer(&message),
            }
        }
        drop(saved);
        world.settle(10_000_000);
        world.check_whole(&world.rows.ledger());
        assert_eq!(world.lost, [], "seed {seed}");
    }
}
