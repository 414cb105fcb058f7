//! A target between a scripted exporter and a plain store.

use super::{spec::tests, *};
use crate::{
    daemon::settings::JobSettings,
    labels::{LabelSet, LabelsRef},
    store::{
        ColumnId, Identity, Missing, Plan, PutOutcome, Refused, RegionName, RowCommitted, STALE_NAN_BITS, Store,
        TimelineId, TimelineKey,
    },
    time::Now,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

/// Instant, and bits and age by series.
type Row = (i64, BTreeMap<String, (u64, Option<i64>)>);

/// Committed rows by series, as text.
#[derive(Default)]
struct Model {
    keys: Vec<TimelineKey>,
    open: BTreeMap<u32, Row>,
    rows: Vec<Row>,
    known: BTreeSet<String>,
    /// Series by number of their column.
    columns: Vec<String>,
    released: Vec<TimelineId>,
    /// Samples that came with their labels.
    labelled_count: usize,
    /// New series beyond this many are refused.
    series_max: Option<usize>,
    timelines_full: bool,
}

impl Rows for Model {
    fn timeline_open(&mut self, key: TimelineKey) -> Result<TimelineId, Refused> {
        if self.timelines_full {
            return Err(Refused::Full { region: RegionName::Timelines, total: 0 });
        }
        let index = self.keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        });
        Ok(TimelineId(index as u32))
    }
    fn timeline_release(&mut self, timeline: TimelineId) {
        self.released.push(timeline);
    }
    fn row_begin(&mut self, timeline: TimelineId, instant_ms: i64) -> Result<(), Refused> {
        if self.open.contains_key(&timeline.0) {
            return Err(Refused::RowOpen);
        }
        self.open.insert(timeline.0, (instant_ms, BTreeMap::new()));
        Ok(())
    }
    fn row_put(
        &mut self,
        timeline: TimelineId,
        labels: LabelsRef<'_>,
        bits: u64,
        age_ms: Option<i64>,
    ) -> Result<(PutOutcome, ColumnId), Refused> {
        self.labelled_count += 1;
        let (_, cells) = self.open.get_mut(&timeline.0).ok_or(Refused::NoRowOpen)?;
        let name = labels.to_string();
        let column = |columns: &mut Vec<String>| {
            let index = columns.iter().position(|column| *column == name).unwrap_or_else(|| {
                columns.push(name.clone());
                columns.len() - 1
            });
            ColumnId(index as u32)
        };
        if let Some((first, _)) = cells.get(&name) {
            return Ok((PutOutcome::Duplicate { same_value: *first == bits }, column(&mut self.columns)));
        }
        let is_new = !self.known.contains(&name);
        if is_new && self.series_max.is_some_and(|series_max| self.known.len() >= series_max) {
            return Err(Refused::Full { region: RegionName::Series, total: self.known.len() as u64 });
        }
        self.known.insert(name.clone());
        let column = column(&mut self.columns);
        cells.insert(name, (bits, age_ms));
        Ok((if is_new { PutOutcome::New } else { PutOutcome::Known }, column))
    }
    fn row_layout(&self, _: TimelineId) -> Option<u64> {
        Some(0)
    }
    fn row_put_at(&mut self, timeline: TimelineId, column: ColumnId, bits: u64) -> Option<PutOutcome> {
        let (_, cells) = self.open.get_mut(&timeline.0)?;
        let name = self.columns.get(column.0 as usize)?;
        if let Some((first, _)) = cells.get(name) {
            return Some(PutOutcome::Duplicate { same_value: *first == bits });
        }
        cells.insert(name.clone(), (bits, None));
        Some(PutOutcome::Known)
    }
    fn row_commit(&mut self, timeline: TimelineId, missing: Missing) -> RowCommitted {
        let (instant_ms, mut cells) = self.open.remove(&timeline.0).expect("no open row");
        let samples = cells.len() as u32;
        if let (Missing::Stale, Some((_, before))) = (missing, self.rows.last()) {
            for (name, (bits, _)) in before {
                if *bits != STALE_NAN_BITS {
                    cells.entry(name.clone()).or_insert((STALE_NAN_BITS, None));
                }
            }
        }
        self.rows.push((instant_ms, cells));
        RowCommitted { row: self.rows.len() as u64 - 1, samples, stale: 0, new_series: 0 }
    }
    fn row_abort(&mut self, timeline: TimelineId) {
        self.open.remove(&timeline.0);
    }
}

