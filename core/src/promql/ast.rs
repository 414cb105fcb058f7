//! What an expression is, and how it is written.

use super::functions::Function;
use crate::{
    labels::{LabelSet, MatchOp, Matcher, NAME, is_label_name},
    time::DurationText,
};
use alloc::{boxed::Box, vec::Vec};
use core::fmt;

/// Bytes `start..end` of the query's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl ValueType {
    /// As error texts and the API's `parse_query` call it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        }
    }

    /// As the API's `resultType` calls it.
    pub fn result_type(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::String => "string",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `duration`: written as one (`5m`), and printed as one.
    Number {
        value: f64,
        duration: bool,
    },
    Text(Box<str>),
    Paren(Box<Expr>),
    Unary {
        negative: bool,
        operand: Box<Expr>,
    },
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call(Call),
    Selector(Selector),
    /// `selector[range]`.
    Matrix {
        selector: Selector,
        range_ms: i64,
    },
    /// `operand[range:step]`.
    Subquery {
        operand: Box<Expr>,
        range_ms: i64,
        step_ms: Option<i64>,
        modifiers: Modifiers,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// All conditions, the metric's name included.
    pub matchers: Vec<Matcher>,
    /// The metric's name is written in front of the braces; its condition is the last.
    pub name_is_in_front: bool,
    pub modifiers: Modifiers,
}

/// What may stand behind a selector or subquery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modifiers {
    pub offset_ms: i64,
    pub at: Option<At>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Wall milliseconds.
    Time(i64),
    Start,
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub function: &'static Function,
    pub arguments: Vec<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Quantile,
    CountValues,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    /// The `k`, `φ` or label that the operators with a parameter take.
    pub parameter: Option<Expr>,
    pub operand: Expr,
    pub grouping: Vec<Box<str>>,
    pub without: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Or,
    And,
    Unless,
    Equal,
    NotEqual,
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Atan2,
    Power,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub op_span: Span,
    pub left: Expr,
    pub right: Expr,
    /// `bool`: a comparison yields 0 or 1 instead of filtering.
    pub return_bool: bool,
    pub matching: Matching,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cardinality {
    #[default]
    OneToOne,
    /// `group_left`.
    ManyToOne,
    /// `group_right`.
    OneToMany,
}

/// How the two sides of a binary expression find each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    pub cardinality: Cardinality,
    /// `on` (true) or `ignoring` (false) these labels.
    pub on: bool,
    pub labels: Vec<Box<str>>,
    /// Labels taken over from the one side.
    pub include: Vec<Box<str>>,
}

impl AggregateOp {
    pub const ALL: [(Self, &'static str); 12] = [
        (Self::Sum, "sum"),
        (Self::Avg, "avg"),
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::Count, "count"),
        (Self::Group, "group"),
        (Self::Stddev, "stddev"),
        (Self::Stdvar, "stdvar"),
        (Self::Topk, "topk"),
        (Self::Bottomk, "bottomk"),
        (Self::Quantile, "quantile"),
        (Self::CountValues, "count_values"),
    ];

    pub fn text(self) -> &'static str {
        Self::ALL.iter().find(|(op, _)| *op == self).map_or("", |(_, text)| text)
    }

    /// The type of the parameter in front of the vector, where there is one.
    pub fn parameter_type(self) -> Option<ValueType> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile => Some(ValueType::Scalar),
            Self::CountValues => Some(ValueType::String),
            _ => None,
        }
    }
}

impl BinaryOp {
    pub fn text(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::LessOrEqual => "<=",
            Self::Less => "<",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Atan2 => "atan2",
            Self::Power => "^",
        }
    }

    /// Higher binds tighter.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            _ if self.is_comparison() => 3,
            Self::Add | Self::Subtract => 4,
            Self::Power => 6,
            _ => 5,
        }
    }

    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal | Self::NotEqual | Self::LessOrEqual | Self::Less | Self::GreaterOrEqual | Self::Greater
        )
    }

    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }
}

impl Expr {
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number { .. } => ValueType::Scalar,
            ExprKind::Text(_) => ValueType::String,
            ExprKind::Paren(inner) => inner.value_type(),
            ExprKind::Unary { operand, .. } => operand.value_type(),
            ExprKind::Binary(binary) => match (binary.left.value_type(), binary.right.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            ExprKind::Aggregate(_) | ExprKind::Selector(_) => ValueType::Vector,
            ExprKind::Call(call) => call.function.returns,
            ExprKind::Matrix { .. } | ExprKind::Subquery { .. } => ValueType::Matrix,
        }
    }

    /// The expression inside any parentheses.
    pub fn unwrap_parens(&self) -> &Self {
        match &self.kind {
            ExprKind::Paren(inner) => inner.unwrap_parens(),
            _ => self,
        }
    }

    /// Calls `visit` with this expression and everything below it, parents first.
    pub fn walk<'e>(&'e self, visit: &mut dyn FnMut(&'e Self)) {
        visit(self);
        match &self.kind {
            ExprKind::Paren(inner) => inner.walk(visit),
            ExprKind::Unary { operand, .. } | ExprKind::Subquery { operand, .. } => operand.walk(visit),
            ExprKind::Binary(binary) => {
                binary.left.walk(visit);
                binary.right.walk(visit);
            }
            ExprKind::Aggregate(aggregate) => {
                if let Some(parameter) = &aggregate.parameter {
                    parameter.walk(visit);
                }
                aggregate.operand.walk(visit);
            }
            ExprKind::Call(call) => call.arguments.iter().for_each(|argument| argument.walk(visit)),
            ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Selector(_) | ExprKind::Matrix { .. } => {}
        }
    }
}

