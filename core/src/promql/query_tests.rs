use super::*;
use crate::{
    promql::{
        self,
        source::{Selection, SourceError},
    },
    store::Sample,
};

/// `series_count` series `m{i="..."}`, a sample of value t/1000 a second, made as they are read.
struct Endless {
    series_count: usize,
    read_samples: usize,
    read_samples_max: usize,
    broken: bool,
}

impl Endless {
    fn new(series_count: usize) -> Self {
        Self { series_count, read_samples: 0, read_samples_max: 0, broken: false }
    }
}

impl Source for Endless {
    fn select(&mut self, selection: &mut Selection, count_max: usize) -> Result<bool, SourceError> {
        for index in selection.series.len()..self.series_count.min(selection.series.len() + count_max) {
            selection.add_index(index)?;
        }
        let is_done = selection.series.len() == self.series_count;
        if is_done {
            selection.finish();
        }
        Ok(is_done)
    }

    fn labels(&mut self, selection: &Selection, index: usize, labels: &mut LabelsBuf) -> Result<usize, SourceError> {
        let index = selection.series[index].series;
        let (i, j) = (format!("{index:05}"), format!("{}", index % 10));
        labels.set(LabelSet::from_pairs([("__name__", "m"), ("i", i.as_str()), ("j", j.as_str())]).as_ref());
        Ok(0)
    }

    fn read(
        &mut self,
        _: &Selection,
        _: usize,
        start_ms: i64,
        end_ms: i64,
        out: &mut Vec<Sample>,
    ) -> Result<Option<usize>, SourceError> {
        if self.broken {
            return Err(SourceError("the disk is gone".into()));
        }
        let from = start_ms.div_euclid(1000) + i64::from(start_ms.rem_euclid(1000) != 0);
        let before = out.len();
        out.extend((from..=end_ms.div_euclid(1000)).map(|s| Sample { t_ms: s * 1000, value: s as f64 }));
        let count = out.len() - before;
        self.read_samples += count;
        self.read_samples_max = self.read_samples_max.max(count);
        Ok(Some(0))
    }
}

const OPTIONS: QueryOptions = QueryOptions { lookback_delta_ms: 300_000, samples_max: 1_000_000, bytes_max: 1 << 20 };
const HOUR: Window = Window::Range { start_ms: 0, end_ms: 3_600_000, step_ms: 60_000 };

fn query(text: &str, window: Window, options: QueryOptions) -> Query {
    Query::new(&promql::parse(text).unwrap(), window, options).unwrap()
}

fn run(query: &mut Query, source: &mut Endless, bite_samples: usize) -> Result<(Vec<ResultSeries>, usize), QueryError> {
    let (mut series, mut bites) = (Vec::new(), 1);
    loop {
        match query.advance(source, bite_samples)? {
            Progress::More => bites += 1,
            Progress::Series => series.extend(query.take_series()),
            Progress::Done => return Ok((series, bites)),
        }
    }
}

#[test]
fn no_bite_reads_much_more_than_it_was_given() {
    for text in ["sum(rate(m[5m]))", "m", "m[1h]", "absent_over_time(m[5m])", "topk(2, m) or m", "m / on(i) m"] {
        let window = if text == "m[1h]" { Window::Instant { t_ms: 3_600_000 } } else { HOUR };
        let mut source = Endless::new(3);
        let mut query = query(text, window, OPTIONS);
        let mut done = false;
        while !done {
            let before = source.read_samples;
            done = query.advance(&mut source, 1_000).unwrap() == Progress::Done;
            query.take_series();
            let read = source.read_samples - before;
            // One slice of time may overshoot; slices adapt to about a thousand samples.
            assert!(read <= 1_000 + 4 * 1_024, "{text} read {read} samples in one bite");
        }
        assert!(source.read_samples > 3_000, "{text}");
    }
}