struct World {
    now: Now,
    target: Target,
    rows: Model,
    shared: Shared,
}

impl World {
    fn new(change: impl FnOnce(&mut JobSettings)) -> Self {
        let mut job = tests::job();
        change(&mut job);
        let now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
        let mut target = Target::new(TargetSpec::new(&job, &tests::target(&[])), 0, now);
        target.scrape_at_once(now);
        Self { now, target, rows: Model::default(), shared: Shared::new(100_000, 100_000, 7) }
    }

    fn start(&mut self) {
        let wait_ms = self.target.due_mono_ms().saturating_sub(self.now.mono_ms);
        self.advance(wait_ms);
        assert!(self.target.start(self.now).is_some());
    }

    fn advance(&mut self, ms: u64) {
        self.now = Now { mono_ms: self.now.mono_ms + ms, wall_ms: self.now.wall_ms + ms as i64 };
    }

    fn head(&mut self, status: u16, content_type: &str) -> Progress {
        self.target.head(self.now, status, content_type, &mut self.rows, &mut self.shared)
    }

    fn body(&mut self, body: &str) -> Progress {
        self.target.body(self.now, body.as_bytes(), &mut self.rows, &mut self.shared)
    }

    fn end(&mut self) -> Progress {
        self.target.end(self.now, &mut self.rows, &mut self.shared)
    }

    /// A whole scrape that takes 250 ms.
    fn scrape(&mut self, body: &str) {
        self.start();
        assert_eq!(self.head(200, "text/plain; version=0.0.4"), Progress::Going);
        let progress = self.body(body);
        self.advance(250);
        if progress == Progress::Going {
            assert_eq!(self.end(), Progress::Ended);
        }
        assert!(!self.target.is_scraping() && self.rows.open.is_empty());
    }

    /// The newest row: exposed series only, without the target's own labels; `stale` for a marker.
    fn row(&self) -> Vec<String> {
        self.cells(|name| !is_report(name))
    }

    /// `up`, samples scraped, after relabelling, series added.
    fn report(&self) -> Vec<String> {
        self.cells(|name| is_report(name) && !name.starts_with("scrape_duration"))
    }

    /// Sorted.
    fn cells(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let text = |(name, (bits, age_ms)): (&String, &(u64, Option<i64>))| {
            let name = name.replace("instance=\"h:9100\", job=\"node\"", "").replace("{}", "");
            let value = if *bits == STALE_NAN_BITS { "stale".into() } else { f64::from_bits(*bits).to_string() };
            match age_ms {
                Some(age_ms) => format!("{name} {value} -{age_ms}ms"),
                None => format!("{name} {value}"),
            }
        };
        let cells = self.rows.rows.last().unwrap().1.iter();
        let mut texts: Vec<_> = cells.filter(|(name, _)| wanted(name)).map(text).collect();
        texts.sort();
        texts
    }

    fn error(&self) -> &str {
        &self.target.status().last_error
    }
}

fn is_report(name: &str) -> bool {
    name.starts_with("up{") || name.starts_with("scrape_")
}

const DOWN: [&str; 4] =
    ["scrape_samples_post_metric_relabeling 0", "scrape_samples_scraped 0", "scrape_series_added 0", "up 0"];

