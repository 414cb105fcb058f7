//! The function table: one row per function, read by parser, evaluator and documentation.

use super::ast::ValueType;

/// One function of the language.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    /// Types of the arguments in order.
    pub arguments: &'static [ValueType],
    pub returns: ValueType,
    /// One sentence for the reader of `docs/PROMQL.md`.
    pub help: &'static str,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
