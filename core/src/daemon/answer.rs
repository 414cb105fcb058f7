//! Answers to HTTP requests, made in bites and given to the socket in pieces.
//!
//! An answer's life: made (`Answers::add`) -> working (a bite at a time, only while its buffer has room) -> its head and
//! pieces are given out, each after the socket took the last -> removed with the last piece, or when the client left.
//! An error found before the head has left becomes an error answer; later the connection is cut, so that nobody takes
//! half an answer for a whole one.

use super::input::RequestId;
use crate::{
    api::{ApiError, ErrorType, Json},
    labels::{LabelSet, Matcher},
    number::GoFloat,
    promql::{
        AnnotationLevel, Point, Progress, Query, QueryError, ValueType,
        source::{Selected, Source},
    },
    store::{STALE_NAN_BITS, Sample},
    time::Now,
};
use alloc::{boxed::Box, collections::VecDeque, format, vec::Vec};
use core::fmt::Write;

/// Answers in the making. One more is told to come back (503).
pub const ANSWERS_COUNT_MAX: usize = 64;
/// An answer rests when its buffer holds this much.
const PIECE_BYTES: usize = 16 * 1024;
/// Samples one bite of a query may read: about a millisecond on a slow core.
const BITE_SAMPLES: usize = 20_000;

/// Headers of an answer. Any page may read the API, as with Prometheus' default `--web.cors.origin`.
pub type Headers = &'static [(&'static str, &'static str)];
pub const JSON: Headers = &[("Content-Type", "application/json"), ("Access-Control-Allow-Origin", "*")];
pub const TEXT: Headers = &[("Content-Type", TEXT_TYPE)];
pub const EXPOSITION: Headers = &[("Content-Type", "text/plain; version=0.0.4; charset=utf-8")];
pub const PREFLIGHT: Headers = &[
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS"),
    ("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, Origin"),
];
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

#[derive(Default)]
pub struct Answers {
    working: VecDeque<Answer>,
}

pub struct Answer {
    pub request: RequestId,
    pub status: u16,
    pub headers: Headers,
    head_sent: bool,
    /// The socket still has a piece.
    waiting: bool,
    body: Vec<u8>,
    work: Work,
}

enum Work {
    Done,
    Broken,
    Query(Box<QueryWork>),
    Select(Box<SelectWork>),
    Federate(Box<FederateWork>),
}

/// What `poll_output` can do next.
pub enum Step<'b> {
    Head {
        request: RequestId,
        status: u16,
        headers: Headers,
    },
    Piece {
        request: RequestId,
        bytes: &'b [u8],
        last: bool,
        broken: bool,
    },
    /// A bite was taken; there may be more to do.
    Worked,
    Idle,
}

impl Answers {
    pub fn is_full(&self) -> bool {
        self.working.len() >= ANSWERS_COUNT_MAX
    }

    pub fn len(&self) -> usize {
        self.working.len()
    }

    pub fn is_empty(&self) -> bool {
        self.working.is_empty()
    }

    /// Queries being worked on.
    pub fn query_count(&self) -> usize {
        self.working.iter().filter(|answer| matches!(answer.work, Work::Query(_))).count()
    }

    pub fn add(&mut self, answer: Answer) {
        self.working.push_back(answer);
    }

    pub fn ready(&mut self, request: RequestId) {
        if let Some(answer) = self.working.iter_mut().find(|answer| answer.request == request) {
            answer.waiting = false;
        }
    }

    pub fn gone(&mut self, request: RequestId) {
        self.working.retain(|answer| answer.request != request);
    }

    /// Gives out a head or a piece if one is ready; else takes one bite of the answer whose turn it is.
    pub fn step<'b>(&mut self, now: Now, source: &mut dyn Source, buf: &'b mut [u8]) -> Step<'b> {
        for index in 0..self.working.len() {
            let answer = &mut self.working[index];
            if answer.waiting {
                continue;
            }
            let done = matches!(answer.work, Work::Done);
            let broken = matches!(answer.work, Work::Broken);
            if !(done || broken || answer.body.len() >= PIECE_BYTES) {
                continue;
            }
            if !answer.head_sent {
                answer.head_sent = true;
                let Answer { request, status, headers, .. } = *answer;
                return Step::Head { request, status, headers };
            }
            let length = answer.body.len().min(buf.len());
            buf[..length].copy_from_slice(&answer.body[..length]);
            answer.body.drain(..length);
            let last = (done || broken) && answer.body.is_empty();
            answer.waiting = true;
            let request = answer.request;
            if last {
                self.working.remove(index);
            }
            return Step::Piece { request, bytes: &buf[..length], last, broken: broken && last };
        }
        // Round robin: the one that worked goes to the end of the queue.
        for _ in 0..self.working.len() {
            let Some(mut answer) = self.working.pop_front() else { break };
            let works = answer.body.len() < PIECE_BYTES && !matches!(answer.work, Work::Done | Work::Broken);
            if works {
                answer.bite(now, source);
            }
            self.working.push_back(answer);
            if works {
                return Step::Worked;
            }
        }
        Step::Idle
    }
}