#[test]
fn a_scrape_writes_its_samples_and_its_report_in_one_row() {
    let mut world = World::new(|_| {});
    world.scrape("# HELP a Things.\n# TYPE a counter\na 1\na{b=\"c\"} 2\n");
    assert_eq!(world.row(), ["a 1", "a{b=\"c\", } 2"]);
    assert_eq!(
        world.report(),
        ["scrape_samples_post_metric_relabeling 2", "scrape_samples_scraped 2", "scrape_series_added 2", "up 1"]
    );
    assert_eq!(world.rows.rows[0].0, 1_700_000_000_000);
    let duration = "scrape_duration_seconds{instance=\"h:9100\", job=\"node\"}";
    assert_eq!(f64::from_bits(world.rows.rows[0].1[duration].0), 0.25);
    let status = world.target.status();
    assert_eq!((status.health, status.last_error.as_str(), status.last_duration_ms), (Health::Up, "", 250));
    assert_eq!((status.last_scrape_wall_ms, status.counters.samples), (Some(1_700_000_000_000), 7));
    let meta: Vec<_> =
        world.shared.metadata.entries(world.target.meta()).map(|e| (e.metric, e.kind.text(), e.help)).collect();
    assert_eq!(meta, [("a", "counter", "Things.")]);
    world.scrape("a 3\n");
    assert_eq!(world.row(), ["a 3", "a{b=\"c\", } stale"]);
    assert_eq!(world.report()[2], "scrape_series_added 0");
}

#[test]
fn a_failed_scrape_ends_every_series_and_says_why() {
    for (fail, words) in [
        (
            (|world: &mut World| world.head(500, "text/plain")) as fn(&mut World) -> Progress,
            "server returned HTTP status 500 Internal Server Error",
        ),
        (
            |world| world.head(200, "text/html"),
            "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target",
        ),
        (
            |world| world.target.failed(world.now, "connection refused", &mut world.rows, &mut world.shared),
            "connection refused",
        ),
        (
            |world| {
                world.head(200, "text/plain");
                world.body("a 5\nz 7\nhal");
                world.target.failed(world.now, "unexpected EOF", &mut world.rows, &mut world.shared)
            },
            "unexpected EOF",
        ),
        (|world| world.end(), "the answer ended before its head; the target broke off"),
    ] {
        let mut world = World::new(|_| {});
        world.scrape("a 1\nb 2\n");
        world.start();
        assert_eq!(fail(&mut world), Progress::Ended);
        assert_eq!((world.row(), world.error()), (vec!["a stale".into(), "b stale".into()], words));
        assert_eq!(world.report(), DOWN);
        assert_eq!((world.target.status().health, world.target.is_scraping()), (Health::Down, false));
        assert_eq!(world.body("late"), Progress::Idle);
        assert_eq!(world.end(), Progress::Idle);
        world.scrape("a 3\n");
        assert_eq!((world.row(), world.error()), (vec!["a 3".into()], ""));
    }
}

#[test]
fn a_broken_line_fails_the_scrape_at_once_with_its_number() {
    let mut world = World::new(|_| {});
    world.scrape("a 1\n");
    world.start();
    world.head(200, "text/plain");
    assert_eq!(world.body("a 2\nb 3\n"), Progress::Going);
    assert_eq!(world.body("c\nd 4\n"), Progress::Ended);
    assert_eq!(world.error(), "line 3: expected value after metric while parsing: \"c\"");
    assert_eq!(world.row(), ["a stale"]);
    // Prometheus too counts what it had read.
    assert_eq!(world.report()[1], "scrape_samples_scraped 2");
}

