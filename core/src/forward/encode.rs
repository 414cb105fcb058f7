//! The body of remote write 1.0: `prometheus.WriteRequest` in protobuf, written straight into the output buffer.
//!
//! Source: `prometheus.io/docs/specs/prw/remote_write_spec`. `WriteRequest { repeated TimeSeries timeseries = 1 }`,
//! `TimeSeries { repeated Label labels = 1; repeated Sample samples = 2 }`, `Label { string name = 1; string value = 2
//! }`, `Sample { double value = 1; int64 timestamp = 2 }`. Labels are sorted by name. Compression is the platform's.

use super::source::RowSample;
use crate::labels::LabelsRef;

/// Field numbers with wire types: length-delimited 1 and 2, fixed 64-bit 1, varint 2.
const TAG_FIRST_BYTES: u8 = 0x0a;
const TAG_SECOND_BYTES: u8 = 0x12;
const TAG_FIRST_FIXED64: u8 = 0x09;
const TAG_SECOND_VARINT: u8 = 0x10;

/// Writes time series into a buffer that cannot grow.
pub(super) struct Writer<'b> {
    out: &'b mut [u8],
    used: usize,
}

impl<'b> Writer<'b> {
    pub(super) fn new(out: &'b mut [u8]) -> Self {
        Self { out, used: 0 }
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Adds one series whole, or nothing and `false` where it does not fit. `external` labels are added where the series
    /// has none of the name.
    pub(super) fn series(&mut self, labels: LabelsRef<'_>, external: LabelsRef<'_>, samples: &[RowSample]) -> bool {
        let labels_bytes: usize = merged(labels, external).map(|pair| field_bytes(label_bytes(pair))).sum();
        let samples_bytes: usize = samples.iter().map(|sample| field_bytes(sample_bytes(sample))).sum();
        let series_bytes = labels_bytes + samples_bytes;
        let end = self.used + field_bytes(series_bytes);
        if end > self.out.len() {
            return false;
        }
        self.tag_length(TAG_FIRST_BYTES, series_bytes);
        for (name, value) in merged(labels, external) {
            self.tag_length(TAG_FIRST_BYTES, label_bytes((name, value)));
            self.text(TAG_FIRST_BYTES, name);
            self.text(TAG_SECOND_BYTES, value);
        }
        for sample in samples {
            self.tag_length(TAG_SECOND_BYTES, sample_bytes(sample));
            self.byte(TAG_FIRST_FIXED64);
            self.bytes(&sample.bits.to_le_bytes());
            self.byte(TAG_SECOND_VARINT);
            self.varint(sample.t_ms as u64);
        }
        assert_eq!(self.used, end, "the size of a series was worked out wrongly");
        true
    }

    fn text(&mut self, tag: u8, text: &str) {
        self.tag_length(tag, text.len());
        self.bytes(text.as_bytes());
    }

    fn tag_length(&mut self, tag: u8, length: usize) {
        self.byte(tag);
        self.varint(length as u64);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn byte(&mut self, byte: u8) {
        self.out[self.used] = byte;
        self.used += 1;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }
}

/// Both sets in order of name; where both have a name, the first set's pair.
fn merged<'l>(labels: LabelsRef<'l>, external: LabelsRef<'l>) -> impl Iterator<Item = (&'l str, &'l str)> {
    let (mut own, mut added) = (labels.iter().peekable(), external.iter().peekable());
    core::iter::from_fn(move || match (own.peek(), added.peek()) {
        (Some((name, _)), Some((other, _))) if name > other => added.next(),
        (Some((name, _)), Some((other, _))) if name == other => {
            added.next();
            own.next()
        }
        (Some(_), _) => own.next(),
        (None, _) => added.next(),
    })
}

fn label_bytes((name, value): (&str, &str)) -> usize {
    field_bytes(name.len()) + field_bytes(value.len())
}

fn sample_bytes(sample: &RowSample) -> usize {
    1 + 8 + 1 + varint_bytes(sample.t_ms as u64)
}

/// A length-delimited field of this many bytes, with tag and length.
fn field_bytes(bytes: usize) -> usize {
    1 + varint_bytes(bytes as u64) + bytes
}

fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::labels::LabelSet;
    use alloc::{vec, vec::Vec};
    use prost::Message;

    pub use crate::receive::testing::WriteRequest;

    pub fn decode(bytes: &[u8]) -> WriteRequest {
        WriteRequest::decode(bytes).unwrap()
    }

    fn sample(t_ms: i64, value: f64) -> RowSample {
        RowSample { row: 0, t_ms, bits: value.to_bits() }
    }

    #[test]
    fn an_independent_reader_finds_every_label_and_sample() {
        let labels = LabelSet::from_pairs([("__name__", "up"), ("job", "node"), ("zone", "kept")]);
        let external = LabelSet::from_pairs([("box", "7"), ("zone", "outer"), ("zz", "last")]);
        let long = LabelSet::from_pairs([("a", "ä".repeat(1_000).as_str())]);
        let samples =
            [sample(0, 0.0), sample(-1, -2.5), sample(1_700_000_000_000, f64::INFINITY), sample(i64::MAX, 1e-9)];
        let mut out = [0; 8192];
        let mut writer = Writer::new(&mut out);
        assert!(writer.series(labels.as_ref(), external.as_ref(), &samples));
        assert!(writer.series(long.as_ref(), LabelsRef::EMPTY, &[]));
        let used = writer.used();
        let read = WriteRequest::decode(&out[..used]).unwrap();
        let names: Vec<_> = read.timeseries[0].labels.iter().map(|l| (l.name.as_str(), l.value.as_str())).collect();
        assert_eq!(names, [("__name__", "up"), ("box", "7"), ("job", "node"), ("zone", "kept"), ("zz", "last")]);
        let read_samples: Vec<_> = read.timeseries[0].samples.iter().map(|s| sample(s.timestamp, s.value)).collect();
        assert_eq!(read_samples, samples);
        assert_eq!(read.timeseries[1].labels[0].value.len(), 2_000);
    }

    #[test]
    fn a_series_that_does_not_fit_by_one_byte_is_left_out_whole() {
        let labels = LabelSet::from_pairs([("a", "b")]);
        let mut out = vec![0; 100];
        let mut writer = Writer::new(&mut out);
        assert!(writer.series(labels.as_ref(), LabelsRef::EMPTY, &[sample(5, 1.0)]));
        let needed = writer.used();
        for (length, fits) in [(needed, true), (needed - 1, false)] {
            let mut out = vec![0; length];
            let mut writer = Writer::new(&mut out);
            assert_eq!(writer.series(labels.as_ref(), LabelsRef::EMPTY, &[sample(5, 1.0)]), fits);
            assert_eq!(writer.used(), if fits { needed } else { 0 });
        }
    }

    #[test]
    fn a_stale_marker_keeps_its_bits() {
        let labels = LabelSet::from_pairs([("a", "b")]);
        let stale = RowSample { row: 0, t_ms: 1, bits: crate::store::STALE_NAN_BITS };
        let mut out = [0; 64];
        let mut writer = Writer::new(&mut out);
        assert!(writer.series(labels.as_ref(), LabelsRef::EMPTY, &[stale]));
        let used = writer.used();
        let read = WriteRequest::decode(&out[..used]).unwrap();
        assert_eq!(read.timeseries[0].samples[0].value.to_bits(), crate::store::STALE_NAN_BITS);
    }
}