impl Answer {
    /// A whole answer.
    pub fn whole(request: RequestId, status: u16, headers: Headers, body: Vec<u8>) -> Self {
        let work = Work::Done;
        Self { request, status, headers, head_sent: false, waiting: false, body, work }
    }

    pub fn text(request: RequestId, status: u16, text: &str) -> Self {
        Self::whole(request, status, TEXT, text.as_bytes().to_vec())
    }

    pub fn error(request: RequestId, error: &ApiError) -> Self {
        Self::whole(request, error.kind.status(), JSON, error.body().into_bytes())
    }

    /// `{"status":"success","data":...}` around what `data` writes.
    pub fn success(request: RequestId, data: impl FnOnce(&mut Json)) -> Self {
        let mut json = Json::default();
        json.object(|json| {
            json.key("status").text("success");
            json.key("data");
            data(json);
        });
        Self::whole(request, 200, JSON, json.into_bytes())
    }

    /// 405, with what is allowed instead.
    pub fn method_not_allowed(request: RequestId, headers: Headers) -> Self {
        Self::whole(request, 405, headers, b"Method Not Allowed\n".to_vec())
    }

    fn working(request: RequestId, headers: Headers, work: Work) -> Self {
        Self { request, status: 200, headers, head_sent: false, waiting: false, body: Vec::new(), work }
    }

    pub fn query(request: RequestId, query: Query, limit: usize, deadline_mono_ms: u64) -> Self {
        let work = QueryWork { query, json: Json::default(), limit, written: 0, opened: false, deadline_mono_ms };
        Self::working(request, JSON, Work::Query(Box::new(work)))
    }

    pub fn select(request: RequestId, select: Select) -> Self {
        let work = SelectWork { select, next: 0, selection: Vec::new() };
        Self::working(request, JSON, Work::Select(Box::new(work)))
    }

    pub fn federate(request: RequestId, federate: Federate) -> Self {
        let work =
            FederateWork { federate, next_matchers: 0, selection: Vec::new(), next: 0, last_name: LabelSet::default() };
        Self::working(request, EXPOSITION, Work::Federate(Box::new(work)))
    }

    fn bite(&mut self, now: Now, source: &mut dyn Source) {
        let result = match &mut self.work {
            Work::Done | Work::Broken => return,
            Work::Query(work) => work.bite(now, source, &mut self.body),
            Work::Select(work) => work.bite(source, &mut self.body),
            Work::Federate(work) => work.bite(source, &mut self.body),
        };
        match result {
            Ok(false) => {}
            Ok(true) => self.work = Work::Done,
            Err(error) if !self.head_sent => {
                (self.status, self.headers) = (error.kind.status(), JSON);
                self.body = error.body().into_bytes();
                self.work = Work::Done;
            }
            Err(_) => self.work = Work::Broken,
        }
    }
}

struct QueryWork {
    query: Query,
    json: Json,
    /// Series in the answer; 0: no limit.
    limit: usize,
    written: usize,
    opened: bool,
    deadline_mono_ms: u64,
}

impl QueryWork {
    fn bite(&mut self, now: Now, source: &mut dyn Source, body: &mut Vec<u8>) -> Result<bool, ApiError> {
        if now.mono_ms >= self.deadline_mono_ms {
            return Err(ApiError::new(ErrorType::Timeout, "query timed out in expression evaluation"));
        }
        let progress = self.query.advance(source, BITE_SAMPLES).map_err(query_error)?;
        let done = match progress {
            Progress::More => return Ok(false),
            Progress::Series if self.limit > 0 && self.written == self.limit => true,
            Progress::Series => {
                self.open();
                self.series();
                false
            }
            Progress::Done => true,
        };
        if done {
            self.open();
            let value_type = self.query.value_type();
            if matches!(value_type, ValueType::Vector | ValueType::Matrix) {
                self.json.close("]");
            }
            self.json.close("}");
            self.annotations();
            self.json.close("}");
        }
        body.append(&mut self.json.take());
        Ok(done)
    }