#[test]
fn exposed_labels_give_way_to_the_targets_unless_honored() {
    let body = "a{job=\"x\",instance=\"\"} 1\nb{job=\"x\",exported_job=\"y\"} 2\n";
    let mut world = World::new(|_| {});
    world.scrape(body);
    // As Prometheus 3.5.3 does it.
    assert_eq!(world.row(), ["a{exported_job=\"x\", } 1", "b{exported_exported_job=\"x\", exported_job=\"y\", } 2",]);
    let mut world = World::new(|job| job.honor_labels = true);
    world.scrape(body);
    assert_eq!(world.row(), ["a{job=\"x\"} 1", "b{exported_job=\"y\", instance=\"h:9100\", job=\"x\"} 2"]);
}

#[test]
fn own_timestamps_are_kept_within_bounds_and_dropped_outside() {
    let at = |age_ms: i64| 1_700_000_000_000 - age_ms;
    let body = format!(
        "a 1 {}\nb 1 {}\nc 1 {}\nd 1 {}\ne 1 {}\nf 1 0\n",
        at(0),
        at(TIMESTAMP_AGE_MS_MAX),
        at(TIMESTAMP_AGE_MS_MAX + 1),
        at(-TIMESTAMP_AHEAD_MS_MAX),
        at(-TIMESTAMP_AHEAD_MS_MAX - 1)
    );
    let mut world = World::new(|_| {});
    world.scrape(&body);
    assert_eq!(world.row(), ["a 1 -0ms", "b 1 -3600000ms", "d 1 --600000ms"]);
    assert_eq!((world.target.status().counters.samples_out_of_bounds, world.target.status().health), (3, Health::Up));
    let mut world = World::new(|job| job.honor_timestamps = false);
    world.scrape(&body);
    assert_eq!(world.row().len(), 6);
}

#[test]
fn a_series_that_comes_twice_keeps_its_first_value() {
    let mut world = World::new(|_| {});
    world.scrape("a 1\na 2\na 1\n");
    assert_eq!(world.row(), ["a 1"]);
    assert_eq!(world.report()[..2], ["scrape_samples_post_metric_relabeling 3", "scrape_samples_scraped 3"]);
    assert_eq!(world.target.status().counters.samples_duplicate, 2);
}

#[test]
fn the_sample_limit_holds_at_its_edge_and_the_size_of_the_trouble_is_told() {
    let mut world = World::new(|job| job.sample_limit = 2);
    world.scrape("a 1\nb 2\n");
    assert_eq!(world.error(), "");
    world.scrape("a 1\nb 2\nc 3\nd 4\n");
    assert_eq!((world.error(), world.row()), ("sample limit exceeded", vec!["a stale".into(), "b stale".into()]));
    assert_eq!(world.report()[1], "scrape_samples_scraped 4");
}

#[test]
fn a_body_of_the_limit_is_too_long_by_one() {
    for (limit, words) in [(5, ""), (4, "body size limit exceeded")] {
        let mut world = World::new(|job| job.body_size_limit_bytes = limit);
        world.scrape("a 1\n");
        assert_eq!(world.error(), words);
        assert_eq!(world.rows.rows.len(), 1);
    }
}

#[test]
fn label_limits_hold_at_their_edges() {
    // __name__, instance, job and x.
    for (limit, words) in [(4, ""), (3, "label_limit exceeded (metric: a, number of labels: 4, limit: 3)")] {
        let mut world = World::new(|job| job.label_limit = limit);
        world.scrape("a{x=\"y\"} 1\n");
        assert_eq!(world.error(), words);
    }
    for (limit, words) in
        [(9, ""), (8, "label_name_length_limit exceeded (metric: a, label name: long_name, length: 9, limit: 8)")]
    {
        let mut world = World::new(|job| job.label_name_length_limit = limit);
        world.scrape("a{long_name=\"y\"} 1\n");
        assert_eq!(world.error(), words);
    }
    for (limit, words) in [
        (7, ""),
        (6, "label_value_length_limit exceeded (metric: a, label name: x, value: \"seven77\", length: 7, limit: 6)"),
    ] {
        let mut world = World::new(|job| job.label_value_length_limit = limit);
        world.scrape("a{x=\"seven77\"} 1\n");
        assert_eq!(world.error(), words);
    }
}

