//! Selecting from the index against looking at every label set there is.

use super::*;
use crate::{
    labels::{LabelSet, MatchOp, Matcher},
    prng::Prng,
};
use std::collections::BTreeSet;

const IDENTITY: Identity = Identity { store_uuid: [7; 16], boot_id: [9; 16], log_generation: 5 };

/// Series of a few targets: some labels are of the target, some are missing here and there, one has no metric name.
fn series(number: u64) -> LabelSet {
    let target = number % 3;
    let metric = ["up", "http_requests_total", "node_cpu_seconds_total", ""][(number / 3 % 4) as usize];
    let mode = ["idle", "user", ""][(number / 12 % 3) as usize];
    let code = ["200", "404", "500", "503"][(number / 36 % 4) as usize];
    LabelSet::from_pairs([
        ("__name__", metric),
        ("Zone", if target == 2 { "" } else { "west" }),
        ("code", code),
        ("instance", ["a:9100", "b:9100", "b:9100"][target as usize]),
        ("job", ["node", "node", "web"][target as usize]),
        ("mode", mode),
    ])
}

const SERIES_COUNT: u64 = 3 * 4 * 3 * 4;

fn matcher(name: &str, op: MatchOp, value: &str) -> Matcher {
    Matcher::new(name, op, value).unwrap()
}

/// Fills the store with a row of every series, then a row of those that stay.
fn with_store(stay: impl Fn(u64) -> bool, check: impl FnOnce(&Store<'_>, &BTreeSet<LabelSet>)) {
    let plan = Plan::for_series(512 * 1024, SERIES_COUNT).unwrap();
    let mut bytes = vec![0xa5; plan.slab_bytes()];
    let mut store = Store::create(&mut bytes, &plan, IDENTITY).unwrap();
    let mut all = BTreeSet::new();
    for key in 0..2 {
        let timeline = store.timeline_open(TimelineKey(key)).unwrap();
        store.row_begin(timeline, 1_000).unwrap();
        for labels in (0..SERIES_COUNT).filter(|number| stay(*number) == (key == 0)).map(series) {
            assert_eq!(store.row_put(timeline, labels.as_ref(), 1, None), Ok(PutOutcome::New));
            if key == 0 {
                all.insert(labels);
            }
        }
        store.row_commit(timeline, Missing::Absent);
    }
    let ended = store.timeline_find(TimelineKey(1)).unwrap();
    store.timeline_release(ended);
    store.set_rows_spilled(ended, 1);
    while store.reclaim() {}
    assert_eq!(store.series_count(), all.len());
    check(&store, &all);
}

fn selected(store: &Store<'_>, matchers: &[Matcher]) -> BTreeSet<LabelSet> {
    let mut found = BTreeSet::new();
    let mut buf = [0; crate::labels::LABELS_BYTES_MAX];
    store.series_select(matchers, &mut |series| {
        let labels = store.series_labels(series, &mut buf).unwrap().into();
        assert!(found.insert(labels), "each series once");
        true
    });
    found
}

#[test]
fn what_is_selected_is_what_the_matchers_match_and_nothing_else() {
    with_store(
        |number| number % 5 != 1,
        |store, all| {
            let names = ["__name__", "Zone", "code", "instance", "job", "mode", "none"];
            let values =
                ["", "up", "node.*", "node", "http_requests_total|up", ".*_total", "4..|503", "b:9100", "idle", ".+"];
            let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regexp, MatchOp::NotRegexp];
            let mut prng = Prng::new(1);
            let mut some = 0;
            for _ in 0..3_000 {
                let any = |prng: &mut Prng| {
                    let name = names[prng.below(names.len() as u64) as usize];
                    let op = ops[prng.below(ops.len() as u64) as usize];
                    matcher(name, op, values[prng.below(values.len() as u64) as usize])
                };
                let matchers: Vec<Matcher> = (0..prng.below(4)).map(|_| any(&mut prng)).collect();
                let expected: BTreeSet<LabelSet> = all
                    .iter()
                    .filter(|labels| matchers.iter().all(|matcher| matcher.matches_labels(labels.as_ref())))
                    .cloned()
                    .collect();
                some += u32::from(!expected.is_empty() && expected.len() < all.len());
                assert_eq!(selected(store, &matchers), expected, "{matchers:?}");
            }
            assert!(some > 200, "{some} of the selections were of some of the series");
        },
    );
}

#[test]
fn a_visitor_that_has_enough_is_not_called_again() {
    with_store(
        |_| true,
        |store, _| {
            let selectors: [&[Matcher]; 3] = [
                &[],
                &[matcher("__name__", MatchOp::Equal, "up")],
                &[matcher("mode", MatchOp::Regexp, "idle|user"), matcher("job", MatchOp::Equal, "node")],
            ];
            for matchers in selectors {
                let mut calls = 0;
                store.series_select(matchers, &mut |_| {
                    calls += 1;
                    calls < 3
                });
                assert_eq!(calls, 3, "{matchers:?}");
            }
        },
    );
}
