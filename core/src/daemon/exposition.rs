//! Writes the text exposition format 0.0.4 for `/metrics`.

use crate::number::GoFloat;
use alloc::{string::String, vec::Vec};
use core::fmt::Write;

#[derive(Clone, Copy)]
pub enum Kind {
    Counter,
    Gauge,
}

#[derive(Default)]
pub struct Exposition {
    out: String,
    name: &'static str,
}

impl Exposition {
    /// Opens a family; its samples follow.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> &mut Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.name = name;
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        self
    }

    pub fn value(&mut self, value: f64) -> &mut Self {
        self.labelled(&[], value)
    }

    pub fn labelled(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        let name = self.name;
        self.put(format_args!("{name}"));
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { "{" } else { "," };
            self.put(format_args!("{before}{label}=\"{}\"", Escaped(text)));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        self.put(format_args!("{close} {}\n", GoFloat::G(value)));
        self
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    fn put(&mut self, args: core::fmt::Arguments<'_>) {
        let written = self.out.write_fmt(args);
        assert!(written.is_ok(), "writing into a string does not fail");
    }
}

/// A label value as the text format escapes it: backslash, quote and newline.
pub struct Escaped<'a>(pub &'a str);

impl core::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_open_with_help_and_type_and_values_are_escaped() {
        let mut exposition = Exposition::default();
        exposition
            .family("a_total", Kind::Counter, "What a is.")
            .labelled(&[("x", "1\"2\n"), ("y", "\\")], 1e6)
            .value(2.0);
        assert_eq!(
            core::str::from_utf8(&exposition.into_bytes()),
            Ok(
                "# HELP a_total What a is.\n# TYPE a_total counter\na_total{x=\"1\\\"2\\n\",y=\"\\\\\"} 1e+06\na_total 2\n"
            )
        );
    }
}