#[test]
fn what_can_be_no_series_fails_the_scrape_by_name() {
    for (body, words) in [
        ("a{b=\"c\",b=\"d\"} 1\n", "label name \"b\" is not unique: invalid sample of metric \"a\""),
        ("a{__name__=\"z\"} 1\n", "label name \"__name__\" is not unique: invalid sample of metric \"a\""),
        ("{\"\"} 1\n", "missing metric name (__name__ label)"),
        ("a{\"\"=\"d\"} 1\n", "invalid metric name or label names: metric \"a\" has an empty label name"),
        (
            &format!("a{{b=\"{}\"}} 1\n", "x".repeat(4_096)),
            "the labels of a series of \"a\" take more than 4096 bytes; drop or shorten labels",
        ),
    ] {
        let mut world = World::new(|_| {});
        world.scrape(body);
        assert_eq!((world.error(), world.row().len()), (words, 0));
    }
}

#[test]
fn a_full_store_refuses_new_series_and_the_scrape_is_still_good() {
    let mut world = World::new(|_| {});
    world.scrape("a 1\n");
    world.rows.series_max = Some(6);
    world.scrape("a 2\nb 3\n");
    assert_eq!((world.row(), world.report()[3].as_str()), (vec!["a 2".into()], "up 1"));
    let status = world.target.status();
    assert_eq!((status.health, status.counters.samples_refused), (Health::Up, 1));
    assert_eq!(status.last_refused, Some(Refused::Full { region: RegionName::Series, total: 6 }));
    world.scrape("a 2\n");
    assert_eq!(world.target.status().last_refused, None);
}

#[test]
fn without_room_for_its_timeline_a_target_is_down_and_says_so() {
    let mut world = World::new(|_| {});
    world.rows.timelines_full = true;
    world.start();
    assert_eq!(world.head(200, "text/plain"), Progress::Ended);
    assert!(world.error().contains("is full"), "{}", world.error());
    assert_eq!((world.target.status().health, world.rows.rows.len()), (Health::Down, 0));
    world.rows.timelines_full = false;
    world.scrape("a 1\n");
    assert_eq!(world.row(), ["a 1"]);
}

#[test]
fn a_scrape_that_takes_longer_than_its_interval_lets_turns_pass() {
    let mut world = World::new(|_| {});
    world.start();
    world.head(200, "text/plain");
    world.body("a 1");
    let wait_ms = world.target.due_mono_ms() - world.now.mono_ms;
    world.advance(wait_ms);
    assert_eq!(world.target.start(world.now), None);
    assert_eq!(world.end(), Progress::Ended);
    assert_eq!((world.row(), world.target.status().counters.scrapes_skipped), (vec!["a 1".into()], 1));
}

#[test]
fn a_removed_target_ends_its_series_in_the_middle_of_a_scrape_too() {
    for is_scraping in [false, true] {
        let mut world = World::new(|_| {});
        world.scrape("# TYPE a gauge\na 1\n");
        if is_scraping {
            world.start();
            world.head(200, "text/plain");
            world.body("a 2\n");
        }
        world.advance(1);
        let World { now, target, mut rows, mut shared } = world;
        target.remove(now, &mut rows, &mut shared);
        let (instant_ms, cells) = rows.rows.last().unwrap();
        assert_eq!((*instant_ms, cells.len()), (now.wall_ms, 6));
        assert!(cells.values().all(|(bits, _)| *bits == STALE_NAN_BITS));
        assert_eq!((rows.released.len(), rows.open.len()), (1, 0));
        assert_eq!((shared.metadata.bytes(), shared.seen.bytes()), (0, 0));
    }
}

