//! The answer to `query` and `query_range`: series are written as the query yields them.
//!
//! Prometheus gives a matrix in the order of its labels. A query that yields its series in another order is gathered
//! first, charged to its meter; where that does not fit, the series come as they are and an info says so.

use super::{Bite, PIECE_BYTES, TRUNCATED, busy, write_labels};
use crate::{
    api::{ApiError, ErrorType, Json},
    number::GoFloat,
    promql::{AnnotationLevel, Point, Progress, Query, QueryError, ResultSeries, ValueType},
};
use alloc::{collections::VecDeque, format, vec::Vec};

/// Samples one bite of a query may read: about a millisecond on a slow core.
pub(super) const BITE_SAMPLES: usize = 20_000;
/// Points written before the size of what is written is looked at.
const POINTS_AT_ONCE: usize = 64;

const NOT_IN_ORDER: &str =
    "the series are not in order of their labels: to sort them would take more memory than the query may use";

pub struct QueryRequest {
    pub query: Query,
    /// Series in the answer; 0: no limit.
    pub limit: usize,
    pub started_mono_ms: u64,
    pub deadline_mono_ms: u64,
    /// `stats=` was asked for.
    pub stats: bool,
}

pub struct QueryWork {
    request: QueryRequest,
    json: Json,
    written: usize,
    opened: bool,
    /// Series gathered to be sorted, while the query goes on; then those that are still to be written.
    held: VecDeque<ResultSeries>,
    /// The series that did not fit there.
    behind_held: Option<ResultSeries>,
    stage: Stage,
    /// A series whose points are being written, and the next of them.
    writing: Option<(Vec<Point>, usize)>,
    truncated: bool,
    not_in_order: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing has come yet.
    New,
    /// Series are written as they come.
    Streaming,
    /// Series are held until all have come.
    Gathering,
    /// The query is over.
    Over,
}

impl QueryWork {
    pub fn new(request: QueryRequest) -> Self {
        Self {
            request,
            json: Json::default(),
            written: 0,
            opened: false,
            held: VecDeque::new(),
            behind_held: None,
            stage: Stage::New,
            writing: None,
            truncated: false,
            not_in_order: false,
        }
    }

    pub fn bytes(&self) -> usize {
        self.request.query.bytes()
    }

    pub fn bite(&mut self, bite: &mut Bite<'_>) -> Result<bool, ApiError> {
        if bite.now.mono_ms >= self.request.deadline_mono_ms {
            return Err(ApiError::new(ErrorType::Timeout, "query timed out in expression evaluation"));
        }
        let done = self.advance(bite)?;
        if self.json.len() >= PIECE_BYTES || done {
            bite.give(&mut self.json);
        }
        Ok(done)
    }

    fn advance(&mut self, bite: &mut Bite<'_>) -> Result<bool, ApiError> {
        if self.writing.is_some() {
            self.write_points();
            return Ok(false);
        }
        if self.stage != Stage::Gathering
            && let Some(series) = self.held.pop_front()
        {
            self.request.query.release_held(&series);
            self.begin(series);
            return Ok(false);
        }
        if let Some(series) = self.behind_held.take() {
            self.begin(series);
            return Ok(false);
        }
        if self.stage == Stage::Over {
            self.close(bite.now.mono_ms);
            return Ok(true);
        }
        self.request.query.set_bytes_max(bite.bytes_max);
        let progress = self.request.query.advance(bite.source, BITE_SAMPLES).map_err(|error| match error {
            QueryError::Memory { .. } if bite.is_shared => busy(),
            error => query_error(error),
        })?;
        match progress {
            Progress::More => {}
            Progress::Series => {
                if self.stage == Stage::New {
                    self.stage = if self.request.query.is_in_order() { Stage::Streaming } else { Stage::Gathering };
                }
                if let Some(series) = self.request.query.take_series() {
                    self.take(series);
                }
            }
            Progress::Done => {
                if self.stage == Stage::Gathering {
                    self.held.make_contiguous().sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
                }
                self.stage = Stage::Over;
            }
        }
        Ok(false)
    }

    fn take(&mut self, series: ResultSeries) {
        if self.stage == Stage::Gathering {
            if self.request.query.charge_held(&series) {
                return self.held.push_back(series);
            }
            // Given up: what is held is written first. This one waits as it is, counted as the query's current result.
            (self.stage, self.not_in_order) = (Stage::Streaming, true);
            self.behind_held = Some(series);
            return;
        }
        self.begin(series);
    }

