//! Writes the text format 0.0.4.

use core::fmt::{Display, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Untyped,
}

/// Appends families and samples. Names and help texts are ours; label values are foreign and get escaped.
pub struct Writer<'o> {
    out: &'o mut String,
}

impl<'o> Writer<'o> {
    pub fn new(out: &'o mut String) -> Self {
        Self { out }
    }

    /// Where the output stands, for [`Writer::rewind`].
    pub fn mark(&self) -> usize {
        self.out.len()
    }

    /// Takes back everything written since `mark`.
    pub fn rewind(&mut self, mark: usize) {
        self.out.truncate(mark);
    }

    /// Opens a family. `help` is one line without backslashes.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
        };
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One sample; `value` displays as a number (integers as such, floats in Rust's shortest form).
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.out.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.out.push(if index == 0 { '{' } else { ',' });
            self.out.push_str(label);
            self.out.push_str("=\"");
            self.escaped(text);
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                other => self.out.push(other),
            }
        }
    }

    fn write(&mut self, arguments: core::fmt::Arguments) {
        let written = self.out.write_fmt(arguments);
        assert!(written.is_ok(), "a String takes everything");
    }
}
