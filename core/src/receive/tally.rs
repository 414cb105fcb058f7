//! What became of a request's samples, and the answer in words.

use crate::{
    labels::{LabelsError, LabelsRef},
    number::GoFloat,
    store::Refused,
    time::Rfc3339,
};
use alloc::{format, string::String};

/// Why a sample is refused. The rest of its request is stored.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Cause {
    #[error("the series has no metric name")]
    NoName,
    #[error("a label is not UTF-8")]
    NotUtf8,
    #[error("{0}")]
    Labels(LabelsError),
    /// Prometheus' words, as for the next two.
    #[error("out of bounds: timestamp is too far in the future")]
    Future,
    #[error("out of bounds")]
    Past,
    #[error(
        "duplicate sample for timestamp {t_ms}; overrides not allowed: existing {}, new value {}",
        GoFloat::G(f64::from_bits(*.existing)),
        GoFloat::G(f64::from_bits(*.new))
    )]
    Duplicate { t_ms: i64, existing: u64, new: u64 },
    #[error("native histograms are not stored yet; send classic ones")]
    Histogram,
    #[error("{0}")]
    Room(Refused),
    #[error("{pusher_count_max} pairs of job and instance are pushing already; push fewer, or raise --memory.limit")]
    Pushers { pusher_count_max: usize },
}

impl Cause {
    /// Names of the kinds of causes, as our own metrics label them.
    pub const KINDS: [&'static str; 5] = ["labels", "out of bounds", "duplicate", "native histogram", "no room"];

    fn kind(&self) -> usize {
        match self {
            Self::NoName | Self::NotUtf8 | Self::Labels(_) => 0,
            Self::Future | Self::Past => 1,
            Self::Duplicate { .. } => 2,
            Self::Histogram => 3,
            Self::Room(_) | Self::Pushers { .. } => 4,
        }
    }
}

/// Counts of one request, or of all.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub samples: u64,
    /// Stored by this request; the others, if not refused, were there already with the same value.
    pub stored: u64,
    pub exemplars: u64,
    pub metadata: u64,
    pub refused: [u64; Cause::KINDS.len()],
    /// The first of each kind, in words.
    first: [String; Cause::KINDS.len()],
    refused_span_ms: Option<(i64, i64)>,
}

impl Tally {
    pub fn refuse(&mut self, cause: Cause, labels: LabelsRef<'_>, t_ms: Option<i64>) {
        let kind = cause.kind();
        self.refused[kind] += 1;
        if let Some(t_ms) = t_ms {
            let (from_ms, to_ms) = self.refused_span_ms.unwrap_or((t_ms, t_ms));
            self.refused_span_ms = Some((from_ms.min(t_ms), to_ms.max(t_ms)));
        }
        if self.first[kind].is_empty() {
            let at = t_ms.map_or(String::new(), |t_ms| format!(" at {}", Rfc3339(t_ms)));
            self.first[kind] = format!("{cause}: {labels}{at}");
        }
    }

    pub fn refused_count(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// A refused sample with its reason, if there is one.
    pub fn first_refusal(&self) -> Option<&str> {
        self.first.iter().find(|first| !first.is_empty()).map(String::as_str)
    }

    /// Hull of the timestamps of what was refused.
    pub fn refused_span_ms(&self) -> Option<(i64, i64)> {
        self.refused_span_ms
    }

    /// What is told to whoever sent refused samples: a line for each kind of cause. Senders log the first line.
    pub fn refusals(&self) -> String {
        let kinds = self.refused.iter().zip(&self.first).filter(|(count, _)| **count > 0);
        let lines = kinds.map(|(count, first)| {
            let others = match count - 1 {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            format!(
                "{first}{others}; {} of {} samples are refused, the rest is stored\n",
                self.refused_count(),
                self.samples
            )
        });
        lines.collect()
    }

    /// Adds a request's counts to those of all.
    pub fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.stored += other.stored;
        self.exemplars += other.exemplars;
        self.metadata += other.metadata;
        for (all, one) in self.refused.iter_mut().zip(&other.refused) {
            *all += one;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::LabelSet;

    #[test]
    fn refusals_name_the_first_sample_of_each_kind_and_count_the_others() {
        let labels = LabelSet::from_pairs([("__name__", "up"), ("job", "node")]);
        let mut tally = Tally { samples: 9, ..Tally::default() };
        assert_eq!(tally.refusals(), "");
        tally.refuse(Cause::Past, labels.as_ref(), Some(-5));
        tally.refuse(Cause::Future, labels.as_ref(), Some(7));
        let (existing, new) = (1.5_f64.to_bits(), f64::INFINITY.to_bits());
        tally.refuse(Cause::Duplicate { t_ms: 1_000, existing, new }, labels.as_ref(), Some(1_000));
        tally.refuse(Cause::Histogram, labels.as_ref(), None);
        assert_eq!(
            tally.refusals(),
            "out of bounds: up{job=\"node\"} at 1969-12-31T23:59:59.995Z and 1 more; 4 of 9 samples are refused, the rest \
             is stored\n\
             duplicate sample for timestamp 1000; overrides not allowed: existing 1.5, new value +Inf: up{job=\"node\"} at \
             1970-01-01T00:00:01Z; 4 of 9 samples are refused, the rest is stored\n\
             native histograms are not stored yet; send classic ones: up{job=\"node\"}; 4 of 9 samples are refused, the \
             rest is stored\n"
        );
    }
}
