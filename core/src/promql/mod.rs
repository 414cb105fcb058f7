//! PromQL: text in, series out, in bites.
//!
//! [`parse()`] makes a checked [`Expr`]; [`Query::new`] plans it over a grid of instants; [`Query::advance`] does one
//! bounded bite of work on a [`source::Source`] lent for that call, so that a long query never delays a due scrape. The
//! function table in [`functions`] is what parser, evaluator and `docs/PROMQL.md` read.

mod ast;
mod check;
mod eval;
pub mod functions;
mod lex;
mod parse;
mod plan;
mod query;
pub mod source;

pub use ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, Matching, Modifiers, Selector,
    Span, ValueType,
};
pub use parse::{HEIGHT_MAX, ParseError, parse, parse_selector};
pub use plan::SUBQUERY_STEP_MS_DEFAULT;
pub use query::{Annotation, AnnotationLevel, Point, Progress, Query, QueryError, QueryOptions, ResultSeries, Window};
