//! Answers to HTTP requests, made in bites and given to the socket in pieces.
//!
//! An answer's life: made (`Answers::add`) -> working (a bite at a time, only while its buffer has room) -> its head and
//! pieces are given out, each after the socket took the last -> removed with the last piece, or when the client left.
//! An error found before the head has left becomes an error answer; later the connection is cut, so that nobody takes
//! half an answer for a whole one.
//!
//! What all answers hold together is bounded by one pool: before a bite, an answer may use what it has and what is left.

mod federate;
mod query;
mod select;
mod stats;

pub use {
    federate::Federate,
    query::{QueryRequest, query_error},
    select::{Select, SelectKind},
    stats::Stats,
};

use super::input::RequestId;
use crate::{
    api::{ApiError, ErrorType, Json},
    labels::LabelsRef,
    promql::source::{LABELS_COST, LabelSort, Progress, Selection, Source, SourceError},
    time::Now,
};
use alloc::{boxed::Box, collections::VecDeque, format, vec::Vec};

/// Answers in the making. One more is told to come back (503).
pub const ANSWERS_COUNT_MAX: usize = 64;
/// An answer rests when its buffer holds this much.
const PIECE_BYTES: usize = 16 * 1024;

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

/// The warning under an answer that `limit` has cut; Prometheus' words (web/api/v1).
const TRUNCATED: &str = "results truncated due to limit";

pub struct Answers {
    working: VecDeque<Answer>,
    /// Heap that all of them together may use.
    bytes_max: usize,
    /// Queries that run at a time; more wait.
    query_count_max: usize,
    /// Answers that gave way to an error because the others held the memory, and those whose work failed.
    pub refused_count: u64,
    pub failed_count: u64,
}

pub struct Answer {
    pub request: RequestId,
    pub status: u16,
    pub headers: Headers,
    head_sent: bool,
    /// A first bite was taken.
    started: bool,
    /// The socket still has a piece.
    waiting: bool,
    body: Vec<u8>,
    work: Work,
}

enum Work {
    Done,
    Broken,
    Query(Box<query::QueryWork>),
    Select(Box<select::SelectWork>),
    Federate(Box<federate::FederateWork>),
    Stats(Box<stats::StatsWork>),
}

