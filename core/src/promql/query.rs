//! A query that is being answered: a plan, a meter, and what the last bite found.

use super::{ast::Expr, ast::ValueType, source::Source};
use crate::labels::LabelSet;
use alloc::{boxed::Box, string::String, vec::Vec};

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

/// One query between its first and its last bite. Holds no reference to the source.
pub struct Query {
    value_type: ValueType,
}

impl Query {
    /// Plans `expr`. Fails when a range vector or a string is asked for over a range, or the window is empty or has no step.
    pub fn new(expr: &Expr, window: Window, options: QueryOptions) -> Result<Self, QueryError> {
        let _ = (window, options);
        Ok(Self { value_type: expr.value_type() })
    }

    /// The API's `resultType`; a range query's result is always a matrix.
    pub fn value_type(&self) -> ValueType {
        self.value_type
    }

    /// One bite: reads or computes about `bite_samples` samples, then says how things stand.
    pub fn advance(&mut self, source: &mut dyn Source, bite_samples: usize) -> Result<Progress, QueryError> {
        let _ = (source, bite_samples);
        Err(QueryError::Execution("the evaluator is not merged yet".into()))
    }

    /// The series that [`Progress::Series`] announced; once each.
    pub fn take_series(&mut self) -> Option<ResultSeries> {
        None
    }

    /// Warnings and infos so far, each text once.
    pub fn annotations(&self) -> &[Annotation] {
        &[]
    }
}
