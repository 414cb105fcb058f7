//! Reads what exporters write: the text format 0.0.4, piece by piece as the bytes arrive.
//!
//! Prometheus' own parser (3.5) is the judge of what is accepted, down to its oddities; the tables in the tests were
//! compared with it.

mod lines;
mod number;
mod text;

pub use lines::LINE_BYTES_MAX;
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

/// Takes what the parser finds, line by line. `Break` ends the parsing with [`ParseReason::Stopped`]; the sink keeps
/// its own reason.
pub trait ExpositionSink {
    fn sample(&mut self, sample: SampleLine<'_>) -> ControlFlow<()>;
    /// `text` is unescaped.
    fn help(&mut self, metric: &str, text: &str) -> ControlFlow<()>;
    fn kind(&mut self, metric: &str, kind: MetricKind) -> ControlFlow<()>;
}

#[cfg(test)]
mod parse_tests;
