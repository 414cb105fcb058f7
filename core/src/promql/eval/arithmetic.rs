//! Binary operators on two numbers.

use crate::promql::ast::BinaryOp;

/// The result; for comparisons the left number where it holds and nothing where it does not, or with `return_bool` 1
/// and 0. Set operators have no meaning here and give nothing.
pub fn apply(op: BinaryOp, left: f64, right: f64, return_bool: bool) -> Option<f64> {
    let holds = match op {
        BinaryOp::Add => return Some(left + right),
        BinaryOp::Subtract => return Some(left - right),
        BinaryOp::Multiply => return Some(left * right),
        BinaryOp::Divide => return Some(left / right),
        BinaryOp::Modulo => return Some(libm::fmod(left, right)),
        BinaryOp::Power => return Some(libm::pow(left, right)),
        BinaryOp::Atan2 => return Some(libm::atan2(left, right)),
        BinaryOp::Equal => left == right,
        BinaryOp::NotEqual => left != right,
        BinaryOp::LessOrEqual => left <= right,
        BinaryOp::Less => left < right,
        BinaryOp::GreaterOrEqual => left >= right,
        BinaryOp::Greater => left > right,
        BinaryOp::Or | BinaryOp::And | BinaryOp::Unless => return None,
    };
    if return_bool { Some(f64::from(u8::from(holds))) } else { holds.then_some(left) }
}
