//! What a template computes with: the Go types that can occur, and how they print.

use super::{printf, time_text};
use crate::labels::LabelSet;
use alloc::{boxed::Box, format, rc::Rc, string::String, vec::Vec};

#[derive(Clone, Debug)]
pub enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    /// `map[string]string`; a missing key is the empty text.
    Labels(Rc<LabelSet>),
    /// `.`, the template's data.
    Data(Rc<super::Data>),
    /// The result of `query`.
    Samples(Rc<[Rc<Sample>]>),
    Sample(Rc<Sample>),
    /// `map[string]interface {}`, from `args`.
    Arguments(Rc<[Value]>),
    /// Milliseconds since 1970 UTC, from `toTime`.
    Time(i64),
    /// Nanoseconds, from `toDuration`.
    Duration(i64),
}

#[derive(Debug)]
pub struct Sample {
    pub labels: Rc<LabelSet>,
    pub value: f64,
    pub text: Option<Box<str>>,
}

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// Go's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Labels(_) => "map[string]string",
            Self::Data(_) => {
                "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; \
                           Value interface {} }"
            }
            Self::Samples(_) => "template.queryResult",
            Self::Sample(_) => "*template.sample",
            Self::Arguments(_) => "map[string]interface {}",
            Self::Time(_) => "*time.Time",
            Self::Duration(_) => "*time.Duration",
        }
    }

    /// What `if`, `and`, `or` and `not` see: empty, zero and nil are false.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(bool) => *bool,
            Self::Int(int) => *int != 0,
            Self::Float(float) => *float != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Labels(labels) => !labels.as_ref().as_ref().is_empty(),
            Self::Samples(samples) => !samples.is_empty(),
            Self::Arguments(arguments) => !arguments.is_empty(),
            Self::Data(_) | Self::Sample(_) | Self::Time(_) | Self::Duration(_) => true,
        }
    }

    /// As `{{ value }}` and `%v` write it.
    pub fn print(&self) -> String {
        match self {
            Self::Nil => "<no value>".into(),
            other => printf::sprintf("%v", core::slice::from_ref(other)),
        }
    }

    /// `arg0`, `arg1` ... of `args`.
    pub fn argument(arguments: &[Value], key: &str) -> Option<Value> {
        key.strip_prefix("arg")
            .and_then(|index| index.parse::<usize>().ok())
            .and_then(|index| arguments.get(index))
            .cloned()
    }

    /// A field or a key: `.name`.
    pub fn field(&self, name: &str) -> Result<Value, String> {
        match self {
            Self::Data(data) => match name {
                "Labels" => Ok(Self::Labels(data.labels.clone())),
                "ExternalLabels" => Ok(Self::Labels(data.external_labels.clone())),
                "ExternalURL" => Ok(Self::Text(data.external_url.clone())),
                "Value" => Ok(Self::Float(data.value)),
                _ => Err(self.no_field(name)),
            },
            Self::Labels(labels) => Ok(Self::text(labels.get(name).unwrap_or(""))),
            Self::Sample(sample) => match name {
                "Labels" => Ok(Self::Labels(sample.labels.clone())),
                "Value" => Ok(Self::Float(sample.value)),
                _ => Err(self.no_field(name)),
            },
            Self::Arguments(arguments) => Ok(Self::argument(arguments, name).unwrap_or(Self::Nil)),
            Self::Nil => Err(format!("nil data; no entry for key {name:?}")),
            _ => Err(self.no_field(name)),
        }
    }

    /// Calls a method of a time or a duration.
    pub fn method(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let layout = match arguments {
            [] => None,
            [Value::Text(layout)] => Some(&**layout),
            _ => return None,
        };
        match self {
            Self::Time(ms) => time_text::time_method(*ms, name, layout),
            Self::Duration(ns) => time_text::duration_method(*ns, name, layout),
            _ => None,
        }
    }

    fn no_field(&self, name: &str) -> String {
        format!("can't evaluate field {name} in type {}", self.type_name())
    }

    /// The elements that `range` goes over, each with its key.
    pub fn elements(&self) -> Option<Vec<(Value, Value)>> {
        Some(match self {
            Self::Nil => Vec::new(),
            Self::Labels(labels) => labels.iter().map(|(name, value)| (Self::text(name), Self::text(value))).collect(),
            Self::Samples(samples) => {
                let samples = samples.iter().cloned().map(Self::Sample);
                samples.enumerate().map(|(index, sample)| (Self::Int(index as i64), sample)).collect()
            }
            Self::Arguments(arguments) => {
                let mut pairs: Vec<(String, Value)> = arguments
                    .iter()
                    .cloned()
                    .enumerate()
                    .map(|(index, value)| (format!("arg{index}"), value))
                    .collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                pairs.into_iter().map(|(key, value)| (Self::text(&key), value)).collect()
            }
            _ => return None,
        })
    }
}
