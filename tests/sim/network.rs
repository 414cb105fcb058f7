//! Exporters, an upstream and an Alertmanager that misbehave on demand.

use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

/// Exporters, and behind them the host's own metrics.
pub const SOURCES: usize = 4;
pub const HOST: usize = SOURCES - 1;

static NAMES: LazyLock<[Vec<String>; SOURCES]> = LazyLock::new(|| {
    std::array::from_fn(|source| (0..6 + source * 3).map(|index| format!("m{source}_{index}")).collect())
});

/// Whether a source's page of this number has its series of this index: some come and go.
pub fn is_on_page(index: usize, page: u64) -> bool {
    index % 3 != 2 || !(page / 5 + index as u64).is_multiple_of(4)
}

/// The series of a source's page, with their indexes.
pub fn series_of(source: usize, page: u64) -> impl Iterator<Item = (usize, &'static str)> {
    let names = NAMES[source].iter().map(String::as_str).enumerate();
    names.filter(move |(index, _)| is_on_page(*index, page))
}

/// Who serves a series, and which of its series it is.
pub fn place_of(series: &str) -> Option<(usize, usize)> {
    let find = |source: usize| Some((source, NAMES[source].iter().position(|name| name == series)?));
    (0..SOURCES).find_map(find)
}

/// The value of the target's `instance` label.
pub fn instance_of(source: usize) -> String {
    if source == HOST { "box".into() } else { format!("e{source}:9100") }
}

/// A series' labels as the store has them, see [`key`].
pub fn key_of(source: usize, series: &str) -> String {
    let (exporter, instance) = (format!("e{source}"), instance_of(source));
    let job = if source == HOST { "host" } else { "sim" };
    key([("__name__", series), ("exporter", &exporter), ("instance", &instance), ("job", job)].into_iter())
}

/// The name in a [`key`], which is the first label of all that are used here.
pub fn name_of(key: &str) -> &str {
    key.split('"').nth(3).unwrap_or_default()
}

/// A value tells its page, and is of another kind for every series: integers, decimals, powers.
pub fn value_of(series: &str, page: u64) -> f64 {
    match series.bytes().last().map_or(0, |byte| byte % 3) {
        0 => page as f64,
        1 => page as f64 * 0.25 + 1e6,
        _ => page as f64 * 1e9 + 7.0,
    }
}

/// The page that a value of this series was on.
pub fn page_of(series: &str, value: f64) -> Option<u64> {
    let page = match series.bytes().last().map_or(0, |byte| byte % 3) {
        0 => value,
        1 => (value - 1e6) * 4.0,
        _ => (value - 7.0) / 1e9,
    };
    (page >= 0.0 && page.fract() == 0.0 && value_of(series, page as u64) == value).then_some(page as u64)
}

pub fn page_text(source: usize, page: u64) -> String {
    let mut text = String::from("# HELP m0_0 a metric\n# TYPE m0_0 counter\n");
    for (_, series) in series_of(source, page) {
        text.push_str(&format!("{series}{{exporter=\"e{source}\"}} {}\n", value_of(series, page)));
    }
    text
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExporterMode {
    Fine,
    Refused,
    Hanging,
    Status500,
    /// The body ends in the middle of its length.
    CutOff,
    BrokenLine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMode {
    Fine,
    Refused,
    Status500,
    Status429,
    /// Takes the message, but the answer is lost.
    AnswerLost,
}

/// What an upstream is like apart from its moods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamKind {
    Moody,
    /// Not there until the calm.
    Away,
    /// Until the calm it takes nothing that is older than [`WINDOW_MS`].
    Window,
    /// It refuses [`POISON`] for ever.
    Picky,
}

pub const WINDOW_MS: i64 = 150_000;
pub const POISON: &str = "m1_3";

/// Why an upstream of this kind refuses a message, which it then leaves as a whole.
pub fn refusal(kind: UpstreamKind, body: &[u8], wall_ms: i64) -> Option<&'static str> {
    let request = WriteRequest::decode(body).ok()?;
    let is_poison = |label: &Label| label.name == "__name__" && label.value == POISON;
    let mut series = request.timeseries.iter();
    match kind {
        UpstreamKind::Moody | UpstreamKind::Away => None,
        UpstreamKind::Window => series
            .any(|series| series.samples.iter().any(|sample| sample.timestamp < wall_ms - WINDOW_MS))
            .then_some("out of bounds"),
        UpstreamKind::Picky => series.any(|series| series.labels.iter().any(is_poison)).then_some("I do not like this"),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<WireSample>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireSample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// Labels, instant and value of a sample.
pub type Pushed = ([(&'static str, String); 3], i64, f64);

/// The body that pushes these samples.
pub fn write_request(samples: &[Pushed]) -> Vec<u8> {
    let timeseries = samples.iter().map(|(labels, timestamp, value)| TimeSeries {
        labels: labels.iter().map(|(name, value)| Label { name: (*name).to_owned(), value: value.clone() }).collect(),
        samples: vec![WireSample { value: *value, timestamp: *timestamp }],
    });
    let request = WriteRequest { timeseries: timeseries.collect() };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("a short body")
}

/// A series' labels as one text, in order of name.
pub fn key<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let sorted: BTreeMap<&str, &str> = labels.collect();
    format!("{sorted:?}")
}

/// Everything an upstream was ever given.
#[derive(Default)]
pub struct Ledger {
    /// By series (see [`key`]) and instant: the bits of the value, or of the values where the clock made an instant come
    /// twice. A real upstream keeps one of them, and which one is its own choice.
    pub samples: BTreeMap<String, BTreeMap<i64, Vec<u64>>>,
    pub repeats: u64,
    /// All samples, repeated ones too.
    pub taken: u64,
    pub sites: BTreeSet<String>,
}

impl Ledger {
    pub fn take(&mut self, seed: u64, body: &[u8], clock_jumped: bool) {
        let request =
            WriteRequest::decode(body).unwrap_or_else(|error| panic!("seed {seed}: not a write request: {error}"));
        assert!(!request.timeseries.is_empty(), "seed {seed}: an empty write request");
        for series in request.timeseries {
            assert!(series.labels.is_sorted_by(|a, b| a.name < b.name), "seed {seed}: {:?}", series.labels);
            assert!(series.samples.is_sorted_by(|a, b| a.timestamp < b.timestamp), "seed {seed}: {:?}", series.samples);
            let get =
                |name: &str| series.labels.iter().find(|label| label.name == name).map_or("", |label| &label.value);
            self.sites.insert(get("site").to_owned());
            let is_pushed = get("job") == "pushed";
            let labels = series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
            let known = self.samples.entry(key(labels.filter(|(name, _)| *name != "site"))).or_default();
            for sample in series.samples {
                self.taken += 1;
                let values = known.entry(sample.timestamp).or_default();
                if values.contains(&sample.value.to_bits()) {
                    // What is pushed again may be stored again, and is sent on again then.
                    self.repeats += u64::from(!is_pushed);
                    continue;
                }
                assert!(
                    values.is_empty() || clock_jumped,
                    "seed {seed}: {:?} was {values:x?} at {} and is now {}",
                    series.labels,
                    sample.timestamp,
                    sample.value
                );
                values.push(sample.value.to_bits());
            }
        }
    }
}