    fn begin(&mut self, series: ResultSeries) {
        if self.request.limit > 0 && self.written == self.request.limit {
            self.truncated = true;
            self.stage = Stage::Over;
            self.behind_held = None;
            return self.held.clear();
        }
        self.open();
        let value_type = self.request.query.value_type();
        let json = &mut self.json;
        match (value_type, series.points.first()) {
            (ValueType::Scalar, Some(point)) => {
                json.array(|json| {
                    json.timestamp(point.t_ms);
                    json.display(GoFloat::F(point.value));
                });
            }
            (ValueType::String, Some(point)) => {
                json.array(|json| {
                    json.timestamp(point.t_ms);
                    json.text(series.text.as_deref().unwrap_or(""));
                });
            }
            (ValueType::Vector, Some(point)) => {
                json.object(|json| {
                    json.key("metric");
                    write_labels(json, series.labels.as_ref());
                    json.key("value");
                    write_point(json, point);
                });
            }
            (ValueType::Matrix, _) => {
                json.open("{").key("metric");
                write_labels(json, series.labels.as_ref());
                json.key("values").open("[");
                self.writing = Some((series.points, 0));
                self.write_points();
            }
            (_, None) => return,
        }
        self.written += 1;
    }

    /// Goes on with a series' points until a piece is full or the series is whole.
    fn write_points(&mut self) {
        let Some((points, next)) = &mut self.writing else { return };
        while *next < points.len() && self.json.len() < PIECE_BYTES {
            let end = points.len().min(*next + POINTS_AT_ONCE);
            for point in &points[*next..end] {
                write_point(&mut self.json, point);
            }
            *next = end;
        }
        if *next == points.len() {
            self.json.close("]").close("}");
            self.writing = None;
        }
    }

    fn open(&mut self) {
        if self.opened {
            return;
        }
        self.opened = true;
        let value_type = self.request.query.value_type();
        let json = &mut self.json;
        json.open("{").key("status").text("success").key("data").open("{");
        json.key("resultType").text(match value_type {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        });
        json.key("result");
        if matches!(value_type, ValueType::Vector | ValueType::Matrix) {
            json.open("[");
        }
    }

    fn close(&mut self, now_mono_ms: u64) {
        self.open();
        if matches!(self.request.query.value_type(), ValueType::Vector | ValueType::Matrix) {
            self.json.close("]");
        }
        if self.request.stats {
            self.stats(now_mono_ms);
        }
        self.json.close("}");
        self.annotations();
        self.json.close("}");
    }

    /// What Prometheus tells with `stats`. Bites share the thread, so there is only one time: from the request to now.
    fn stats(&mut self, now_mono_ms: u64) {
        let seconds = now_mono_ms.saturating_sub(self.request.started_mono_ms) as f64 / 1000.0;
        let samples = self.request.query.samples();
        self.json.key("stats").object(|json| {
            json.key("timings").object(|json| {
                json.key("evalTotalTime").plain(seconds);
                for key in ["resultSortTime", "queryPreparationTime"] {
                    json.key(key).plain(0);
                }
                json.key("innerEvalTime").plain(seconds);
                json.key("execQueueTime").plain(0);
                json.key("execTotalTime").plain(seconds);
            });
            json.key("samples").object(|json| {
                json.key("totalQueryableSamples").plain(samples);
                json.key("peakSamples").plain(samples);
            });
        });
    }

    /// `warnings` and `infos`, where there are any.
    fn annotations(&mut self) {
        let ours = [
            (AnnotationLevel::Warning, self.truncated.then_some(TRUNCATED)),
            (AnnotationLevel::Info, self.not_in_order.then_some(NOT_IN_ORDER)),
        ];
        for (key, level) in [("warnings", AnnotationLevel::Warning), ("infos", AnnotationLevel::Info)] {
            let found = self.request.query.annotations().iter().filter(|annotation| annotation.level == level);
            let ours = ours.iter().filter(|(of, _)| *of == level).filter_map(|(_, text)| *text);
            let mut texts = found.map(|annotation| annotation.text.as_str()).chain(ours).peekable();
            if texts.peek().is_some() {
                self.json.key(key).array(|json| {
                    for text in texts {
                        json.text(text);
                    }
                });
            }
        }
    }
}

pub fn query_error(error: QueryError) -> ApiError {
    ApiError::new(ErrorType::Execution, format!("{error}"))
}

fn write_point(json: &mut Json, point: &Point) {
    json.array(|json| {
        json.timestamp(point.t_ms);
        json.display(GoFloat::Json(point.value));
    });
}
