//! Types: what may stand where. Wording as in Prometheus' parser (promql/parser/parse.go, checkAST).

use super::{
    ast::{Aggregate, Binary, Call, Expr, ExprKind, Quoted, Selector, ValueType},
    parse::Refusal,
};
use alloc::{format, string::String};

/// Refuses the first expression, from the leaves up, whose parts have the wrong types.
pub(super) fn check(expr: &Expr) -> Result<(), Refusal> {
    match &expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) => Ok(()),
        ExprKind::Paren(inner) => check(inner),
        ExprKind::Unary { operand, .. } => {
            check(operand)?;
            match operand.value_type() {
                ValueType::Scalar | ValueType::Vector => Ok(()),
                other => {
                    let message = format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got \"{}\"",
                        other.text()
                    );
                    Err((expr.span, message))
                }
            }
        }
        ExprKind::Binary(binary) => check_binary(expr, binary),
        ExprKind::Aggregate(aggregate) => check_aggregate(aggregate),
        ExprKind::Call(call) => check_call(expr, call),
        ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } => check_selector(expr, selector),
        ExprKind::Subquery { operand, .. } => {
            check(operand)?;
            match operand.value_type() {
                ValueType::Vector => Ok(()),
                other => {
                    let message = format!("subquery is only allowed on instant vector, got {} instead", other.text());
                    Err((expr.span, message))
                }
            }
        }
    }
}

fn check_binary(expr: &Expr, binary: &Binary) -> Result<(), Refusal> {
    check(&binary.left)?;
    check(&binary.right)?;
    let refuse = |message: String| Err((expr.span, message));
    let (left, right) = (binary.left.value_type(), binary.right.value_type());
    for (side, found) in [(&binary.left, left), (&binary.right, right)] {
        if !matches!(found, ValueType::Scalar | ValueType::Vector) {
            return Err((side.span, "binary expression must contain only scalar and instant vector types".into()));
        }
    }
    let both_scalar = left == ValueType::Scalar && right == ValueType::Scalar;
    if binary.op.is_comparison() && both_scalar && !binary.return_bool {
        return Err((binary.op_span, "comparisons between scalars must use BOOL modifier".into()));
    }
    let matching = &binary.matching;
    if let Some(label) = matching.include.iter().find(|label| matching.on && matching.labels.contains(label)) {
        return refuse(format!("label {} must not occur in ON and GROUP clause at once", Quoted(label)));
    }
    let both_vector = left == ValueType::Vector && right == ValueType::Vector;
    if !both_vector && binary.op.is_set() {
        return refuse(format!("set operator {} not allowed in binary scalar expression", Quoted(binary.op.text())));
    }
    if !both_vector && (matching.on || !matching.labels.is_empty()) {
        return refuse("vector matching only allowed between instant vectors".into());
    }
    Ok(())
}

fn check_aggregate(aggregate: &Aggregate) -> Result<(), Refusal> {
    check(&aggregate.operand)?;
    expect(&aggregate.operand, ValueType::Vector, "aggregation expression")?;
    if let (Some(parameter), Some(wanted)) = (&aggregate.parameter, aggregate.op.parameter_type()) {
        check(parameter)?;
        expect(parameter, wanted, "aggregation parameter")?;
    }
    Ok(())
}

fn check_call(expr: &Expr, call: &Call) -> Result<(), Refusal> {
    let function = call.function;
    let (least, most) = (function.argument_count_min(), function.argument_count_max());
    let (found, name) = (call.arguments.len(), Quoted(function.name));
    let wrong = if most == Some(least) && found != least {
        Some(format!("expected {least} argument(s) in call to {name}, got {found}"))
    } else if found < least {
        Some(format!("expected at least {least} argument(s) in call to {name}, got {found}"))
    } else {
        most.filter(|most| found > *most)
            .map(|most| format!("expected at most {most} argument(s) in call to {name}, got {found}"))
    };
    if let Some(message) = wrong {
        return Err((expr.span, message));
    }
    for (index, argument) in call.arguments.iter().enumerate() {
        check(argument)?;
        expect(argument, function.argument_type(index), &format!("call to function {name}"))?;
    }
    Ok(())
}

fn check_selector(expr: &Expr, selector: &Selector) -> Result<(), Refusal> {
    if selector.matchers.iter().all(|matcher| matcher.matches("")) {
        return Err((expr.span, "vector selector must contain at least one non-empty matcher".into()));
    }
    Ok(())
}

fn expect(expr: &Expr, wanted: ValueType, context: &str) -> Result<(), Refusal> {
    match expr.value_type() {
        found if found == wanted => Ok(()),
        found => Err((expr.span, format!("expected type {} in {context}, got {}", wanted.text(), found.text()))),
    }
}