impl Selector {
    /// The labels that equality conditions give: what `absent` answers with.
    pub fn equality_labels(&self) -> LabelSet {
        let mut builder = crate::labels::LabelsBuilder::default();
        let mut twice: Vec<&str> = Vec::new();
        for matcher in &self.matchers {
            if &*matcher.name == NAME {
                continue;
            }
            if matcher.op == MatchOp::Equal && builder.get(&matcher.name).is_none() && !twice.contains(&&*matcher.name)
            {
                builder.set(&matcher.name, &matcher.value);
            } else {
                builder.remove(&matcher.name);
                twice.push(&matcher.name);
            }
        }
        builder.build()
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number { value, duration: true } => {
                f.write_str(if value.is_sign_negative() { "-" } else { "" })?;
                write!(f, "{}", DurationText((libm::fabs(*value) * 1000.0) as u64))
            }
            ExprKind::Number { value, .. } => write!(f, "{}", NumberText(*value)),
            ExprKind::Text(text) => write!(f, "{}", Quoted(text)),
            ExprKind::Paren(inner) => write!(f, "({inner})"),
            ExprKind::Unary { negative, operand } => write!(f, "{}{operand}", if *negative { "-" } else { "+" }),
            ExprKind::Binary(binary) => binary.fmt(f),
            ExprKind::Aggregate(aggregate) => aggregate.fmt(f),
            ExprKind::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                write_list(f, &call.arguments)?;
                f.write_str(")")
            }
            ExprKind::Selector(selector) => write!(f, "{}{}", SelectorText(selector), selector.modifiers),
            ExprKind::Matrix { selector, range_ms } => {
                write!(f, "{}[{}]{}", SelectorText(selector), DurationText(range_ms.unsigned_abs()), selector.modifiers)
            }
            ExprKind::Subquery { operand, range_ms, step_ms, modifiers } => {
                write!(f, "{operand}[{}:", DurationText(range_ms.unsigned_abs()))?;
                if let Some(step_ms) = step_ms {
                    write!(f, "{}", DurationText(step_ms.unsigned_abs()))?;
                }
                write!(f, "]{modifiers}")
            }
        }
    }
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.left, self.op.text(), if self.return_bool { " bool" } else { "" })?;
        let matching = &self.matching;
        if matching.on || !matching.labels.is_empty() {
            f.write_str(if matching.on { " on (" } else { " ignoring (" })?;
            write_names(f, &matching.labels)?;
            f.write_str(")")?;
        }
        if matching.cardinality != Cardinality::OneToOne {
            let side = if matching.cardinality == Cardinality::ManyToOne { "left" } else { "right" };
            write!(f, " group_{side} (")?;
            write_names(f, &matching.include)?;
            f.write_str(")")?;
        }
        write!(f, " {}", self.right)
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.text())?;
        if self.without || !self.grouping.is_empty() {
            f.write_str(if self.without { " without (" } else { " by (" })?;
            write_names(f, &self.grouping)?;
            f.write_str(") ")?;
        }
        f.write_str("(")?;
        if let Some(parameter) = &self.parameter {
            write!(f, "{parameter}, ")?;
        }
        write!(f, "{})", self.operand)
    }
}

impl fmt::Display for Modifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(At::Time(t_ms)) => {
                let (sign, magnitude) = (if t_ms < 0 { "-" } else { "" }, t_ms.unsigned_abs());
                write!(f, " @ {sign}{}.{:03}", magnitude / 1000, magnitude % 1000)?;
            }
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
            None => {}
        }
        match self.offset_ms {
            0 => Ok(()),
            offset_ms if offset_ms < 0 => write!(f, " offset -{}", DurationText(offset_ms.unsigned_abs())),
            offset_ms => write!(f, " offset {}", DurationText(offset_ms.unsigned_abs())),
        }
    }
}

/// A selector without its modifiers.
struct SelectorText<'a>(&'a Selector);

impl fmt::Display for SelectorText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matchers = &self.0.matchers;
        let (name, inside) = match matchers.split_last() {
            Some((name, inside)) if self.0.name_is_in_front => (&*name.value, inside),
            _ => ("", &matchers[..]),
        };
        f.write_str(name)?;
        if inside.is_empty() {
            return f.write_str(if name.is_empty() { "{}" } else { "" });
        }
        f.write_str("{")?;
        for (index, matcher) in inside.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}{}{}", NameText(&matcher.name), matcher.op.text(), Quoted(&matcher.value))?;
        }
        f.write_str("}")
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if index > 0 { ", " } else { "" })?;
    }
    Ok(())
}

fn write_names(f: &mut fmt::Formatter<'_>, names: &[Box<str>]) -> fmt::Result {
    for (index, name) in names.iter().enumerate() {
        write!(f, "{}{}", if index > 0 { ", " } else { "" }, NameText(name))?;
    }
    Ok(())
}

/// A label name, quoted where the plain grammar has no room for it.
pub(super) struct NameText<'a>(pub &'a str);

impl fmt::Display for NameText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_label_name(self.0) { f.write_str(self.0) } else { write!(f, "{}", Quoted(self.0)) }
    }
}

/// Text in double quotes with the escapes of Go's `strconv.Quote`.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                '\x07' => f.write_str("\\a")?,
                '\x08' => f.write_str("\\b")?,
                '\x0c' => f.write_str("\\f")?,
                '\x0b' => f.write_str("\\v")?,
                c if (c as u32) < 0x20 || c as u32 == 0x7f => write!(f, "\\x{:02x}", c as u32)?,
                c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// A number as Go's `FormatFloat(v, 'f', -1, 64)`: shortest digits, never an exponent.
pub(super) struct NumberText(pub f64);

impl fmt::Display for NumberText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value == f64::INFINITY => f.write_str("+Inf"),
            value if value == f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}
