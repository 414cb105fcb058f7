//! What `holdfast budget` says against what stores take that are filled through the same calls as the daemon's.

use holdfast_core::{
    labels::LabelSet,
    memory::{Answer, Budget, Load, Overrides, Plan},
    store::{Identity, Missing, RegionName, Store, TimelineId, TimelineKey, Usage},
};

const IDENTITY: Identity = Identity { store_uuid: [7; 16], boot_id: [9; 16], log_generation: 0 };

fn default_plan() -> Plan {
    Budget::for_limit(16 << 20, Overrides::default()).unwrap().plan()
}

fn labels(target: usize, series: usize) -> LabelSet {
    LabelSet::from_pairs([
        ("__name__", format!("exporter_{}_seconds_total", series / 4).as_str()),
        ("instance", format!("host-{target}:9100").as_str()),
        ("job", "exporter"),
        ("mode", ["idle", "system", "user", "wait"][series % 4]),
    ])
}

/// Half constant, half counters that go up by one or two digits.
fn value(series: usize, row: u64) -> f64 {
    match series % 2 {
        0 => series as f64,
        _ => (row * (series as u64 + 3) + row * row % 13) as f64,
    }
}

/// Targets that are scraped.
struct Scraped {
    timelines: Vec<TimelineId>,
    labels: Vec<Vec<LabelSet>>,
}

impl Scraped {
    fn new(store: &mut Store<'_>, targets: usize, series_each: usize) -> Self {
        let timelines = (1..=targets as u64).map(|key| store.timeline_open(TimelineKey(key)).unwrap()).collect();
        let labels = (0..targets).map(|target| (0..series_each).map(|series| labels(target, series)).collect());
        Self { timelines, labels: labels.collect() }
    }

    fn scrape(&self, store: &mut Store<'_>, row: u64) {
        for (timeline, labels) in self.timelines.iter().zip(&self.labels) {
            store.row_begin(*timeline, row as i64 * 15_000).unwrap();
            for (series, labels) in labels.iter().enumerate() {
                store.row_put(*timeline, labels.as_ref(), value(series, row).to_bits(), None).unwrap();
            }
            store.row_commit(*timeline, Missing::Stale);
        }
    }
}

fn used(usage: &Usage, region: RegionName) -> u64 {
    usage.regions.iter().find(|usage| usage.region == region).map_or(0, |usage| usage.used)
}

fn used_bytes(usage: &Usage, region: RegionName) -> u64 {
    usage.regions.iter().find(|usage| usage.region == region).map_or(0, |usage| usage.bytes_used())
}

/// Within two of a hundred.
fn check(what: &str, said: u64, measured: u64) {
    assert!(said.abs_diff(measured) * 50 <= measured, "{what}: the budget says {said}, measured are {measured}");
}

#[test]
fn ten_thousand_series_take_what_the_budget_says() {
    let plan = default_plan();
    let mut slab = vec![0; plan.slab_bytes()];
    // What a packed sample takes is learned from a tenth of the load and half of the rows.
    let mut store = Store::create(&mut slab, &plan, IDENTITY).unwrap();
    let scraped = Scraped::new(&mut store, 4, 250);
    (0..113).for_each(|row| scraped.scrape(&mut store, row));
    let sample_millibytes = used(&store.usage(), RegionName::Ring) * 1000 / (4 * 250 * 112);

    let mut store = Store::create(&mut slab, &plan, IDENTITY).unwrap();
    let scraped = Scraped::new(&mut store, 40, 250);
    (0..240).for_each(|row| scraped.scrape(&mut store, row));
    let usage = store.usage();
    assert_eq!(usage.counters.evicted_rows, 0);
    let label_bytes = used(&usage, RegionName::LabelText);
    let load = Load { series_count: 10_000, timelines_count: 40, label_bytes, sample_millibytes };
    let (mut said_bytes, mut measured_bytes) = (0, 0);
    for region in RegionName::ALL.into_iter().filter(|region| *region != RegionName::State) {
        let (said, measured) = (plan.needs(&load, 240, region), used_bytes(&usage, region));
        check(region.name(), said, measured);
        (said_bytes, measured_bytes) = (said_bytes + said, measured_bytes + measured);
    }
    check("all regions", said_bytes, measured_bytes);
}

#[test]
fn as_many_series_fit_as_the_budget_says() {
    let plan = default_plan();
    let mut slab = vec![0; plan.slab_bytes()];
    let mut store = Store::create(&mut slab, &plan, IDENTITY).unwrap();
    let mut taken = 0;
    'full: for target in 0.. {
        let timeline = store.timeline_open(TimelineKey(target + 1)).unwrap();
        store.row_begin(timeline, 0).unwrap();
        for series in 0..250 {
            if store.row_put(timeline, labels(target as usize, series).as_ref(), 0, None).is_err() {
                break 'full;
            }
            taken += 1;
        }
        store.row_commit(timeline, Missing::Stale);
    }
    assert!(taken >= 11_500, "ten thousand fit comfortably: {taken}");
    let usage = store.usage();
    let (series_count, timelines_count) = (taken, used(&usage, RegionName::Timelines));
    let label_bytes = used(&usage, RegionName::LabelText);
    let load = Load { series_count, timelines_count, label_bytes, sample_millibytes: 500 };
    let (series_count_max, full) = plan.series_count_max(&load);
    check("series that fit", series_count_max, taken);
    assert_eq!(full, RegionName::Series);
    let longer = Load { label_bytes: load.label_bytes * 1_000, ..load };
    let (fewer, full) = plan.series_count_max(&longer);
    assert!(fewer < taken && full == RegionName::LabelText, "{fewer}, then {} is full", full.name());
}

#[test]
fn as_many_rows_stay_in_memory_as_the_budget_says() {
    let plan = Plan::for_series(512 * 1024, 200).unwrap();
    let mut slab = vec![0; plan.slab_bytes()];
    let mut store = Store::create(&mut slab, &plan, IDENTITY).unwrap();
    let scraped = Scraped::new(&mut store, 4, 50);
    let mut row = 0;
    while store.usage().counters.evicted_rows < 4 * 1_600 {
        scraped.scrape(&mut store, row);
        row += 1;
    }
    let usage = store.usage();
    let held: u64 =
        scraped.timelines.iter().map(|timeline| store.rows(*timeline)).map(|rows| rows.end - rows.start).sum();
    let packed = usage.counters.committed_rows - usage.counters.evicted_rows - 4 * (row - 1) % 16 - 4;
    let sample_millibytes = used(&usage, RegionName::Ring) * 1000 / (packed * 50);
    let load = Load { series_count: 200, timelines_count: 4, label_bytes: 0, sample_millibytes };
    check("rows of a timeline", plan.rows_count(&load), held / 4);
}

#[test]
fn the_answer_is_in_words_with_every_figure_that_follows() {
    let budget = Budget::for_limit(16 << 20, Overrides::default()).unwrap();
    let answer = |load| Answer { budget: &budget, load, interval_ms: 15_000 }.to_string();
    let load = Load::usual(10_000);
    let text = answer(load);
    let rows_count = budget.plan().rows_count(&load);
    assert!(text.contains(&format!("{rows_count} rows of each")) && text.contains("every 15s"), "{text}");
    assert!(text.contains(&format!("{} such series fit", budget.plan().series_count)), "{text}");
    let text = answer(Load::usual(50_000));
    assert!(text.contains("Only ") && text.contains("--memory.limit"), "{text}");
}
