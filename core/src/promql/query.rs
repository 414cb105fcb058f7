//! A query that is being answered: a plan, a meter, and what the last bite found.

use super::{
    ast::{Expr, ExprKind, Span, ValueType},
    eval::{self, Annotations, Context, Grid, Meter, Next, Opened, Operator, Series, Values, selector::Windows},
    functions::Shape,
    plan::Planner,
    source::{Snapshot, Source},
};
use crate::labels::{LabelSet, LabelsBuf};
use alloc::{boxed::Box, format, rc::Rc, string::String, vec, vec::Vec};

/// The instants a query is evaluated at, wall milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    Instant {
        t_ms: i64,
    },
    /// `start_ms`, then every `step_ms` up to and including `end_ms`.
    Range {
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryOptions {
    /// How far an instant selector looks back for a sample; Prometheus' default is 5 minutes.
    pub lookback_delta_ms: i64,
    /// Most samples (points of buffers and intermediate results) held in memory at once.
    pub samples_max: u64,
    /// Most heap this query may use, in bytes, the result series being taken included.
    pub bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub t_ms: i64,
    pub value: f64,
}

/// One series of the result, with all its points in ascending order. Scalars and strings have no labels.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultSeries {
    pub labels: LabelSet,
    pub points: Vec<Point>,
    /// The text, when the query's type is `String`; `points` then has one point that only gives the time.
    pub text: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The bite is used up; call again.
    More,
    /// [`Query::take_series`] has a series; take it and call again.
    Series,
    /// Nothing follows.
    Done,
}

/// Why a query failed. The texts are Prometheus' where clients could look at them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("{0}")]
    Execution(Box<str>),
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    #[error(
        "the query needs more than its {bytes_max} bytes of memory; select fewer series, a shorter range or a larger step"
    )]
    Memory { bytes_max: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationLevel {
    Warning,
    Info,
}

/// What a client should know about an answer that is not an error (`warnings` and `infos` of the API).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    pub level: AnnotationLevel,
    /// As Prometheus words it, with `PromQL warning: ` or `PromQL info: ` in front and the position behind.
    pub text: String,
}

enum Root {
    Series(Box<dyn Operator>),
    /// A range vector asked for at one instant: the raw samples.
    Samples(Box<dyn Windows>),
    Text(Option<Box<str>>),
}

/// One query between its first and its last bite. Holds no reference to the source.
pub struct Query {
    root: Root,
    value_type: ValueType,
    grid: Grid,
    /// Taken with the first bite.
    snapshot: Option<Rc<Snapshot>>,
    meter: Meter,
    annotations: Annotations,
    useless_sorts: Vec<Span>,
    opened: Option<Series>,
    labels: LabelsBuf,
    buffer: Values,
    /// A range vector's series whose window is being read.
    reading: Option<usize>,
    result: Option<ResultSeries>,
    /// The largest result so far; each is freed by whoever took it.
    result_bytes_charged: usize,
    is_done: bool,
}

