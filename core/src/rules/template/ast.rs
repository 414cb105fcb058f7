//! A template as a tree. Offsets are bytes of the template's text, for messages.

use alloc::{boxed::Box, vec::Vec};

#[derive(Debug)]
pub enum Node {
    Text(Box<str>),
    /// `{{ pipe }}`: prints, unless it sets a variable.
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    /// `{{ template "name" pipe }}`
    Template {
        /// Where the quoted name stands.
        at: usize,
        name: Box<str>,
        pipe: Option<Pipe>,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub struct Branch {
    pub pipe: Pipe,
    pub then: Vec<Node>,
    pub otherwise: Vec<Node>,
}

#[derive(Debug)]
pub struct Pipe {
    pub at: usize,
    pub length: usize,
    /// `$a :=`, `$a =`; `range` may have two.
    pub variables: Vec<Box<str>>,
    /// `=` rather than `:=`.
    pub assigns: bool,
    pub commands: Vec<Command>,
}

/// Operands one after the other; the first may be a function.
#[derive(Debug)]
pub struct Command {
    pub at: usize,
    pub length: usize,
    pub operands: Vec<Operand>,
}

#[derive(Debug)]
pub struct Operand {
    pub at: usize,
    /// Where Go's messages say it is: at its last field but those of a variable.
    pub named_at: usize,
    pub length: usize,
    pub kind: OperandKind,
    /// `.a.b` behind it.
    pub fields: Vec<Box<str>>,
}

#[derive(Debug)]
pub enum OperandKind {
    /// `.`, or with fields `.a.b`
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Box<str>),
    Variable(Box<str>),
    Function(&'static super::functions::Function),
    Pipe(Box<Pipe>),
}

impl Operand {
    /// Written out, rather than computed.
    pub fn is_literal(&self) -> bool {
        use OperandKind::{Bool, Float, Int, Nil, Text};
        matches!(self.kind, Bool(_) | Float(_) | Int(_) | Nil | Text(_))
    }
}
