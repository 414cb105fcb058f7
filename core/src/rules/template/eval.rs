//! Walks a template's tree and writes its text.

use super::{
    Data, Fault, QueryFn, Template, VARIABLES,
    ast::{Branch, Command, Node, Operand, OperandKind, Pipe},
    functions::{self, Body, Complaint},
    value::Value,
};
use alloc::{boxed::Box, format, rc::Rc, string::String, vec::Vec};
use core::ops::Range;

/// Longest text a template may make, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Nodes and calls one expansion may take; bounds loops.
const STEP_COUNT_MAX: usize = 100_000;
/// Deepest nesting of `{{template}}`.
const TEMPLATE_DEPTH_MAX: usize = 50;

pub fn expand(template: &Template, data: &Data, query: &mut QueryFn<'_>) -> Result<String, Fault> {
    let dot = Value::Data(Rc::new(data.clone()));
    let values = [
        dot.clone(),
        Value::Labels(data.labels.clone()),
        Value::Labels(data.external_labels.clone()),
        Value::Text(data.external_url.clone()),
        Value::Float(data.value),
    ];
    let variables = VARIABLES.iter().map(|name| Box::from(*name)).zip(values).collect();
    let mut walk = Walk { template, data, query, variables, out: String::new(), step_count: 0, template_depth: 0 };
    walk.list(&template.root, &dot)?;
    Ok(walk.out)
}

