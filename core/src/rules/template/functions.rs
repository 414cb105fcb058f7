//! THE table of template functions: one row each. Prometheus' own first (its template package), then Go's.

use super::{builtins, eval::Walk, humanize, printf, time_text, value::Sample, value::Value};
use crate::labels::{LabelSet, search_regex};
use crate::percent::push_query_escaped;
use alloc::{format, rc::Rc, string::String, string::ToString, vec::Vec};

#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub argument_count_min: usize,
    /// `None`: any number.
    pub argument_count_max: Option<usize>,
    pub body: Body,
}

type Outcome = Result<Value, Complaint>;

/// Why a function gives nothing.
#[derive(Debug)]
pub enum Complaint {
    /// This argument cannot be converted to the function's type.
    Argument {
        index: usize,
        wanted: &'static str,
        found: &'static str,
    },
    Call(String),
}

impl From<String> for Complaint {
    fn from(message: String) -> Self {
        Self::Call(message)
    }
}

#[derive(Debug)]
pub enum Body {
    Plain(fn(&[Value]) -> Outcome),
    /// Needs the data or the source.
    Walking(fn(&mut Walk<'_, '_>, &[Value]) -> Outcome),
    /// `and` (stops at false) and `or` (stops at true).
    ShortCircuit {
        stops_at: bool,
    },
}

pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

const fn plain(name: &'static str, count: usize, run: fn(&[Value]) -> Outcome) -> Function {
    Function { name, argument_count_min: count, argument_count_max: Some(count), body: Body::Plain(run) }
}

const fn many(name: &'static str, count_min: usize, run: fn(&[Value]) -> Outcome) -> Function {
    Function { name, argument_count_min: count_min, argument_count_max: None, body: Body::Plain(run) }
}

const fn walking(name: &'static str, count: usize, run: fn(&mut Walk<'_, '_>, &[Value]) -> Outcome) -> Function {
    Function { name, argument_count_min: count, argument_count_max: Some(count), body: Body::Walking(run) }
}

const fn short(name: &'static str, stops_at: bool) -> Function {
    Function { name, argument_count_min: 1, argument_count_max: None, body: Body::ShortCircuit { stops_at } }
}

static FUNCTIONS: &[Function] = &[
    walking("query", 1, query),
    plain("first", 1, |a| {
        samples(a, 0)?
            .first()
            .cloned()
            .map(Value::Sample)
            .ok_or_else(|| Complaint::Call("first() called on vector with no elements".into()))
    }),
    plain("label", 2, |a| Ok(Value::text(sample(a, 1)?.labels.get(text(a, 0)?).unwrap_or("")))),
    plain("value", 1, |a| Ok(Value::Float(sample(a, 0)?.value))),
    plain("strvalue", 1, |a| Ok(Value::text(sample(a, 0)?.text.as_deref().unwrap_or("")))),
    many("args", 0, |a| Ok(Value::Arguments(a.into()))),
    plain("reReplaceAll", 3, |a| replace_all(text(a, 0)?, text(a, 1)?, text(a, 2)?)),
    plain("safeHtml", 1, |a| Ok(Value::text(text(a, 0)?))),
    plain("match", 2, |a| Ok(Value::Bool(found(text(a, 0)?, text(a, 1)?)?))),
    plain("title", 1, |a| Ok(Value::text(&title(text(a, 0)?)))),
    plain("toUpper", 1, |a| Ok(Value::text(&text(a, 0)?.to_uppercase()))),
    plain("toLower", 1, |a| Ok(Value::text(&text(a, 0)?.to_lowercase()))),
    plain("graphLink", 1, |a| Ok(Value::text(&link(text(a, 0)?, 0)))),
    plain("tableLink", 1, |a| Ok(Value::text(&link(text(a, 0)?, 1)))),
    plain("sortByLabel", 2, sort_by_label),
    plain("stripPort", 1, |a| Ok(Value::text(strip_port(text(a, 0)?)))),
    plain("stripDomain", 1, |a| Ok(Value::text(&strip_domain(text(a, 0)?)))),
    plain("humanize", 1, |a| Ok(Value::text(&humanize::humanize(float(a, 0)?)))),
    plain("humanize1024", 1, |a| Ok(Value::text(&humanize::humanize1024(float(a, 0)?)))),
    plain("humanizeDuration", 1, |a| Ok(Value::text(&humanize::duration(float(a, 0)?)))),
    plain("humanizePercentage", 1, |a| Ok(Value::text(&humanize::percentage(float(a, 0)?)))),
    plain("humanizeTimestamp", 1, |a| Ok(Value::text(&humanize::timestamp(float(a, 0)?)?))),
    plain("toTime", 1, |a| Ok(Value::Time(time_text::time_from_seconds(float(a, 0)?)?))),
    plain("toDuration", 1, |a| Ok(Value::Duration(time_text::duration_from_seconds(float(a, 0)?)?))),
    walking("now", 0, |walk, _| Ok(Value::Float(crate::time::seconds(walk.data.now_ms)))),
    walking("pathPrefix", 0, |walk, _| Ok(Value::text(path_of(&walk.data.external_url)))),
    walking("externalURL", 0, |walk, _| Ok(Value::Text(walk.data.external_url.clone()))),
    plain("parseDuration", 1, |a| Ok(Value::Float(time_text::parse_duration(text(a, 0)?)?))),
    plain("urlQueryEscape", 1, |a| Ok(Value::text(&query_escaped(text(a, 0)?)))),
    short("and", false),
    short("or", true),
    plain("not", 1, |a| Ok(Value::Bool(!a[0].is_true()))),
    plain("len", 1, |a| Ok(builtins::len(a)?)),
    many("index", 1, |a| Ok(builtins::index(a)?)),
    many("slice", 1, |a| Ok(builtins::slice(a)?)),
    many("print", 0, |a| Ok(Value::text(&printf::sprint(a)))),
    many("println", 0, |a| Ok(Value::text(&printf::sprintln(a)))),
    many("printf", 1, |a| Ok(Value::text(&printf::sprintf(text(a, 0)?, &a[1..])))),
    many("html", 0, |a| Ok(Value::text(&builtins::html(&printf::sprint(a))))),
    many("js", 0, |a| Ok(Value::text(&builtins::js(&printf::sprint(a))))),
    many("urlquery", 0, |a| Ok(Value::text(&query_escaped(&printf::sprint(a))))),
    many("call", 1, |a| Err(format!("non-function {} of type {}", a[0].print(), a[0].type_name()).into())),
    many("eq", 1, |a| Ok(builtins::eq(a)?)),
    plain("ne", 2, |a| Ok(Value::Bool(!builtins::same(&a[0], &a[1])?))),
    plain("lt", 2, |a| Ok(Value::Bool(builtins::less(&a[0], &a[1])?))),
    plain("le", 2, |a| Ok(Value::Bool(builtins::less(&a[0], &a[1])? || builtins::same(&a[0], &a[1])?))),
    plain("gt", 2, |a| Ok(Value::Bool(!(builtins::less(&a[0], &a[1])? || builtins::same(&a[0], &a[1])?)))),
    plain("ge", 2, |a| Ok(Value::Bool(!builtins::less(&a[0], &a[1])?))),
];

