//! From an expression to a tree of operators over a grid of instants.
//!
//! What only depends on the query's text and window is resolved here: `@ start()`, the grids of subqueries, string
//! arguments, patterns. A new expression kind gets its operator in `eval/` and its arm here.

use super::{
    ast::{
        Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, Modifiers, Selector, Span,
        ValueType,
    },
    eval::{
        Grid, Operator,
        absent::AbsentOperator,
        aggregate::AggregateOperator,
        execution,
        groups::Grouping,
        histogram::BucketsOperator,
        labels::{Relabel, RelabelOperator},
        map::{Leaf, MapOperator},
        over_time::OverTimeOperator,
        scalar::{Computed, Scalars, ToScalar},
        selector::{InstantSelector, Order, Selection, SeriesReader, Windows},
        set::SetOperator,
        sort::SortOperator,
        subquery::Subquery,
        topk::{CountValuesOperator, TopkOperator},
        vectors::VectorOperator,
    },
    functions::Shape,
    query::QueryError,
};
use crate::labels::{LabelSet, Pattern};
use alloc::{boxed::Box, format, vec::Vec};

/// The step of `expr[1h:]`: Prometheus takes its global evaluation interval, whose default is this.
pub const SUBQUERY_STEP_MS_DEFAULT: i64 = 60_000;

/// What holds for the whole query, and in which order the series of the expression at hand are wanted.
#[derive(Clone, Copy)]
pub struct Planner {
    pub start_ms: i64,
    pub end_ms: i64,
    pub lookback_delta_ms: i64,
    pub is_range: bool,
    pub order: Order,
}

impl Planner {
    /// For what is read to its end before anything is made of it.
    fn in_any_order(&self) -> Self {
        Self { order: Order::Any, ..*self }
    }