#[test]
fn a_long_range_is_read_in_slices_and_not_held() {
    let mut source = Endless::new(1);
    let window = Window::Range { start_ms: 0, end_ms: 86_400_000, step_ms: 60_000 };
    let mut query = query("rate(m[5m])", window, OPTIONS);
    let (series, bites) = run(&mut query, &mut source, 1_000).unwrap();
    assert_eq!(series[0].points.len(), 1440 + 1);
    assert!(source.read_samples >= 86_400 && source.read_samples < 90_000, "{}", source.read_samples);
    assert!(source.read_samples_max <= 4 * 1_024, "{}", source.read_samples_max);
    assert!(bites > 86, "{bites}");
    assert!(query.bytes() < 200_000, "{}", query.bytes());
}

#[test]
fn steps_with_gaps_between_them_read_only_their_windows() {
    let mut source = Endless::new(1);
    let window = Window::Range { start_ms: 0, end_ms: 86_400_000, step_ms: 3_600_000 };
    run(&mut query("rate(m[1m])", window, OPTIONS), &mut source, 1_000).unwrap();
    assert_eq!(source.read_samples, 25 * 60);
}

#[test]
fn memory_is_charged_and_its_limit_fails_the_query_alone() {
    let text = "sum by (i) (m)";
    let mut whole = query(text, HOUR, OPTIONS);
    run(&mut whole, &mut Endless::new(50), 1_000).unwrap();
    let needed = whole.bytes();
    assert!(needed > 50 * 61 * 8, "{needed}");
    let enough = QueryOptions { bytes_max: needed, ..OPTIONS };
    assert!(run(&mut query(text, HOUR, enough), &mut Endless::new(50), 1_000).is_ok());
    let short = QueryOptions { bytes_max: needed - 1, ..OPTIONS };
    let error = run(&mut query(text, HOUR, short), &mut Endless::new(50), 1_000).unwrap_err();
    assert_eq!(error, QueryError::Memory { bytes_max: needed - 1 });
}

#[test]
fn the_limit_of_samples_has_prometheus_words() {
    let options = QueryOptions { samples_max: 2_000, ..OPTIONS };
    let error = run(&mut query("m * 2", HOUR, options), &mut Endless::new(3), 1_000).map(|_| ());
    assert_eq!(error, Ok(()));
    let error = run(&mut query("m * on(i) m", HOUR, options), &mut Endless::new(50), 1_000).unwrap_err();
    assert_eq!(error, QueryError::TooManySamples);
    assert_eq!(format!("{error}"), "query processing would load too many samples into memory in query execution");
}

#[test]
fn a_huge_grid_or_selection_is_refused_before_it_is_made() {
    let window = Window::Range { start_ms: i64::MIN, end_ms: i64::MAX, step_ms: 1 };
    for text in ["1", "m", "sum(m)", "topk(1, m)", "time()", "absent(m)", "m or m", "histogram_quantile(0.5, m)"] {
        let error = run(&mut query(text, window, OPTIONS), &mut Endless::new(1), 1_000).unwrap_err();
        assert!(matches!(error, QueryError::Memory { .. } | QueryError::TooManySamples), "{text}: {error}");
    }
    let text = "max_over_time(m[200y:1ms])";
    let error = run(&mut query(text, Window::Instant { t_ms: 0 }, OPTIONS), &mut Endless::new(1), 1_000).unwrap_err();
    assert!(matches!(error, QueryError::Memory { .. }), "{error}");
    let error = run(&mut query("m", HOUR, OPTIONS), &mut Endless::new(100_000), 1_000).unwrap_err();
    assert!(matches!(&error, QueryError::Execution(text) if text.contains("narrow the selector")), "{error}");
}

