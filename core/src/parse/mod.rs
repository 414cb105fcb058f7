//! Reads what exporters write: the text format 0.0.4, piece by piece as the bytes arrive.
//!
//! Prometheus' own parser (3.5) is the judge of what is accepted, down to its oddities; the tables in the tests were
//! compared with it.

mod lines;
mod number;
mod text;

pub use lines::LINE_BYTES_MAX;
pub(crate) use number::leading_value;
pub use number::{parse_value, write_float_label};
pub use text::{LabelPair, Labels, ParseError, ParseReason, QuotedText, SampleLine, TextParser};

use core::ops::ControlFlow;

/// What a `TYPE` line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    /// `untyped`, and what no line speaks of.
    #[default]
    Unknown,
}

impl MetricKind {
    pub(crate) const ALL: [Self; 5] = [Self::Counter, Self::Gauge, Self::Histogram, Self::Summary, Self::Unknown];

    /// As `/api/v1/metadata` gives it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Unknown => "unknown",
        }
    }
}

/// Lines that were taken unparsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownLines {
    pub bytes: usize,
    pub count: u64,
}

/// What a line without a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSample {
    Help,
    Kind(MetricKind),
    /// Empty, or a comment.
    Other,
}

/// Takes what the parser finds, line by line. `Break` ends the parsing with [`ParseReason::Stopped`]; the sink keeps
/// its own reason.
pub trait ExpositionSink {
    /// Takes lines at the beginning of `bytes` that it knows, unparsed: whole ones with their newlines, and only such of
    /// which a parse would tell nothing new but the value. `kind` is what the last `TYPE` said, and is moved on by those
    /// that are taken. Asked again before each line that is parsed.
    fn known(&mut self, _bytes: &[u8], _kind: &mut MetricKind) -> KnownLines {
        KnownLines::default()
    }
    /// A line without a sample was read, after what it says was told.
    fn no_sample(&mut self, _line: &[u8], _what: NoSample) {}
    fn sample(&mut self, sample: SampleLine<'_>) -> ControlFlow<()>;
    /// `text` is unescaped.
    fn help(&mut self, metric: &str, text: &str) -> ControlFlow<()>;
    fn kind(&mut self, metric: &str, kind: MetricKind) -> ControlFlow<()>;
}

#[cfg(test)]
mod parse_tests;