impl Query {
    /// Plans `expr`. Fails when a range vector or a string is asked for over a range, when the window is empty or has no
    /// step, and for arguments that only this looks at (patterns, label names).
    pub fn new(expr: &Expr, window: Window, options: QueryOptions) -> Result<Self, QueryError> {
        let (grid, is_range) = match window {
            Window::Instant { t_ms } => (Grid { start_ms: t_ms, step_ms: 1, count: 1 }, false),
            Window::Range { start_ms, end_ms, step_ms } => (range_grid(start_ms, end_ms, step_ms)?, true),
        };
        let found = expr.value_type();
        if is_range && !matches!(found, ValueType::Scalar | ValueType::Vector) {
            return Err(eval::execution(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                found.text()
            )));
        }
        let end_ms = if let Window::Range { end_ms, .. } = window { end_ms } else { grid.start_ms };
        let planner = Planner {
            start_ms: grid.start_ms,
            end_ms,
            lookback_delta_ms: options.lookback_delta_ms,
            is_range,
            order: eval::selector::Order::Labels,
        };
        let root = match found {
            ValueType::Scalar | ValueType::Vector => Root::Series(planner.operator(expr, grid)?),
            ValueType::Matrix => Root::Samples(planner.windows(expr, grid)?),
            ValueType::String => Root::Text(match &expr.unwrap_parens().kind {
                ExprKind::Text(text) => Some(text.clone()),
                _ => None,
            }),
        };
        Ok(Self {
            root,
            value_type: if is_range { ValueType::Matrix } else { found },
            grid,
            snapshot: None,
            meter: Meter::new(options.bytes_max, options.samples_max),
            annotations: Annotations::new(vec![0]),
            useless_sorts: if is_range { sorts_of(expr) } else { Vec::new() },
            opened: None,
            labels: LabelsBuf::default(),
            buffer: Values::new(),
            reading: None,
            result: None,
            result_bytes_charged: 0,
            is_done: false,
        })
    }

    /// Gives annotations the lines of the query's text for their positions; without it all is line 1.
    pub fn with_text(mut self, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        self.annotations = Annotations::new([0].into_iter().chain(breaks).collect());
        self
    }

    /// The API's `resultType`; a range query's result is always a matrix.
    pub fn value_type(&self) -> ValueType {
        self.value_type
    }

    /// One bite: reads or computes about `bite_samples` samples, then says how things stand. After an error the query
    /// is over.
    pub fn advance(&mut self, source: &mut dyn Source, bite_samples: usize) -> Result<Progress, QueryError> {
        if self.result.is_some() {
            return Ok(Progress::Series);
        }
        if self.is_done {
            return Ok(Progress::Done);
        }
        let snapshot = match &self.snapshot {
            Some(taken) => Rc::clone(taken),
            None => {
                let taken = Rc::new(source.snapshot());
                self.meter.charge(taken.bytes())?;
                Rc::clone(self.snapshot.insert(taken))
            }
        };
        let mut context = Context {
            source,
            snapshot: &snapshot,
            bite_left: i64::try_from(bite_samples).unwrap_or(i64::MAX).max(1),
            meter: &mut self.meter,
            annotations: &mut self.annotations,
        };
        for span in self.useless_sorts.drain(..) {
            let text = "sort is ineffective for range queries since results are always ordered by labels";
            context.annotations.warn(span, text);
        }
        if self.opened.is_none() {
            let opened = match &mut self.root {
                Root::Series(operator) => operator.open(&mut context)?,
                Root::Samples(windows) => windows.open(&mut context)?,
                Root::Text(_) => Opened::Ready(Series::ONE),
            };
            let Opened::Ready(series) = opened else { return Ok(Progress::More) };
            self.opened = Some(series);
            if context.bite_left <= 0 {
                return Ok(Progress::More);
            }
        }
        let next = match &mut self.root {
            Root::Text(text) => {
                if let Some(text) = text.take() {
                    let point = Point { t_ms: self.grid.start_ms, value: 0.0 };
                    let series = ResultSeries { labels: LabelSet::default(), points: vec![point], text: Some(text) };
                    self.result = Some(series);
                    return Ok(Progress::Series);
                }
                Next::Done
            }
            Root::Series(operator) => operator.next(&mut context, &mut self.buffer)?,
            Root::Samples(windows) => match self.reading {
                None => windows.next_series(&mut context)?,
                Some(series) => Next::Series(series),
            },
        };
        match next {
            Next::More => Ok(Progress::More),
            Next::Done => {
                self.is_done = true;
                Ok(Progress::Done)
            }
            Next::Series(series) => self.collect(source, &snapshot, bite_samples, series),
        }
    }

    /// Makes the result of a series that the root has yielded; of a range vector it is first read.
    fn collect(
        &mut self,
        source: &mut dyn Source,
        snapshot: &Rc<Snapshot>,
        bite_samples: usize,
        series: usize,
    ) -> Result<Progress, QueryError> {
        let grid = self.grid;
        let mut points: Vec<Point> = Vec::new();
        match &mut self.root {
            Root::Samples(windows) => {
                let mut context = Context {
                    source,
                    snapshot,
                    bite_left: i64::try_from(bite_samples).unwrap_or(i64::MAX).max(1),
                    meter: &mut self.meter,
                    annotations: &mut self.annotations,
                };
                self.reading = Some(series);
                if !windows.fetch(&mut context, 0)? {
                    return Ok(Progress::More);
                }
                self.reading = None;
                let samples = windows.samples();
                if samples.is_empty() {
                    return Ok(Progress::More);
                }
                charge_result(&mut self.meter, &mut self.result_bytes_charged, samples.len(), 0)?;
                points.extend(samples.iter().map(|sample| Point { t_ms: sample.t_ms, value: sample.value }));
            }
            Root::Series(_) | Root::Text(_) => {
                let present = || self.buffer.iter().enumerate().filter(|(_, value)| !eval::is_absent(**value));
                let count = present().count();
                charge_result(&mut self.meter, &mut self.result_bytes_charged, count, 0)?;
                points.reserve_exact(count);
                points.extend(present().map(|(step, value)| Point { t_ms: grid.at_ms(step), value: *value }));
            }
        }
        let mut context = Context {
            source,
            snapshot,
            bite_left: i64::try_from(bite_samples).unwrap_or(i64::MAX).max(1),
            meter: &mut self.meter,
            annotations: &mut self.annotations,
        };
        match &mut self.root {
            Root::Samples(windows) => windows.labels(&mut context, series, &mut self.labels)?,
            Root::Series(operator) => operator.labels(&mut context, series, &mut self.labels)?,
            Root::Text(_) => {}
        }
        let labels = LabelSet::from(self.labels.as_ref());
        charge_result(&mut self.meter, &mut self.result_bytes_charged, points.len(), labels.heap_bytes())?;
        self.result = Some(ResultSeries { labels, points, text: None });
        Ok(Progress::Series)
    }

    /// The series that [`Progress::Series`] announced; once each.
    pub fn take_series(&mut self) -> Option<ResultSeries> {
        self.result.take()
    }

    /// Warnings and infos so far, each text once.
    pub fn annotations(&self) -> &[Annotation] {
        self.annotations.list()
    }

    /// Whether series come as Prometheus' API gives them, known when the first has come: a matrix by labels, a vector in
    /// whatever order the expression makes.
    pub fn is_in_order(&self) -> bool {
        self.value_type != ValueType::Matrix || self.opened.is_none_or(|series| series.is_sorted)
    }

    /// Charges a series that its taker keeps while the query goes on; `false` when it does not fit, a quarter being left to
    /// the query itself.
    pub fn charge_held(&mut self, series: &ResultSeries) -> bool {
        let bytes = held_bytes(series);
        let reserve_bytes = self.meter.bytes_left().saturating_add(self.meter.bytes()) / 4;
        self.meter.bytes_left() >= bytes.saturating_add(reserve_bytes) && self.meter.charge(bytes).is_ok()
    }

    /// A series that was charged so is kept no longer.
    pub fn release_held(&mut self, series: &ResultSeries) {
        self.meter.release(held_bytes(series));
    }

    /// What the query may hold from now on, for queries that share one amount of memory. What it has, it keeps.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.meter.set_bytes_max(bytes_max);
    }

    /// Samples and intermediate points held at most so far.
    pub fn samples(&self) -> u64 {
        self.meter.samples()
    }

    /// Heap charged so far.
    pub fn bytes(&self) -> usize {
        self.meter.bytes()
    }
}