#[test]
fn only_lines_that_are_new_or_moved_are_parsed() {
    let mut world = World::new(|_| {});
    let mut parsed = |body: &str| {
        let before = world.rows.labelled_count;
        world.scrape(body);
        // Without the five that each scrape reports.
        (world.rows.labelled_count - before - 5, world.row().len())
    };
    assert_eq!(parsed("# TYPE a gauge\na 1\nb{c=\"d\"} 2\n\ne 3\n"), (3, 3));
    assert_eq!(parsed("# TYPE a gauge\na 4\nb{c=\"d\"} 5.5\n\ne NaN"), (0, 3));
    assert_eq!(parsed("# TYPE a gauge\na 4\nnew 1\nb{c=\"d\"} 5.5\n\ne 6\n"), (1, 4));
    assert_eq!(parsed("# TYPE a gauge\na 4\nnew 1\nb{c=\"d\"} 5.5\n\ne 6\n"), (0, 4));
    assert_eq!(parsed("# TYPE a gauge\na 4\ne 6\n"), (0, 4), "two have gone, with a marker each");
    assert_eq!(parsed("# TYPE a gauge\na 4\ne 6\n"), (0, 2));
    assert_eq!(parsed("# TYPE a summary\na 4\ne 6\n"), (2, 2), "the kind decides how a label is read");
    assert_eq!(parsed("# TYPE a summary\na 4 1700000000000\ne 6\n"), (1, 2), "it has a timestamp");
    assert_eq!(parsed("# TYPE a summary\na 4\ne 6\n"), (0, 2));
}

#[test]
fn values_named_stale_from_outside_are_plain_nan() {
    let mut world = World::new(|_| {});
    world.scrape("a NaN\n");
    assert_eq!(world.row(), ["a NaN"]);
}

#[test]
fn the_real_store_holds_what_a_target_wrote() {
    let mut slab = vec![0; 256 * 1024];
    let plan = Plan::for_slab(slab.len()).unwrap();
    let identity = Identity { store_uuid: [1; 16], boot_id: [2; 16], log_generation: 0 };
    let mut store = Store::create(&mut slab, &plan, identity).unwrap();
    let mut now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
    let mut target = Target::new(TargetSpec::new(&tests::job(), &tests::target(&[])), 0, now);
    target.scrape_at_once(now);
    let mut shared = Shared::new(10_000, 10_000, 7);
    // The third scrape fails in its middle.
    for body in ["a 1\nold 5 1699999999000\n", "a 2\n", "a 3\nbroken\n", "a 4\n"] {
        let wait_ms = target.due_mono_ms().saturating_sub(now.mono_ms);
        now = Now { mono_ms: now.mono_ms + wait_ms, wall_ms: now.wall_ms + wait_ms as i64 };
        target.start(now).unwrap();
        target.head(now, 200, "text/plain", &mut store, &mut shared);
        let (first, second) = body.as_bytes().split_at(body.len() / 2);
        for piece in [first, second] {
            target.body(now, piece, &mut store, &mut shared);
        }
        target.end(now, &mut store, &mut shared);
    }
    let read = |metric: &str| {
        let labels = [("__name__", metric), ("instance", "h:9100"), ("job", "node")];
        let series = store.series_find(LabelSet::from_pairs(labels).as_ref()).unwrap();
        let mut values = Vec::new();
        store.series_read(series, 0, i64::MAX, &mut |t_ms, bits| {
            let value = if bits == STALE_NAN_BITS { "stale".into() } else { f64::from_bits(bits).to_string() };
            values.push((t_ms - 1_700_000_000_000, value));
        });
        values
    };
    let text = |values: Vec<(i64, String)>| values.into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    assert_eq!(text(read("a")), ["1", "2", "stale", "4"]);
    assert_eq!(text(read("up")), ["1", "1", "0", "1"]);
    assert_eq!(text(read("scrape_series_added")), ["2", "0", "0", "0"]);
    assert_eq!(read("old")[0], (-1_000, "5".into()));
    assert_eq!(target.status().counters.scrapes_failed, 1);
}