    fn open(&mut self) {
        if self.opened {
            return;
        }
        self.opened = true;
        let value_type = self.query.value_type();
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

    fn series(&mut self) {
        let value_type = self.query.value_type();
        let Some(series) = self.query.take_series() else { return };
        self.written += 1;
        let json = &mut self.json;
        match (value_type, series.points.first()) {
            (ValueType::Scalar, Some(point)) => write_point(json, point),
            (ValueType::String, Some(point)) => {
                json.array(|json| {
                    json.timestamp(point.t_ms);
                    json.text(series.text.as_deref().unwrap_or(""));
                });
            }
            (ValueType::Vector, Some(point)) => {
                json.object(|json| {
                    json.key("metric");
                    write_labels(json, &series.labels);
                    json.key("value");
                    write_point(json, point);
                });
            }
            (ValueType::Matrix, _) => {
                json.object(|json| {
                    json.key("metric");
                    write_labels(json, &series.labels);
                    json.key("values").array(|json| {
                        for point in &series.points {
                            write_point(json, point);
                        }
                    });
                });
            }
            (_, None) => {}
        }
    }

    /// `warnings` and `infos`, where there are any.
    fn annotations(&mut self) {
        for (key, level) in [("warnings", AnnotationLevel::Warning), ("infos", AnnotationLevel::Info)] {
            let mut texts = self.query.annotations().iter().filter(|annotation| annotation.level == level).peekable();
            if texts.peek().is_some() {
                self.json.key(key).array(|json| {
                    for annotation in texts {
                        json.text(&annotation.text);
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

pub fn write_labels(json: &mut Json, labels: &LabelSet) {
    json.object(|json| {
        for (name, value) in labels.iter() {
            json.key(name).text(value);
        }
    });
}

/// A request for series, label names or label values.
pub struct Select {
    pub kind: SelectKind,
    /// Each list is one `match[]`; none selects everything.
    pub matcher_lists: Vec<Vec<Matcher>>,
    pub start_ms: i64,
    pub end_ms: i64,
    /// 0: no limit.
    pub limit: usize,
    pub bytes_max: usize,
}

pub enum SelectKind {
    Series,
    LabelNames,
    LabelValues(Box<str>),
}

struct SelectWork {
    select: Select,
    next: usize,
    selection: Vec<Selected>,
}

impl SelectWork {
    /// One matcher list per bite; the answer with the last.
    fn bite(&mut self, source: &mut dyn Source, body: &mut Vec<u8>) -> Result<bool, ApiError> {
        let Select { matcher_lists, start_ms, end_ms, bytes_max, .. } = &self.select;
        if self.next == 0 && matcher_lists.is_empty() {
            select(source, &[], *start_ms, *end_ms, *bytes_max, &mut self.selection)?;
        } else if let Some(matchers) = matcher_lists.get(self.next) {
            select(source, matchers, *start_ms, *end_ms, *bytes_max, &mut self.selection)?;
            self.next += 1;
            if self.next < matcher_lists.len() {
                return Ok(false);
            }
        }
        let Answer { body: mut whole, .. } = self.answer();
        body.append(&mut whole);
        Ok(true)
    }

    fn answer(&mut self) -> Answer {
        let limit = if self.select.limit == 0 { usize::MAX } else { self.select.limit };
        let request = RequestId(0);
        match &self.select.kind {
            SelectKind::Series => {
                self.selection.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
                self.selection.dedup_by(|a, b| a.labels == b.labels);
                Answer::success(request, |json| {
                    json.array(|json| {
                        for selected in self.selection.iter().take(limit) {
                            write_labels(json, &selected.labels);
                        }
                    });
                })
            }
            SelectKind::LabelNames => texts(
                request,
                limit,
                self.selection.iter().flat_map(|selected| selected.labels.iter().map(|(name, _)| name)),
            ),
            SelectKind::LabelValues(name) => {
                texts(request, limit, self.selection.iter().filter_map(|selected| selected.labels.get(name)))
            }
        }
    }
}

fn texts<'t>(request: RequestId, limit: usize, texts: impl Iterator<Item = &'t str>) -> Answer {
    let sorted: alloc::collections::BTreeSet<&str> = texts.collect();
    Answer::success(request, |json| {
        json.array(|json| {
            for text in sorted.into_iter().take(limit) {
                json.text(text);
            }
        });
    })
}

fn select(
    source: &mut dyn Source,
    matchers: &[Matcher],
    start_ms: i64,
    end_ms: i64,
    bytes_max: usize,
    selection: &mut Vec<Selected>,
) -> Result<(), ApiError> {
    source
        .select(matchers, start_ms, end_ms, bytes_max, selection)
        .map_err(|error| ApiError::new(ErrorType::Execution, format!("{error}")))
}

/// A request to `/federate`.
pub struct Federate {
    pub matcher_lists: Vec<Vec<Matcher>>,
    pub now_ms: i64,
    pub lookback_ms: i64,
    pub external_labels: LabelSet,
    pub bytes_max: usize,
}

struct FederateWork {
    federate: Federate,
    next_matchers: usize,
    selection: Vec<Selected>,
    next: usize,
    /// The name whose TYPE line was written last.
    last_name: LabelSet,
}

impl FederateWork {
    /// Selects one list per bite, then writes some series per bite: the newest sample within the look-back, external
    /// labels where absent, `instance=""` where there is none (web/federate.go).
    fn bite(&mut self, source: &mut dyn Source, body: &mut Vec<u8>) -> Result<bool, ApiError> {
        let Federate { matcher_lists, now_ms, lookback_ms, external_labels, bytes_max } = &self.federate;
        let (start_ms, end_ms) = (now_ms - lookback_ms + 1, *now_ms);
        if let Some(matchers) = matcher_lists.get(self.next_matchers) {
            select(source, matchers, start_ms, end_ms, *bytes_max, &mut self.selection)?;
            self.next_matchers += 1;
            if self.next_matchers == matcher_lists.len() {
                let name = |selected: &Selected| selected.labels.as_ref().metric_name().len();
                self.selection.sort_unstable_by(|a, b| {
                    let by_name = a.labels.as_ref().metric_name().cmp(b.labels.as_ref().metric_name());
                    by_name.then_with(|| a.labels.cmp(&b.labels)).then_with(|| name(a).cmp(&name(b)))
                });
                self.selection.dedup_by(|a, b| a.labels == b.labels);
            }
            return Ok(false);
        }
        let mut samples: Vec<Sample> = Vec::new();
        for _ in 0..64 {
            let Some(selected) = self.selection.get(self.next) else { return Ok(true) };
            self.next += 1;
            samples.clear();
            source
                .read(selected, start_ms, end_ms, &mut samples)
                .map_err(|error| ApiError::new(ErrorType::Execution, format!("{error}")))?;
            let Some(sample) = samples.last().filter(|sample| sample.value.to_bits() != STALE_NAN_BITS) else {
                continue;
            };
            let name = selected.labels.as_ref().metric_name();
            let mut line = alloc::string::String::new();
            if self.last_name.as_ref().metric_name() != name {
                self.last_name = LabelSet::from_pairs([(crate::labels::NAME, name)]);
                put(&mut line, format_args!("# TYPE {name} untyped\n"));
            }
            let mut labels: Vec<(&str, &str)> =
                selected.labels.iter().filter(|(label, _)| *label != crate::labels::NAME).collect();
            for (label, value) in external_labels.iter() {
                if selected.labels.get(label).is_none() {
                    labels.push((label, value));
                }
            }
            labels.sort_unstable();
            put(&mut line, format_args!("{name}{{"));
            for (index, (label, value)) in labels.iter().enumerate() {
                put(&mut line, format_args!("{}{label}=\"{}\"", if index > 0 { "," } else { "" }, Escaped(value)));
            }
            if !labels.iter().any(|(label, _)| *label == "instance") {
                put(&mut line, format_args!("{}instance=\"\"", if labels.is_empty() { "" } else { "," }));
            }
            put(&mut line, format_args!("}} {} {}\n", GoFloat::G(sample.value), sample.t_ms));
            body.extend_from_slice(line.as_bytes());
        }
        Ok(false)
    }
}

fn put(line: &mut alloc::string::String, args: core::fmt::Arguments<'_>) {
    let written = line.write_fmt(args);
    assert!(written.is_ok(), "writing into a string does not fail");
}

/// A label value as the text format escapes it: backslash, quote and newline.
pub struct Escaped<'a>(pub &'a str);

impl core::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