/// Where a range query asks for an order that it cannot have.
fn sorts_of(expr: &Expr) -> Vec<Span> {
    let mut sorts = Vec::new();
    expr.walk(&mut |expr| {
        if let ExprKind::Call(call) = &expr.kind
            && let Shape::Sort { .. } = call.function.shape
        {
            sorts.push(expr.span);
        }
    });
    sorts
}

fn held_bytes(series: &ResultSeries) -> usize {
    size_of_val::<[Point]>(&series.points) + 2 * size_of::<ResultSeries>() + series.labels.heap_bytes()
}

/// Results are freed one by one, so only the largest counts.
fn charge_result(
    meter: &mut Meter,
    charged: &mut usize,
    point_count: usize,
    labels_bytes: usize,
) -> Result<(), QueryError> {
    let bytes = point_count * size_of::<Point>() + labels_bytes;
    meter.charge(bytes.saturating_sub(*charged))?;
    *charged = bytes.max(*charged);
    Ok(())
}

fn range_grid(start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Grid, QueryError> {
    if step_ms <= 0 {
        return Err(eval::execution(
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if end_ms < start_ms {
        return Err(eval::execution("end timestamp must not be before start time"));
    }
    let count = (end_ms.saturating_sub(start_ms) / step_ms).saturating_add(1);
    Ok(Grid { start_ms, step_ms, count: usize::try_from(count).unwrap_or(usize::MAX) })
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
