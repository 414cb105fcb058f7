use super::*;
use crate::receive::testing::{Label, TimeSeries, Unread, WireSample, WriteRequest};
use alloc::{string::String, vec, vec::Vec};
use proptest::prelude::*;
use prost::Message;

/// What a request says, series by series; `None` as labels: one of them is too long.
#[derive(Clone, Debug, Default, PartialEq)]
struct Read {
    series: Vec<ReadSeries>,
    metadata: usize,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct ReadSeries {
    labels: Vec<(String, String)>,
    too_long: usize,
    samples: Vec<(i64, u64)>,
    exemplars: usize,
    histograms: usize,
}

/// Reads a request of which at first `window` bytes are given, and more only when more are asked for.
fn read(bytes: &[u8], window: usize) -> Result<Read, ReadError> {
    let mut reader = Reader::new(bytes.len() as u64);
    let (mut at, mut end) = (0, window.min(bytes.len()));
    let (mut read, mut series) = (Read::default(), ReadSeries::default());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("labels of tests are texts");
    loop {
        let (used, item) = reader.next(&bytes[at..end])?;
        at += used;
        match item {
            Item::Series => series = ReadSeries::default(),
            Item::Label { name, value } => series.labels.push((text(name), text(value))),
            Item::LabelTooLong => series.too_long += 1,
            Item::Sample { t_ms, bits } => series.samples.push((t_ms, bits)),
            Item::Exemplar => series.exemplars += 1,
            Item::Histogram => series.histograms += 1,
            Item::SeriesEnd => read.series.push(core::mem::take(&mut series)),
            Item::Metadata => read.metadata += 1,
            Item::Nothing => {}
            Item::More => {
                assert!(end < bytes.len(), "more is asked for than there is");
                assert!(end - at < ITEM_BYTES_MAX + HEAD_BYTES_MAX, "a whole item was there: {} bytes", end - at);
                end = (end + window).min(bytes.len());
            }
            Item::End => {
                assert_eq!(at, bytes.len());
                return Ok(read);
            }
        }
    }
}

fn expected(request: &WriteRequest) -> Read {
    let series = request.timeseries.iter().map(|series| ReadSeries {
        labels: series.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect(),
        too_long: 0,
        samples: series.samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits())).collect(),
        exemplars: series.exemplars.len(),
        histograms: series.histograms.len(),
    });
    Read { series: series.collect(), metadata: request.metadata.len() }
}

fn a_request() -> impl Strategy<Value = WriteRequest> {
    let label = (".{0,9}", ".{0,20}", any::<u64>()).prop_map(|(name, value, unknown)| Label { name, value, unknown });
    let sample = (any::<u64>(), any::<i64>(), any::<u64>()).prop_map(|(bits, timestamp, unknown)| WireSample {
        value: f64::from_bits(bits),
        timestamp,
        unknown,
    });
    let unread = || prop::collection::vec(".{0,40}".prop_map(|text| Unread { text }), 0..3);
    let labels = prop::collection::vec(label, 0..6);
    let samples = prop::collection::vec(sample, 0..6);
    let series = (labels, samples, unread(), unread(), any::<u32>()).prop_map(
        |(labels, samples, exemplars, histograms, unknown)| TimeSeries {
            labels,
            samples,
            exemplars,
            histograms,
            unknown,
        },
    );
    (prop::collection::vec(series, 0..5), unread(), ".{0,30}")
        .prop_map(|(timeseries, metadata, unknown)| WriteRequest { timeseries, metadata, unknown })
}

proptest! {
    #[test]
    fn what_an_independent_writer_wrote_is_read_whatever_the_window(request in a_request(), window in 1..300_usize) {
        prop_assert_eq!(read(&request.encode_to_vec(), window), Ok(expected(&request)));
    }

    /// What the independent reader refuses for other reasons (texts that are not UTF-8) is judged later.
    #[test]
    fn damaged_requests_are_read_the_same_whatever_the_window(
        request in a_request(), at: prop::sample::Index, byte: u8, window in 1..300_usize,
    ) {
        let mut bytes = request.encode_to_vec();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        prop_assume!(WriteRequest::decode(bytes.as_slice()).is_ok());
        prop_assert_eq!(read(&bytes, window), read(&bytes, bytes.len()));
    }

    #[test]
    fn foreign_bytes_never_bring_the_reader_down(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut reader = Reader::new(bytes.len() as u64);
        let mut at = 0;
        while let Ok((used, item)) = reader.next(&bytes[at..]) {
            at += used;
            if matches!(item, Item::End) {
                prop_assert_eq!(at, bytes.len());
                break;
            }
            prop_assert!(!matches!(item, Item::More), "all bytes are there");
        }
    }
}

/// A request of one series with one label whose field has `label_bytes` bytes.
fn with_label(label_bytes: usize) -> WriteRequest {
    // Name and value have a tag and a length each, of one and of two bytes.
    let value = "v".repeat(label_bytes - (2 + 4) - 3);
    let labels = vec![Label { name: "name".into(), value, unknown: 0 }];
    let samples = vec![WireSample { value: 1.0, timestamp: 5, unknown: 0 }];
    WriteRequest { timeseries: vec![TimeSeries { labels, samples, ..Default::default() }], ..Default::default() }
}

#[test]
fn a_label_that_is_too_long_costs_that_label_alone() {
    for (label_bytes, too_long) in [(ITEM_BYTES_MAX, 0), (ITEM_BYTES_MAX + 1, 1), (3 * ITEM_BYTES_MAX, 1)] {
        let found = read(&with_label(label_bytes).encode_to_vec(), 700).unwrap();
        assert_eq!(found.series[0].too_long, too_long, "{label_bytes}");
        assert_eq!(found.series[0].samples, [(5, 1.0_f64.to_bits())]);
    }
}

#[test]
fn a_length_that_reaches_out_of_its_message_is_malformed() {
    let request = with_label(100).encode_to_vec();
    for cut in 1..request.len() {
        assert!(read(&request[..cut], 1000).is_err(), "{cut}");
    }
    // The series says one byte less than it has: its last field reaches out.
    let mut shorter = request;
    shorter[1] -= 1;
    let what = "a field is longer than what it stands in";
    assert_eq!(read(&shorter, 1000), Err(ReadError::Malformed { what }));
}

#[test]
fn fields_of_a_wrong_type_and_groups_are_malformed() {
    for (bytes, what) in [
        (b"\x08\x01".as_slice(), "a field has the wrong type"),
        (b"\x0a\x02\x08\x01", "a field has the wrong type"),
        (b"\x0a\x04\x0a\x02\x08\x01", "a label's name or value is no text"),
        (b"\x0a\x04\x12\x02\x08\x01", "a sample's value or timestamp is no number"),
        (b"\x0b", "a field has an illegal type"),
        (b"\x02\x00", "a field has an illegal number"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "a number has more than 64 bits"),
    ] {
        assert_eq!(read(bytes, 1000), Err(ReadError::Malformed { what }), "{bytes:?}");
    }
}

#[test]
fn labels_behind_samples_are_refused_with_advice() {
    let labels = vec![Label { name: "a".into(), value: "b".into(), unknown: 0 }];
    let samples = vec![WireSample { value: 1.0, timestamp: 5, unknown: 0 }];
    let mut body = TimeSeries { samples, ..Default::default() }.encode_to_vec();
    body.extend(TimeSeries { labels, ..Default::default() }.encode_to_vec());
    let mut request = vec![0x0a, body.len() as u8];
    request.extend(body);
    assert_eq!(read(&request, 1000), Err(ReadError::LabelsLate));
}