    /// The operator of an expression whose type is scalar or instant vector.
    pub fn operator(&self, expr: &Expr, grid: Grid) -> Result<Box<dyn Operator>, QueryError> {
        Ok(match &expr.kind {
            ExprKind::Number { value, .. } => Box::new(Computed::number(grid, *value)),
            ExprKind::Paren(inner) => self.operator(inner, grid)?,
            ExprKind::Unary { negative: false, operand } => self.operator(operand, grid)?,
            ExprKind::Unary { operand, .. } => {
                let leaf = Leaf::Plain(|value| -value);
                Box::new(MapOperator::new(self.operator(operand, grid)?, leaf, no_scalars(grid), true, grid))
            }
            ExprKind::Binary(binary) => self.binary(binary, grid)?,
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, grid)?,
            ExprKind::Call(call) => self.call(call, grid)?,
            ExprKind::Selector(selector) => self.selector(selector, grid, false),
            ExprKind::Text(_) | ExprKind::Matrix { .. } | ExprKind::Subquery { .. } => return Err(misplaced(expr)),
        })
    }

    /// The windows of an expression whose type is range vector.
    pub fn windows(&self, expr: &Expr, grid: Grid) -> Result<Box<dyn Windows>, QueryError> {
        match &expr.kind {
            ExprKind::Paren(inner) => self.windows(inner, grid),
            ExprKind::Matrix { selector, range_ms } => {
                Ok(Box::new(SeriesReader::new(self.selection(selector, grid, *range_ms), false)))
            }
            ExprKind::Subquery { operand, range_ms, step_ms, modifiers } => {
                let step_ms = step_ms.unwrap_or(SUBQUERY_STEP_MS_DEFAULT);
                let at_ms = self.at_ms(modifiers);
                let first_ms = at_ms.unwrap_or(grid.start_ms).saturating_sub(modifiers.offset_ms);
                let last_ms = at_ms.unwrap_or(grid.end_ms()).saturating_sub(modifiers.offset_ms);
                let inner = inner_grid(first_ms.saturating_sub(*range_ms), last_ms, step_ms);
                let child = self.operator(operand, inner)?;
                Ok(Box::new(Subquery::new(child, inner, grid, *range_ms, modifiers.offset_ms, at_ms)))
            }
            _ => Err(misplaced(expr)),
        }
    }

    fn at_ms(&self, modifiers: &Modifiers) -> Option<i64> {
        modifiers.at.map(|at| match at {
            At::Time(t_ms) => t_ms,
            At::Start => self.start_ms,
            At::End => self.end_ms,
        })
    }

    fn selection(&self, selector: &Selector, grid: Grid, range_ms: i64) -> Selection {
        Selection {
            matchers: selector.matchers.clone(),
            grid,
            range_ms,
            offset_ms: selector.modifiers.offset_ms,
            at_ms: self.at_ms(&selector.modifiers),
            order: self.order,
        }
    }

    fn selector(&self, selector: &Selector, grid: Grid, timestamps: bool) -> Box<dyn Operator> {
        Box::new(InstantSelector::new(self.selection(selector, grid, self.lookback_delta_ms), timestamps))
    }

    fn scalars<'e>(&self, exprs: impl Iterator<Item = &'e Expr>, grid: Grid) -> Result<Scalars, QueryError> {
        let operators: Result<Vec<_>, _> = exprs.map(|expr| self.in_any_order().operator(expr, grid)).collect();
        Ok(Scalars::new(operators?, grid))
    }

    fn binary(&self, binary: &Binary, grid: Grid) -> Result<Box<dyn Operator>, QueryError> {
        let Binary { op, left, right, return_bool, matching, .. } = binary;
        let (op, return_bool) = (*op, *return_bool);
        let scalar_is_left = left.value_type() == ValueType::Scalar;
        if scalar_is_left || right.value_type() == ValueType::Scalar {
            // Of two scalars the right one is the argument.
            let scalar_is_left = scalar_is_left && right.value_type() != ValueType::Scalar;
            let (scalar, vector) = if scalar_is_left { (left, right) } else { (right, left) };
            let leaf = Leaf::Arithmetic { op, scalar_is_left, return_bool };
            let drops_name = return_bool || !op.is_comparison();
            let scalars = self.scalars([scalar].into_iter(), grid)?;
            return Ok(Box::new(MapOperator::new(self.operator(vector, grid)?, leaf, scalars, drops_name, grid)));
        }
        if op.is_set() {
            let planner = if op == BinaryOp::Or { *self } else { self.in_any_order() };
            let (left, right) = (self.operator(left, grid)?, planner.operator(right, grid)?);
            return Ok(Box::new(SetOperator::new(op, matching.clone(), left, right, grid)));
        }
        // The side that has one series per group is read first.
        let keeps_left = matching.cardinality == Cardinality::OneToMany;
        let of = |expr, is_kept: bool| if is_kept { self.in_any_order() } else { *self }.operator(expr, grid);
        let (left, right) = (of(left, keeps_left)?, of(right, !keeps_left)?);
        Ok(Box::new(VectorOperator::new(op, return_bool, matching.clone(), left, right, grid)))
    }

    fn aggregate(&self, aggregate: &Aggregate, grid: Grid) -> Result<Box<dyn Operator>, QueryError> {
        // Of equals the first ones are the top ones.
        let is_topk = matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk);
        let planner = if is_topk { *self } else { self.in_any_order() };
        let child = planner.operator(&aggregate.operand, grid)?;
        let grouping = Grouping { labels: aggregate.grouping.clone(), without: aggregate.without, keeps_name: false };
        let parameter = aggregate.parameter.as_ref();
        if aggregate.op == AggregateOp::CountValues {
            let label = parameter.map(text_of).transpose()?.unwrap_or("");
            if label.is_empty() {
                return Err(execution("invalid label name \"\""));
            }
            return Ok(Box::new(CountValuesOperator::new(child, grouping, label, grid)));
        }
        let scalars = self.scalars(parameter.into_iter(), grid)?;
        if is_topk {
            let smallest = aggregate.op == AggregateOp::Bottomk;
            return Ok(Box::new(TopkOperator::new(child, grouping, scalars, smallest, grid)));
        }
        let span = parameter.map_or(Span::default(), |parameter| parameter.span);
        Ok(Box::new(AggregateOperator::new(aggregate.op, child, grouping, scalars, span, grid)))
    }

    fn call(&self, call: &Call, grid: Grid) -> Result<Box<dyn Operator>, QueryError> {
        let of_type = |wanted: ValueType| call.arguments.iter().filter(move |argument| argument.value_type() == wanted);
        let scalar_span = of_type(ValueType::Scalar).next().map_or(Span::default(), |argument| argument.span);
        let scalars = || self.scalars(of_type(ValueType::Scalar), grid);
        let vector = || of_type(ValueType::Vector).next().ok_or_else(|| missing(call));
        let range = || of_type(ValueType::Matrix).next().ok_or_else(|| missing(call));
        let map = |child, leaf, scalars| Box::new(MapOperator::new(child, leaf, scalars, true, grid));
        Ok(match &call.function.shape {
            Shape::Constant(value) => Box::new(Computed::number(grid, *value)),
            Shape::Time => Box::new(Computed::time(grid)),
            Shape::Map(leaf) => map(self.operator(vector()?, grid)?, Leaf::Plain(*leaf), no_scalars(grid)),
            Shape::MapWith(leaf) => map(self.operator(vector()?, grid)?, Leaf::With(*leaf), scalars()?),
            Shape::Date(leaf) => {
                let child = match of_type(ValueType::Vector).next() {
                    Some(vector) => self.operator(vector, grid)?,
                    None => Box::new(Computed::time(grid)),
                };
                map(child, Leaf::Plain(*leaf), no_scalars(grid))
            }
            Shape::OverTime(function) => {
                let range = range()?;
                let windows = self.windows(range, grid)?;
                Box::new(OverTimeOperator::new(windows, function, scalars()?, grid, range.span, scalar_span))
            }
            Shape::Absent => {
                let vector = vector()?;
                let child = self.in_any_order().operator(vector, grid)?;
                Box::new(AbsentOperator::of_vector(child, absent_labels(vector), grid))
            }
            Shape::AbsentOverTime => {
                let range = range()?;
                let windows = self.in_any_order().windows(range, grid)?;
                Box::new(AbsentOperator::of_range(windows, absent_labels(range), grid))
            }
            Shape::ToScalar => Box::new(ToScalar::new(self.in_any_order().operator(vector()?, grid)?, grid)),
            Shape::ToVector => {
                let scalar = of_type(ValueType::Scalar).next().ok_or_else(|| missing(call))?;
                self.operator(scalar, grid)?
            }
            Shape::Timestamp => {
                let vector = vector()?;
                match &vector.unwrap_parens().kind {
                    ExprKind::Selector(selector) => {
                        let child = self.selector(selector, grid, true);
                        map(child, Leaf::Plain(|seconds| seconds), no_scalars(grid))
                    }
                    _ => map(self.operator(vector, grid)?, Leaf::StepTime, no_scalars(grid)),
                }
            }
            // Over several steps there is no one order.
            Shape::Sort { .. } if self.is_range || grid.count != 1 => self.operator(vector()?, grid)?,
            Shape::Sort { descending } => Box::new(SortOperator::new(self.operator(vector()?, grid)?, *descending)),
            Shape::LabelReplace | Shape::LabelJoin => {
                let relabel = relabel_of(call)?;
                Box::new(RelabelOperator::new(self.operator(vector()?, grid)?, relabel, grid))
            }
            Shape::Buckets { leaf, has_quantile } => {
                let vector = vector()?;
                let child = self.operator(vector, grid)?;
                Box::new(BucketsOperator::new(
                    child,
                    *leaf,
                    scalars()?,
                    has_quantile.then_some(scalar_span),
                    vector.span,
                    grid,
                ))
            }
        })
    }
}