#[test]
fn the_highest_tree_is_evaluated_without_running_out_of_stack() {
    let instant = Window::Instant { t_ms: 60_000 };
    for (text, expected) in [
        (format!("1{}", " + 1".repeat(promql::HEIGHT_MAX - 1)), promql::HEIGHT_MAX as f64),
        (format!("sum(m){}", " + sum(m)".repeat(promql::HEIGHT_MAX - 2)), 60.0 * (promql::HEIGHT_MAX - 1) as f64),
        (format!("{}m{}", "abs(".repeat(promql::HEIGHT_MAX - 1), ")".repeat(promql::HEIGHT_MAX - 1)), 60.0),
    ] {
        let (series, _) = run(&mut query(&text, instant, OPTIONS), &mut Endless::new(1), 10).unwrap();
        assert_eq!(series[0].points[0].value, expected, "{text}");
    }
}

#[test]
fn a_source_that_fails_fails_the_query_with_its_reason() {
    let mut source = Endless::new(1);
    source.broken = true;
    let error = run(&mut query("sum(m)", HOUR, OPTIONS), &mut source, 1_000).unwrap_err();
    assert_eq!(error, QueryError::Execution("the disk is gone".into()));
}

#[test]
fn types_and_windows_that_make_no_sense_are_refused() {
    let refused = |text: &str, window: Window| match Query::new(&promql::parse(text).unwrap(), window, OPTIONS) {
        Ok(_) => panic!("{text} was planned"),
        Err(error) => format!("{error}"),
    };
    assert_eq!(
        refused("m[5m]", HOUR),
        "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"
    );
    assert_eq!(
        refused("\"text\"", HOUR),
        "invalid expression type \"string\" for range query, must be Scalar or instant Vector"
    );
    let backwards = Window::Range { start_ms: 1, end_ms: 0, step_ms: 1 };
    assert_eq!(refused("m", backwards), "end timestamp must not be before start time");
    let still = Window::Range { start_ms: 0, end_ms: 0, step_ms: 0 };
    assert!(refused("m", still).starts_with("zero or negative query resolution step widths"));
}

#[test]
fn a_range_has_both_its_ends_and_an_instant_its_type() {
    let window = Window::Range { start_ms: 60_000, end_ms: 179_999, step_ms: 60_000 };
    let mut ranged = query("time()", window, OPTIONS);
    assert_eq!(ranged.value_type(), ValueType::Matrix);
    let (series, _) = run(&mut ranged, &mut Endless::new(0), 1).unwrap();
    assert_eq!(series[0].points, [Point { t_ms: 60_000, value: 60.0 }, Point { t_ms: 120_000, value: 120.0 }]);
    let at = Window::Instant { t_ms: 60_000 };
    for (text, value_type) in
        [("1", ValueType::Scalar), ("m", ValueType::Vector), ("m[1m]", ValueType::Matrix), ("'x'", ValueType::String)]
    {
        assert_eq!(query(text, at, OPTIONS).value_type(), value_type, "{text}");
    }
}

/// The default budget leaves a request 1 MiB: a selector of 7,000 series was refused, their labels taking more than that.
#[test]
fn ten_thousand_series_are_read_in_a_megabyte() {
    let instant = Window::Instant { t_ms: 3_600_000 };
    for (text, window, count) in [
        ("sum(rate(m[5m]))", instant, 1),
        ("sum by (job) (rate({__name__=~'.+'}[5m]))", instant, 1),
        ("count by (__name__) ({__name__=~'.+'})", instant, 1),
        ("topk(10, sum by (j) (rate({__name__=~'m'}[5m])))", instant, 10),
        ("sum(m)", HOUR, 1),
        ("m", instant, 10_000),
    ] {
        let options = QueryOptions { samples_max: 50_000_000, ..OPTIONS };
        let mut query = query(text, window, options);
        let (mut found, mut source) = (0, Endless::new(10_000));
        loop {
            match query.advance(&mut source, 20_000) {
                Ok(Progress::More) => {}
                Ok(Progress::Series) => found += usize::from(query.take_series().is_some()),
                Ok(Progress::Done) => break,
                Err(error) => panic!("{text}: {error}"),
            }
        }
        assert_eq!(found, count, "{text}");
    }
}
