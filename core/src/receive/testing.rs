//! The messages of remote write 1.0 as an independent library writes them.

use alloc::{string::String, vec::Vec};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<Unread>,
    #[prost(string, tag = "9")]
    pub unknown: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<WireSample>,
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<Unread>,
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Unread>,
    #[prost(fixed32, tag = "15")]
    pub unknown: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
    #[prost(uint64, tag = "7")]
    pub unknown: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct WireSample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
    #[prost(fixed64, tag = "3")]
    pub unknown: u64,
}

/// A message whose content is passed over.
#[derive(Clone, PartialEq, Message)]
pub struct Unread {
    #[prost(string, tag = "1")]
    pub text: String,
}

/// One series of a request: labels and samples.
pub type Pushed<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, f64)]);

impl WriteRequest {
    pub fn of(series: &[Pushed<'_>]) -> Self {
        let label = |(name, value): &(&str, &str)| Label { name: (*name).into(), value: (*value).into(), unknown: 0 };
        let sample = |(timestamp, value): &(i64, f64)| WireSample { value: *value, timestamp: *timestamp, unknown: 0 };
        let timeseries = series.iter().map(|(labels, samples)| TimeSeries {
            labels: labels.iter().map(label).collect(),
            samples: samples.iter().map(sample).collect(),
            ..TimeSeries::default()
        });
        Self { timeseries: timeseries.collect(), ..Self::default() }
    }

    /// The body that is posted.
    pub fn body(&self) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(&self.encode_to_vec()).expect("a short body")
    }
}
