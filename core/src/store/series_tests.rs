//! Labels in the slab: nothing left behind, nothing given up, however series come and go.

use super::*;
use crate::{labels::LabelSet, prng::Prng};
use std::collections::BTreeSet;

const IDENTITY: Identity = Identity { store_uuid: [7; 16], boot_id: [9; 16], log_generation: 5 };

fn used(store: &Store<'_>, name: RegionName) -> u64 {
    store.usage().regions.iter().find(|region| region.region == name).unwrap().used
}

fn with_plan(plan: &Plan, test: impl FnOnce(&mut Store<'_>)) {
    let mut bytes = vec![0xa5; plan.slab_bytes()];
    let mut store = Store::create(&mut bytes, plan, IDENTITY).unwrap();
    test(&mut store);
    // What attach finds is what was there.
    let before: Vec<u64> = store.usage().regions.iter().map(|region| region.used).collect();
    let mut all = BTreeSet::new();
    store.series_visit(&mut |series, labels| all.insert((series, LabelSet::from(labels))));
    let (store, _) = Store::attach(store.into_slab(), plan, &IDENTITY).map_err(|(error, _)| error).unwrap();
    let after: Vec<u64> = store.usage().regions.iter().map(|region| region.used).collect();
    assert_eq!(after, before);
    store.series_visit(&mut |series, labels| {
        assert_eq!(store.series_find(labels), Some(series));
        assert!(all.remove(&(series, LabelSet::from(labels))));
        true
    });
    assert!(all.is_empty(), "{all:?}");
}

#[test]
fn what_no_series_has_any_more_leaves_the_heap() {
    with_plan(&Plan::for_series(512 * 1024, 500).unwrap(), |store| {
        for round in 0..3 {
            let timeline = store.timeline_open(TimelineKey(1)).unwrap();
            store.row_begin(timeline, 0).unwrap();
            for number in 0..300 {
                let labels = LabelSet::from_pairs([
                    ("__name__", ["up", "a_total", ""][number % 3]),
                    ("job", "test"),
                    ("number", &number.to_string()),
                    ("shared", if number % 2 == 0 { "test" } else { "" }),
                ]);
                store.row_put(timeline, labels.as_ref(), 1, (number % 7 == 0).then_some(5)).unwrap();
            }
            store.row_commit(timeline, Missing::Stale);
            assert!(used(store, RegionName::LabelText) > 300 * 8, "round {round}");
            store.timeline_release(timeline);
            store.set_rows_spilled(timeline, u64::MAX);
            while store.reclaim() {}
            assert_eq!((used(store, RegionName::Series), used(store, RegionName::LabelText)), (0, 0), "round {round}");
        }
    });
}

#[test]
fn a_refused_series_leaves_nothing_behind() {
    with_plan(&Plan::for_series(64 * 1024, 60).unwrap(), |store| {
        let timeline = store.timeline_open(TimelineKey(1)).unwrap();
        store.row_begin(timeline, 0).unwrap();
        let mut refused = 0;
        for number in 0..200 {
            let before = (used(store, RegionName::Series), used(store, RegionName::LabelText));
            let long = "x".repeat(40 * (number % 9));
            let labels = LabelSet::from_pairs([
                ("__name__", format!("metric_{number}").as_str()),
                ("a_new_name", format!("{number}").as_str()),
                ("job", format!("job {number}").as_str()),
                ("z", &long),
            ]);
            if let Err(refusal) = store.row_put(timeline, labels.as_ref(), 1, None) {
                assert!(matches!(refusal, Refused::Full { .. }), "{refusal}");
                assert_eq!((used(store, RegionName::Series), used(store, RegionName::LabelText)), before);
                assert_eq!(store.series_find(labels.as_ref()), None);
                refused += 1;
            }
        }
        assert!((100..200).contains(&refused), "{refused}");
        store.row_commit(timeline, Missing::Stale);
    });
}

/// A target of 150 series replaces 10 % of them with each row, with texts of every length, and an
/// eighth of the heap to spare.
#[test]
fn churn_neither_fills_the_heap_nor_breaks_it_into_pieces() {
    let plan = Plan { ring_bytes: 64 * 1024, label_bytes: 60_000, ..Plan::for_series(1 << 20, 1_200).unwrap() };
    with_plan(&plan, |store| {
        let timeline = store.timeline_open(TimelineKey(1)).unwrap();
        let mut prng = Prng::new(11);
        let mut new_series = |next: &mut u64| {
            *next += 1;
            let long = "v".repeat(prng.below(if next.is_multiple_of(50) { 300 } else { 40 }) as usize);
            LabelSet::from_pairs([
                ("__name__", format!("metric_{}", *next % 40).as_str()),
                ("id", format!("{long}{next}").as_str()),
                ("instance", "a:1"),
                ("job", "churn"),
            ])
        };
        let mut next = 0;
        let mut series: Vec<LabelSet> = (0..150).map(|_| new_series(&mut next)).collect();
        let mut peaks = Vec::new();
        for row in 0..2_000 {
            for place in 0..15 {
                series[(row * 15 + place) % 150] = new_series(&mut next);
            }
            store.row_begin(timeline, row as i64 * 60_000).unwrap();
            for labels in &series {
                let put = store.row_put(timeline, labels.as_ref(), row as u64, None);
                assert!(put.is_ok(), "row {row}: {put:?}");
            }
            store.row_commit(timeline, Missing::Stale);
            let end = store.rows(timeline).end;
            store.set_rows_spilled(timeline, end);
            if row % 100 == 99 {
                peaks.push((used(store, RegionName::LabelText), used(store, RegionName::Series)));
            }
        }
        assert_eq!(store.usage().counters.refused_series, 0);
        assert!(store.usage().counters.released_series > 25_000, "{:?}", store.usage().counters);
        let most = peaks.iter().max().unwrap();
        assert!(peaks[0].0 * 3 / 2 > most.0, "the heap stays flat: {peaks:?}");
    });
}

#[test]
fn series_that_end_together_leave_chains_of_thousands_at_once() {
    // One metric, so that all are in one chain; each drop must not walk it.
    with_plan(&Plan::for_series(4 << 20, 10_000).unwrap(), |store| {
        let labels = |number: u64| LabelSet::from_pairs([("__name__", "m"), ("n", number.to_string().as_str())]);
        for (key, numbers) in [(1, 0..5_000), (2, 5_000..10_000)] {
            let timeline = store.timeline_open(TimelineKey(key)).unwrap();
            store.row_begin(timeline, 0).unwrap();
            for number in numbers {
                store.row_put(timeline, labels(number).as_ref(), number, None).unwrap();
            }
            store.row_commit(timeline, Missing::Stale);
        }
        let ended = store.timeline_find(TimelineKey(1)).unwrap();
        store.set_rows_spilled(ended, 1);
        store.timeline_release(ended);
        while store.reclaim() {}
        assert_eq!(store.series_count(), 5_000);
        for number in 0..10_000 {
            assert_eq!(store.series_find(labels(number).as_ref()).is_some(), number >= 5_000, "{number}");
        }
    });
}