fn text(arguments: &[Value], index: usize) -> Result<&str, Complaint> {
    match &arguments[index] {
        Value::Text(text) => Ok(text),
        other => Err(wrong_type("string", index, other)),
    }
}

fn samples(arguments: &[Value], index: usize) -> Result<&[Rc<Sample>], Complaint> {
    match &arguments[index] {
        Value::Samples(samples) => Ok(samples),
        other => Err(wrong_type("template.queryResult", index, other)),
    }
}

fn sample(arguments: &[Value], index: usize) -> Result<&Sample, Complaint> {
    match &arguments[index] {
        Value::Sample(sample) => Ok(sample),
        other => Err(wrong_type("*template.sample", index, other)),
    }
}

fn wrong_type(wanted: &'static str, index: usize, found: &Value) -> Complaint {
    Complaint::Argument { index, wanted, found: found.type_name() }
}

/// What the humanize family takes: numbers, durations, and texts that are numbers.
fn float(arguments: &[Value], index: usize) -> Result<f64, String> {
    match &arguments[index] {
        Value::Float(float) => Ok(*float),
        Value::Int(int) => Ok(*int as f64),
        Value::Duration(ns) => Ok(*ns as f64 / 1e9),
        Value::Text(text) => {
            parse_float(text).ok_or_else(|| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax"))
        }
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

/// Go's ParseFloat for what occurs in labels.
fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        "nan" if unsigned == text => Some(f64::NAN),
        "nan" => None,
        _ => text.parse().ok(),
    }
}

fn query(walk: &mut Walk<'_, '_>, arguments: &[Value]) -> Outcome {
    let samples = (walk.query)(text(arguments, 0)?)?;
    let samples = samples
        .into_iter()
        .map(|queried| Rc::new(Sample { labels: Rc::new(queried.labels), value: queried.value, text: queried.text }));
    Ok(Value::Samples(samples.collect()))
}

fn sort_by_label(arguments: &[Value]) -> Outcome {
    let label = text(arguments, 0)?;
    let mut sorted: Vec<Rc<Sample>> = samples(arguments, 1)?.to_vec();
    let key = |labels: &LabelSet| -> String { labels.get(label).unwrap_or("").into() };
    sorted.sort_by_cached_key(|sample| key(&sample.labels));
    Ok(Value::Samples(sorted.into()))
}

fn found(pattern: &str, text: &str) -> Result<bool, String> {
    search_regex(pattern).map(|regex| regex.is_match(text)).map_err(|error| error.to_string())
}

fn replace_all(pattern: &str, replacement: &str, text: &str) -> Outcome {
    Ok(Value::text(&builtins::replace_all(pattern, replacement, text)?))
}

/// Upper-cases the first letter of every word.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for character in text.chars() {
        if in_word {
            out.push(character)
        } else {
            out.extend(character.to_uppercase())
        }
        in_word = character.is_alphanumeric() || character == '_' || character == '\'';
    }
    out
}

/// The page of an expression, below the external URL. `tab` 0 is the graph, 1 the table.
fn link(expr: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", query_escaped(expr))
}

fn query_escaped(text: &str) -> String {
    let mut out = String::new();
    push_query_escaped(&mut out, text);
    out
}

/// Host and port of `host:port` or `[host]:port`, as Go's `net.SplitHostPort`.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(rest) => {
            let inside = rest.strip_suffix(']')?;
            (!inside.contains(['[', ']'])).then_some((inside, port))
        }
        None => (!host.contains([':', '[', ']']) && !port.contains([']', '['])).then_some((host, port)),
    }
}

fn strip_port(text: &str) -> &str {
    split_host_port(text).map_or(text, |(host, _)| host)
}

/// `host.example.org:80` -> `host:80`; addresses stay whole.
fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<core::net::IpAddr>().is_ok() {
        return text.into();
    }
    let short = host.split('.').next().unwrap_or(host);
    match port {
        "" => short.into(),
        port if short.contains(':') => format!("[{short}]:{port}"),
        port => format!("{short}:{port}"),
    }
}

/// The path of a URL, without what is before and behind it.
fn path_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = after_scheme.find('/').map_or("", |start| &after_scheme[start..]);
    path.split(['?', '#']).next().unwrap_or("")
}