/// The multiples of `step_ms` after `after_ms`, up to and including `end_ms`.
fn inner_grid(after_ms: i64, end_ms: i64, step_ms: i64) -> Grid {
    let mut start_ms = step_ms * (after_ms / step_ms);
    if start_ms <= after_ms {
        start_ms = start_ms.saturating_add(step_ms);
    }
    let count = if end_ms < start_ms { 0 } else { (end_ms.saturating_sub(start_ms) / step_ms).saturating_add(1) };
    Grid { start_ms, step_ms, count: usize::try_from(count).unwrap_or(usize::MAX) }
}

fn no_scalars(grid: Grid) -> Scalars {
    Scalars::new(Vec::new(), grid)
}

/// What `absent` labels its answer with: a selector's equality conditions.
fn absent_labels(expr: &Expr) -> LabelSet {
    match &expr.kind {
        ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } => selector.equality_labels(),
        _ => LabelSet::default(),
    }
}

fn relabel_of(call: &Call) -> Result<Relabel, QueryError> {
    let texts: Result<Vec<&str>, _> = call.arguments[1..].iter().map(text_of).collect();
    let (texts, name) = (texts?, call.function.name);
    let target = texts[0];
    if target.is_empty() {
        return Err(execution(format!("invalid destination label name in {name}(): {target}")));
    }
    if let Shape::LabelReplace = call.function.shape {
        let pattern = Pattern::new(texts[3])
            .map_err(|_| execution(format!("invalid regular expression in label_replace(): {}", texts[3])))?;
        return Ok(Relabel::Replace {
            target: target.into(),
            template: texts[1].into(),
            source: texts[2].into(),
            pattern,
        });
    }
    if texts[2..].iter().any(|source| source.is_empty()) {
        return Err(execution("invalid source label name in label_join(): "));
    }
    let sources = texts[2..].iter().map(|source| Box::from(*source)).collect();
    Ok(Relabel::Join { target: target.into(), separator: texts[1].into(), sources })
}

fn text_of(expr: &Expr) -> Result<&str, QueryError> {
    match &expr.unwrap_parens().kind {
        ExprKind::Text(text) => Ok(text),
        _ => Err(misplaced(expr)),
    }
}

/// Cannot come from a checked expression; told instead of asserted because expressions can be built by hand.
fn misplaced(expr: &Expr) -> QueryError {
    execution(format!("unexpected {} {expr}", expr.value_type().text()))
}

fn missing(call: &Call) -> QueryError {
    execution(format!("an argument is missing in call to {}", call.function.name))
}
