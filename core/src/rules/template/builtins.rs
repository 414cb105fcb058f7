//! Go's own template functions that are more than a line, and replacing by regular expression.

use super::value::Value;
use alloc::{format, rc::Rc, string::String, string::ToString};
use core::cmp::Ordering;
use regex_automata::{Input, meta, util::captures::Captures};

/// Longest text `reReplaceAll` may make, in bytes.
const REPLACED_BYTES_MAX: usize = 64 * 1024;

pub fn len(arguments: &[Value]) -> Result<Value, String> {
    let length = match &arguments[0] {
        Value::Text(text) => text.len(),
        Value::Labels(labels) => labels.as_ref().as_ref().len(),
        Value::Samples(samples) => samples.len(),
        Value::Arguments(arguments) => arguments.len(),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(length as i64))
}

pub fn index(arguments: &[Value]) -> Result<Value, String> {
    let mut value = arguments[0].clone();
    for key in &arguments[1..] {
        value = match (&value, key) {
            (Value::Labels(labels), Value::Text(key)) => Value::text(labels.get(key).unwrap_or("")),
            (Value::Arguments(arguments), Value::Text(key)) => Value::argument(arguments, key).unwrap_or(Value::Nil),
            (Value::Samples(samples), Value::Int(at)) => {
                let found = usize::try_from(*at).ok().and_then(|at| samples.get(at));
                Value::Sample(found.ok_or_else(|| format!("index out of range: {at}"))?.clone())
            }
            (Value::Text(text), Value::Int(at)) => {
                let found = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
                Value::Int(i64::from(*found.ok_or_else(|| format!("index out of range: {at}"))?))
            }
            (Value::Nil, _) => return Err("index of untyped nil".into()),
            (Value::Labels(_) | Value::Arguments(_), key) => {
                return Err(format!("value has type {}; should be string", key.type_name()));
            }
            (Value::Samples(_) | Value::Text(_), key) => {
                return Err(format!("cannot index slice/array with type {}", key.type_name()));
            }
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

pub fn slice(arguments: &[Value]) -> Result<Value, String> {
    let length = match &arguments[0] {
        Value::Text(text) => text.len(),
        Value::Samples(samples) => samples.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut bounds = [0, length];
    if arguments.len() > 3 {
        return Err(match &arguments[0] {
            Value::Text(_) => "cannot 3-index slice a string".into(),
            _ => "3-index slices are not supported; use two indexes".into(),
        });
    }
    for (bound, argument) in bounds.iter_mut().zip(&arguments[1..]) {
        *bound = match argument {
            Value::Int(at) => usize::try_from(*at)
                .ok()
                .filter(|at| *at <= length)
                .ok_or_else(|| format!("index out of range: {at}"))?,
            other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
        };
    }
    let [from, to] = bounds;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match &arguments[0] {
        Value::Samples(samples) => Ok(Value::Samples(samples[from..to].iter().cloned().collect::<Rc<[_]>>())),
        Value::Text(text) => Ok(Value::text(&String::from_utf8_lossy(&text.as_bytes()[from..to]))),
        _ => unreachable!("only texts and samples have got a length above"),
    }
}

/// `eq a b c`: a is b or c.
pub fn eq(arguments: &[Value]) -> Result<Value, String> {
    let (first, others) = arguments.split_first().ok_or("missing argument for comparison")?;
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        if same(first, other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

pub fn same(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Labels(_) | Value::Samples(_) | Value::Arguments(_), _) => {
            Err(format!("non-comparable type {}: {}", a.print(), a.type_name()))
        }
        (_, Value::Labels(_) | Value::Samples(_) | Value::Arguments(_)) => {
            Err(format!("non-comparable type {}: {}", b.print(), b.type_name()))
        }
        _ => Err(incompatible(a, b)),
    }
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}

pub fn less(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(a < b),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b) == Some(Ordering::Less)),
        (Value::Text(a), Value::Text(b)) => Ok(a < b),
        (Value::Int(_) | Value::Float(_) | Value::Text(_), Value::Int(_) | Value::Float(_) | Value::Text(_)) => {
            Err(incompatible(a, b))
        }
        _ => Err("invalid type for comparison".into()),
    }
}

pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
    }
    out
}

pub fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", character as u32)),
            control if control < ' ' => out.push_str(&format!("\\u{:04X}", control as u32)),
            control if control.is_control() => out.push_str(&format!("\\u{:04X}", control as u32)),
            other => out.push(other),
        }
    }
    out
}

/// Go's `regexp.ReplaceAllString`: `$1`, `${1}` and `$name` are groups, `$$` a dollar.
pub fn replace_all(pattern: &str, replacement: &str, text: &str) -> Result<String, String> {
    let regex = crate::labels::search_regex(pattern).map_err(|error| error.to_string())?;
    let mut captures = regex.create_captures();
    let mut out = String::new();
    let (mut copied, mut from, mut last_end) = (0, 0, None);
    while from <= text.len() {
        regex.captures(Input::new(text).range(from..), &mut captures);
        let Some(found) = captures.get_match() else { break };
        from = if found.is_empty() { next_character(text, found.end()) } else { found.end() };
        // An empty match right behind a match is none.
        if found.is_empty() && last_end == Some(found.end()) {
            continue;
        }
        last_end = Some(found.end());
        out.push_str(&text[copied..found.start()]);
        interpolate(&mut out, replacement, &regex, &captures, text);
        copied = found.end();
        if out.len() > REPLACED_BYTES_MAX {
            return Err(format!("the text becomes longer than {REPLACED_BYTES_MAX} bytes; replace less"));
        }
    }
    out.push_str(&text[copied..]);
    Ok(out)
}

fn next_character(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(1, char::len_utf8)
}

fn interpolate(out: &mut String, replacement: &str, regex: &meta::Regex, captures: &Captures, text: &str) {
    let mut rest = replacement;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some((name, after)) = group_name(rest) else {
            out.push('$');
            continue;
        };
        rest = after;
        let index = match name.parse::<usize>() {
            Ok(index) => Some(index),
            Err(_) => captures.pattern().and_then(|pattern| regex.group_info().to_index(pattern, name)),
        };
        if let Some(span) = index.and_then(|index| captures.get_group(index)) {
            out.push_str(&text[span.range()]);
        }
    }
    out.push_str(rest);
}

/// The name behind a dollar, with or without braces, and what follows it.
fn group_name(rest: &str) -> Option<(&str, &str)> {
    let is_name = |c: char| c == '_' || c.is_alphanumeric();
    match rest.strip_prefix('{') {
        Some(inside) => {
            let (name, after) = inside.split_once('}')?;
            (!name.is_empty() && name.chars().all(is_name)).then_some((name, after))
        }
        None => {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            (end > 0).then(|| rest.split_at(end))
        }
    }
}