/// What one bite works with.
struct Bite<'a> {
    now: Now,
    source: &'a mut dyn Source,
    body: &'a mut Vec<u8>,
    /// Heap this answer may use: what it has, and what the others leave of the pool.
    bytes_max: usize,
    /// Whether others hold a part of the pool.
    is_shared: bool,
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
    pub fn new(bytes_max: usize, query_count_max: usize) -> Self {
        Self { working: VecDeque::new(), bytes_max, query_count_max, refused_count: 0, failed_count: 0 }
    }

    fn queries_started(&self) -> usize {
        self.working.iter().filter(|answer| answer.started && answer.is_query()).count()
    }

    pub fn is_full(&self) -> bool {
        self.working.len() >= ANSWERS_COUNT_MAX
    }

    /// Heap in use by all answers' work.
    pub fn bytes(&self) -> usize {
        self.working.iter().map(Answer::bytes).sum()
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// A large answer that would take all together over the pool gives way to an error.
    pub fn add(&mut self, answer: Answer) {
        let (bytes, bytes_others) = (answer.body.len(), self.bytes());
        let fits = bytes <= PIECE_BYTES || bytes_others == 0 || bytes_others + bytes <= self.bytes_max;
        self.refused_count += u64::from(!fits);
        self.working.push_back(if fits { answer } else { Answer::error(answer.request, &busy()) });
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
        let bytes_all = self.bytes();
        for _ in 0..self.working.len() {
            let Some(mut answer) = self.working.pop_front() else { break };
            // A query waits its turn while as many as may run at a time are running.
            let waits = !answer.started && answer.is_query() && self.queries_started() >= self.query_count_max;
            let works = !waits && answer.body.len() < PIECE_BYTES && !matches!(answer.work, Work::Done | Work::Broken);
            if works {
                answer.started = true;
                let bytes_others = bytes_all - answer.bytes();
                let is_good = answer.bite(now, source, self.bytes_max.saturating_sub(bytes_others), bytes_others > 0);
                self.failed_count += u64::from(!is_good);
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
    fn is_query(&self) -> bool {
        matches!(self.work, Work::Query(_))
    }

    /// A whole answer.
    pub fn whole(request: RequestId, status: u16, headers: Headers, body: Vec<u8>) -> Self {
        let work = Work::Done;
        Self { request, status, headers, head_sent: false, started: false, waiting: false, body, work }
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
        Self { request, status: 200, headers, head_sent: false, started: false, waiting: false, body: Vec::new(), work }
    }

    pub fn query(request: RequestId, query: QueryRequest) -> Self {
        Self::working(request, JSON, Work::Query(Box::new(query::QueryWork::new(query))))
    }

    pub fn select(request: RequestId, select: Select) -> Self {
        Self::working(request, JSON, Work::Select(Box::new(select::SelectWork::new(select))))
    }

    pub fn federate(request: RequestId, federate: Federate) -> Self {
        Self::working(request, EXPOSITION, Work::Federate(Box::new(federate::FederateWork::new(federate))))
    }

    pub fn stats(request: RequestId, stats: Stats) -> Self {
        Self::working(request, JSON, Work::Stats(Box::new(stats::StatsWork::new(stats))))
    }

    /// Heap in use: a whole answer's body, or the work's; the body beside that holds about a piece.
    fn bytes(&self) -> usize {
        match &self.work {
            Work::Done | Work::Broken => self.body.len(),
            // What it counts is freed within its bite.
            Work::Stats(work) => work.bytes(),
            Work::Query(work) => work.bytes(),
            Work::Select(work) => work.bytes(),
            Work::Federate(work) => work.bytes(),
        }
    }

    /// `false` when the work failed.
    fn bite(&mut self, now: Now, source: &mut dyn Source, bytes_max: usize, is_shared: bool) -> bool {
        let mut bite = Bite { now, source, body: &mut self.body, bytes_max, is_shared };
        let result = match &mut self.work {
            Work::Done | Work::Broken => return true,
            Work::Query(work) => work.bite(&mut bite),
            Work::Select(work) => work.bite(&mut bite),
            Work::Federate(work) => work.bite(&mut bite),
            Work::Stats(work) => work.bite(&mut bite),
        };
        let is_good = result.is_ok();
        match result {
            Ok(false) => {}
            Ok(true) => self.work = Work::Done,
            Err(error) if !self.head_sent => {
                self.status = error.kind.status();
                if matches!(self.work, Work::Federate(_)) {
                    // Not an endpoint of the API: its errors are plain text (web/federate.go).
                    (self.headers, self.body) = (TEXT, format!("{}\n", error.message).into_bytes());
                } else {
                    (self.headers, self.body) = (JSON, error.body().into_bytes());
                }
                self.work = Work::Done;
            }
            Err(_) => self.work = Work::Broken,
        }
        is_good
    }
}

impl Bite<'_> {
    /// Moves what was written into the body.
    fn give(&mut self, json: &mut Json) {
        if self.body.is_empty() {
            *self.body = json.take();
        } else {
            self.body.append(&mut json.take());
        }
    }

    /// A text that would take this answer over what it may use.
    fn out_of_memory(&self, what: &str) -> ApiError {
        if self.is_shared {
            return busy();
        }
        let text = format!(
            "{what} needs more than the {} bytes of memory that queries may use; narrow the selector or the time range, \
             or raise --memory.limit",
            self.bytes_max
        );
        ApiError::new(ErrorType::Execution, text)
    }

    /// Goes on with a selection, and then with putting it in order; true when both are done. `bytes`: heap of the work
    /// besides these two.
    fn select(
        &mut self,
        selection: &mut Selection,
        sort: &mut Option<LabelSort>,
        bytes: usize,
    ) -> Result<bool, ApiError> {
        let mut bite_left = query::BITE_SAMPLES as i64;
        let bytes_max = self.bytes_max.saturating_sub(bytes);
        if selection.progress != Progress::Done {
            selection.bytes_max = bytes_max;
            let count_max = query::BITE_SAMPLES / LABELS_COST;
            self.source.select(selection, count_max).map_err(|error| self.failed(&error))?;
            return Ok(selection.progress == Progress::Done && sort.is_none());
        }
        let Some(sorting) = sort else { return Ok(true) };
        let bytes_max = bytes_max.saturating_sub(selection.bytes());
        let is_sorted = sorting.step(self.source, selection, bytes_max, &mut bite_left);
        let is_sorted = is_sorted.map_err(|error| self.failed(&error))?;
        if is_sorted {
            *sort = None;
        }
        Ok(is_sorted)
    }

    fn failed(&self, error: &SourceError) -> ApiError {
        let hint = if self.is_shared { "; other queries use some of it now, so trying again may help" } else { "" };
        ApiError::new(ErrorType::Execution, format!("{error}{hint}"))
    }
}

/// The pool is in use by others: not this request's fault, so it is told to come back.
fn busy() -> ApiError {
    ApiError::new(ErrorType::Unavailable, "other queries are using the memory for queries; try again")
}

pub fn write_labels(json: &mut Json, labels: LabelsRef<'_>) {
    json.object(|json| {
        for (name, value) in labels.iter() {
            json.key(name).text(value);
        }
    });
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
