//! From lines to the open row: those that the last page had by their columns, the others by their labels.

use super::{
    meta::MetaList,
    rows::Rows,
    sample::{self, SampleError, Scratch},
    seen::{Seen, SeenLines},
    shared::Shared,
    spec::TargetSpec,
    target::{Counts, TargetCounters},
};
use crate::{
    labels::LABELS_BYTES_MAX,
    parse::{ExpositionSink, KnownLines, LINE_BYTES_MAX, MetricKind, NoSample, SampleLine, leading_value},
    store::{ColumnId, PutOutcome, Refused, TimelineId},
};
use core::ops::ControlFlow;

/// Puts what the parser finds into the open row.
pub(super) struct RowSink<'s, R> {
    pub(super) spec: &'s TargetSpec,
    pub(super) rows: &'s mut R,
    pub(super) timeline: TimelineId,
    pub(super) instant_ms: i64,
    pub(super) counts: Counts,
    pub(super) over_sample_limit: bool,
    pub(super) refused: Option<Refused>,
    pub(super) counters: &'s mut TargetCounters,
    pub(super) scratch: Scratch,
    pub(super) buf: [u8; LABELS_BYTES_MAX],
    pub(super) meta: &'s mut MetaList,
    pub(super) seen: &'s mut SeenLines,
    pub(super) shared: &'s mut Shared,
    /// The line that is being read is the first one about its metric.
    pub(super) starts: bool,
    pub(super) error: Option<SampleError>,
}

impl<R: Rows> RowSink<'_, R> {
    /// A sample whose line is known up to its value, in `text`. Gives the bytes up to the newline; `None`, with nothing
    /// done, for what only a parse can tell.
    fn known_sample(&mut self, known_bytes: usize, column: ColumnId, text: &[u8]) -> Option<usize> {
        let (bits, value_bytes) = leading_value(text)?;
        let limit = self.spec.limits.sample_count_max;
        if text[value_bytes] != b'\n'
            || known_bytes + value_bytes > LINE_BYTES_MAX
            || limit > 0 && self.counts.kept >= limit
        {
            return None;
        }
        match self.rows.row_put_at(self.timeline, column, bits)? {
            PutOutcome::Known => {}
            PutOutcome::New => self.counts.series_added += 1,
            PutOutcome::Duplicate { .. } => self.counters.samples_duplicate += 1,
        }
        self.counts.scraped += 1;
        self.counts.kept += 1;
        Some(value_bytes)
    }

    /// Whether a known line that says something of a metric needs no reading.
    fn known_meta(&mut self, starts: bool, is_help: bool) -> bool {
        let is_in_step = self.meta.is_in_step();
        if is_in_step {
            self.meta.repeated(starts, is_help);
        }
        is_in_step
    }

    /// Puts a sample by its labels, if it counts, and tells the column that it went to.
    fn put(&mut self, line: SampleLine<'_>) -> Result<Option<ColumnId>, SampleError> {
        let labels = sample::series_labels(self.spec, line, &mut self.scratch, &mut self.buf)?;
        self.counts.kept += 1;
        let limit = self.spec.limits.sample_count_max;
        if limit > 0 && self.counts.kept > limit && !self.over_sample_limit {
            // Counting goes on, so that `scrape_samples_scraped` tells the size of the trouble.
            self.over_sample_limit = true;
            self.rows.row_abort(self.timeline);
        }
        if self.over_sample_limit {
            return Ok(None);
        }
        let own_ms = line.timestamp_ms.filter(|_| self.spec.honor_timestamps);
        let Ok(age_ms) = own_ms.map(|own_ms| sample::age_ms(self.instant_ms, own_ms)).transpose() else {
            self.counters.samples_out_of_bounds += 1;
            return Ok(None);
        };
        match self.rows.row_put(self.timeline, labels, line.value_bits, age_ms) {
            Ok((put, column)) => {
                match put {
                    PutOutcome::Known => {}
                    PutOutcome::New => self.counts.series_added += 1,
                    PutOutcome::Duplicate { .. } => self.counters.samples_duplicate += 1,
                }
                Ok(Some(column))
            }
            Err(refused) => {
                self.counters.samples_refused += 1;
                self.refused = Some(refused);
                Ok(None)
            }
        }
    }
}

impl<R: Rows> ExpositionSink for RowSink<'_, R> {
    fn known(&mut self, bytes: &[u8], kind: &mut MetricKind) -> KnownLines {
        let mut known = KnownLines::default();
        loop {
            let text = &bytes[known.bytes..];
            let Self { seen, meta, shared, .. } = self;
            let found = seen.find(text, &shared.seen, &mut |gone| {
                if matches!(gone, Seen::NoSample { what: NoSample::Help | NoSample::Kind(_), .. }) {
                    meta.lose_step();
                }
            });
            let Some(line) = found else { break };
            let value_bytes = match line.seen() {
                Seen::Sample { kind: of, column: Some(column) } if of == *kind => {
                    self.known_sample(line.bytes(), column, &text[line.bytes()..])
                }
                Seen::Sample { .. } => None,
                Seen::NoSample { what: NoSample::Other, .. } => Some(0),
                Seen::NoSample { what: NoSample::Help, starts } => self.known_meta(starts, true).then_some(0),
                Seen::NoSample { what: NoSample::Kind(told), starts } => self.known_meta(starts, false).then(|| {
                    *kind = told;
                    0
                }),
            };
            let Some(value_bytes) = value_bytes else { break };
            self.seen.keep();
            known.bytes += line.bytes() + value_bytes + 1;
            known.count += 1;
        }
        known
    }

    fn sample(&mut self, line: SampleLine<'_>) -> ControlFlow<()> {
        self.counts.scraped += 1;
        match self.put(line) {
            Ok(column) => {
                let seen = Seen::Sample { kind: line.kind, column };
                self.seen.put(line.before_value, seen, &mut self.shared.seen);
                ControlFlow::Continue(())
            }
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn help(&mut self, metric: &str, text: &str) -> ControlFlow<()> {
        self.starts = self.meta.help(metric, text, &mut self.shared.metadata);
        ControlFlow::Continue(())
    }

    fn kind(&mut self, metric: &str, kind: MetricKind) -> ControlFlow<()> {
        self.starts = self.meta.kind(metric, kind, &mut self.shared.metadata);
        ControlFlow::Continue(())
    }

    fn no_sample(&mut self, line: &[u8], what: NoSample) {
        let starts = what != NoSample::Other && self.starts;
        self.seen.put(line, Seen::NoSample { what, starts }, &mut self.shared.seen);
    }
}
