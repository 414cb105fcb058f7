//! The part of Go's text/template that alert labels and annotations use (Prometheus' template package).
//!
//! ```text
//! text -> lex (pieces) -> parse (nodes) -> eval (text) -> functions, printf, humanize
//! ```
//!
//! Everything is bounded: the nesting of a template, the steps it may take and the text it may make.

mod ast;
mod builtins;
mod eval;
mod functions;
mod humanize;
mod lex;
mod parse;
mod printf;
mod time_text;
mod value;

use crate::labels::LabelSet;
use alloc::{boxed::Box, format, rc::Rc, string::String, vec::Vec};
use core::{fmt, ops::Range};

/// A parsed template, ready to be expanded any number of times.
#[derive(Debug)]
pub struct Template {
    name: Box<str>,
    text: Box<str>,
    root: Vec<ast::Node>,
    defined: Vec<(Box<str>, Vec<ast::Node>)>,
}

/// What a template may look at: `.Labels`, `.Value`, `.ExternalLabels`, `.ExternalURL` and the variables of these names.
#[derive(Clone, Debug)]
pub struct Data {
    /// The sample's labels, its name included.
    pub labels: Rc<LabelSet>,
    pub external_labels: Rc<LabelSet>,
    pub external_url: Rc<str>,
    pub value: f64,
    /// The evaluation's instant, for `now`.
    pub now_ms: i64,
}

/// One series of a query's answer, for the function `query`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueriedSample {
    pub labels: LabelSet,
    pub value: f64,
    /// The text, where the query gave one.
    pub text: Option<Box<str>>,
}

/// Answers the function `query` at the evaluation's instant.
pub type QueryFn<'q> = dyn FnMut(&str) -> Result<Vec<QueriedSample>, String> + 'q;

/// Where and why a template could not be parsed or expanded, worded as Go does where that is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(Box<str>);

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for TemplateError {}

/// What Prometheus puts before every template, for the columns in its messages.
const PREAMBLE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                        {{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// The variables the preamble sets, in the order of [`Data`]'s use in `eval`.
const VARIABLES: [&str; 5] = ["$", "$labels", "$externalLabels", "$externalURL", "$value"];

impl Template {
    /// `name` is for messages; Prometheus names an alert's templates `__alert_<alert>`.
    pub fn parse(name: &str, text: &str) -> Result<Self, TemplateError> {
        let parsed = lex::pieces(text).and_then(|pieces| parse::parse(text, &pieces));
        let (root, defined) = parsed.map_err(|Fault { at, message, .. }| {
            let (line, _) = position(text, at);
            TemplateError(format!("template: {name}:{line}: {message}").into())
        })?;
        Ok(Self { name: name.into(), text: text.into(), root, defined })
    }

    pub fn expand(&self, data: &Data, query: &mut QueryFn<'_>) -> Result<String, TemplateError> {
        if let [ast::Node::Text(text)] = &self.root[..] {
            return Ok(text.as_ref().into());
        }
        eval::expand(self, data, query).map_err(|Fault { at, snippet, message }| {
            let name = &self.name;
            let (line, column) = position(&self.text, at);
            let snippet = self.text.get(snippet).unwrap_or("");
            TemplateError(
                format!(
                    "error executing template {name}: template: {name}:{line}:{column}: executing \"{name}\" at \
                     <{snippet}>: {message}"
                )
                .into(),
            )
        })
    }
}

/// What went wrong, where Go would say it is, and the piece of the text it would show.
#[derive(Debug)]
struct Fault {
    at: usize,
    snippet: Range<usize>,
    message: String,
}

impl Fault {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, snippet: at..at, message: message.into() }
    }
}

/// Line from 1, and bytes from the line's start, counting the preamble as Prometheus does.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    match before.iter().rposition(|byte| *byte == b'\n') {
        Some(newline) => (line, before.len() - newline - 1),
        None => (line, before.len() + PREAMBLE.len()),
    }
}

#[cfg(test)]
mod tests;