pub struct Walk<'w, 'q> {
    template: &'w Template,
    pub data: &'w Data,
    pub query: &'w mut QueryFn<'q>,
    variables: Vec<(Box<str>, Value)>,
    out: String,
    step_count: usize,
    template_depth: usize,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl Walk<'_, '_> {
    fn list(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, Fault> {
        for node in nodes {
            match self.node(node, dot)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, Fault> {
        match node {
            Node::Text(text) => self.write(0, text)?,
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.write(pipe.at, &value.print())?;
                }
            }
            Node::If(branch) | Node::With(branch) => {
                let scope = self.variables.len();
                let value = self.pipe(&branch.pipe, dot)?;
                let flow = match (value.is_true(), node) {
                    (true, Node::With(_)) => self.list(&branch.then, &value)?,
                    (true, _) => self.list(&branch.then, dot)?,
                    (false, _) => self.list(&branch.otherwise, dot)?,
                };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range(branch) => return self.range(branch, dot),
            Node::Template { at, name, pipe } => {
                let dot = match pipe {
                    Some(pipe) => self.pipe(pipe, dot)?,
                    None => Value::Nil,
                };
                self.template(*at, name, &dot)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<Flow, Fault> {
        let pipe = &branch.pipe;
        let scope = self.variables.len();
        let value = self.commands(pipe, dot)?;
        let count = match value {
            Value::Int(count) => usize::try_from(count).unwrap_or(0),
            _ => usize::MAX,
        };
        let elements = match &value {
            Value::Int(_) => Vec::new(),
            other => match other.elements() {
                Some(elements) => elements,
                None => return Err(fault(pipe, format!("range can't iterate over {}", other.print()))),
            },
        };
        let count = if count == usize::MAX { elements.len() } else { count };
        for index in 0..count {
            let (key, element) = match elements.get(index) {
                Some((key, element)) => (key.clone(), element.clone()),
                None => (Value::Int(index as i64), Value::Int(index as i64)),
            };
            self.step(pipe.at)?;
            match &pipe.variables[..] {
                [] => {}
                [only] => self.set(only, element.clone(), pipe.assigns),
                [first, second, ..] => {
                    self.set(first, key, pipe.assigns);
                    self.set(second, element.clone(), pipe.assigns);
                }
            }
            let flow = self.list(&branch.then, &element)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        if count == 0 {
            let flow = self.list(&branch.otherwise, dot)?;
            self.variables.truncate(scope);
            return Ok(flow);
        }
        Ok(Flow::Next)
    }

    fn template(&mut self, at: usize, name: &str, dot: &Value) -> Result<(), Fault> {
        let template = self.template;
        let Some((_, nodes)) = template.defined.iter().find(|(known, _)| **known == *name) else {
            let length = template.text[at..].find("}}").map_or(0, |length| length + 2);
            let start = template.text[..at].rfind("{{").unwrap_or(at);
            return Err(Fault { at, snippet: start..at + length, message: format!("template {name:?} not defined") });
        };
        if self.template_depth >= TEMPLATE_DEPTH_MAX {
            return Err(Fault::new(at, format!("exceeded maximum template depth ({TEMPLATE_DEPTH_MAX})")));
        }
        self.template_depth += 1;
        let outer = core::mem::replace(&mut self.variables, alloc::vec![("$".into(), dot.clone())]);
        self.list(nodes, dot)?;
        self.variables = outer;
        self.template_depth -= 1;
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, Fault> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    /// The pipe's value, each command's being the last argument of the next.
    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, Fault> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &Command, dot: &Value, last: Option<Value>) -> Result<Value, Fault> {
        self.step(command.at)?;
        let Some((first, rest)) = command.operands.split_first() else { return Ok(Value::Nil) };
        if let (OperandKind::Function(function), []) = (&first.kind, &first.fields[..]) {
            return self.call(command.at..command.at + command.length, first, function, rest, dot, last);
        }
        if rest.is_empty() && last.is_none() {
            if matches!(first.kind, OperandKind::Nil) {
                return Err(spanned(first, "nil is not a command"));
            }
            return self.operand(first, dot);
        }
        self.method_call(first, rest, dot, last)
    }

    /// `(toTime .Value).Format "15:04"`: the only things with arguments that are not functions.
    fn method_call(
        &mut self,
        first: &Operand,
        rest: &[Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        let Some((method, path)) = first.fields.split_last() else {
            let shown = &self.template.text[span(first)];
            return Err(spanned(first, format!("can't give argument to non-function {shown}")));
        };
        let mut receiver = self.base(first, dot)?;
        for field in path {
            receiver = receiver.field(field).map_err(|error| spanned(first, error))?;
        }
        let mut arguments = Vec::new();
        for operand in rest {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(last);
        match receiver.method(method, &arguments) {
            Some(result) => result.map_err(|error| spanned(first, error)),
            None => Err(spanned(first, format!("{method} is not a method but has arguments"))),
        }
    }

    fn call(
        &mut self,
        whole: Range<usize>,
        operand: &Operand,
        function: &'static functions::Function,
        rest: &[Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        let (name, found) = (function.name, rest.len() + usize::from(last.is_some()));
        if found < function.argument_count_min || function.argument_count_max.is_some_and(|max| found > max) {
            let wanted = match function.argument_count_max {
                Some(max) if max == function.argument_count_min => format!("{max}"),
                Some(_) | None => format!("at least {}", function.argument_count_min),
            };
            let message = format!("wrong number of args for {name}: want {wanted} got {found}");
            return Err(spanned(operand, message));
        }
        if let Body::ShortCircuit { stops_at } = function.body {
            return self.short_circuit(stops_at, rest, dot, last);
        }
        let mut arguments = Vec::with_capacity(found);
        for operand in rest {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(last);
        let result = match function.body {
            Body::Plain(run) => run(&arguments),
            Body::Walking(run) => run(self, &arguments),
            Body::ShortCircuit { .. } => unreachable!("handled above"),
        };
        let result = match result {
            Ok(Value::Text(text)) if text.len() > TEXT_BYTES_MAX => {
                Err(Complaint::Call(format!("the text is longer than {TEXT_BYTES_MAX} bytes; make it shorter")))
            }
            other => other,
        };
        result.map_err(|complaint| match complaint {
            Complaint::Call(message) => {
                Fault { at: whole.start, snippet: whole, message: format!("error calling {name}: {message}") }
            }
            Complaint::Argument { index, wanted, found } => match rest.get(index) {
                Some(literal) if literal.is_literal() => {
                    let shown = &self.template.text[span(literal)];
                    spanned(literal, format!("expected {wanted}; found {shown}"))
                }
                given => {
                    let message = format!("wrong type for value; expected {wanted}; got {found}");
                    match given {
                        Some(given) => spanned(given, message),
                        None => Fault { at: whole.start, snippet: whole, message },
                    }
                }
            },
        })
    }

    /// `and` stops at the first false argument, `or` at the first true one, without evaluating the others.
    fn short_circuit(
        &mut self,
        stops_at: bool,
        rest: &[Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        let mut value = Value::Nil;
        for operand in rest {
            value = self.operand(operand, dot)?;
            if value.is_true() == stops_at {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Fault> {
        let mut value = self.base(operand, dot)?;
        for (index, field) in operand.fields.iter().enumerate() {
            value = match value.method(field, &[]) {
                Some(result) if index + 1 == operand.fields.len() => result,
                _ => value.field(field),
            }
            .map_err(|error| spanned(operand, error))?;
        }
        Ok(value)
    }

    /// The operand without its fields.
    fn base(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Fault> {
        Ok(match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil => Value::Nil,
            OperandKind::Bool(bool) => Value::Bool(*bool),
            OperandKind::Int(int) => Value::Int(*int),
            OperandKind::Float(float) => Value::Float(*float),
            OperandKind::Text(text) => Value::text(text),
            OperandKind::Variable(name) => match self.variables.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => value.clone(),
                None => return Err(spanned(operand, format!("undefined variable: {name}"))),
            },
            OperandKind::Function(function) => self.call(span(operand), operand, function, &[], dot, None)?,
            OperandKind::Pipe(pipe) => self.pipe(pipe, dot)?,
        })
    }

    fn set(&mut self, name: &str, value: Value, assigns: bool) {
        if assigns && let Some((_, known)) = self.variables.iter_mut().rev().find(|(known, _)| **known == *name) {
            *known = value;
            return;
        }
        self.variables.push((name.into(), value));
    }

    fn write(&mut self, at: usize, text: &str) -> Result<(), Fault> {
        self.step(at)?;
        if self.out.len() + text.len() > TEXT_BYTES_MAX {
            return Err(Fault::new(at, format!("the text is longer than {TEXT_BYTES_MAX} bytes; make it shorter")));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn step(&mut self, at: usize) -> Result<(), Fault> {
        self.step_count += 1;
        if self.step_count > STEP_COUNT_MAX {
            return Err(Fault::new(
                at,
                format!("the template takes more than {STEP_COUNT_MAX} steps; make it simpler"),
            ));
        }
        Ok(())
    }
}

fn fault(pipe: &Pipe, message: String) -> Fault {
    Fault { at: pipe.at, snippet: pipe.at..pipe.at + pipe.length, message }
}

fn spanned(operand: &Operand, message: impl Into<String>) -> Fault {
    Fault { at: operand.named_at, snippet: span(operand), message: message.into() }
}

fn span(operand: &Operand) -> Range<usize> {
    operand.at..operand.at + operand.length
}
