//! Writes JSON into a growing buffer whose owner bounds it.

use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Commas are placed by looking at what was written last, so that pieces can be taken out while writing goes on.
#[derive(Default)]
pub struct Json {
    out: Vec<u8>,
    /// The last thing written was a whole value: the next needs a comma.
    after_value: bool,
}

impl Json {
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// What is written so far, leaving the writer where it is in the document.
    pub fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.out)
    }

    pub fn len(&self) -> usize {
        self.out.len()
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    pub fn object(&mut self, members: impl FnOnce(&mut Self)) -> &mut Self {
        self.open("{");
        members(self);
        self.close("}")
    }

    pub fn array(&mut self, items: impl FnOnce(&mut Self)) -> &mut Self {
        self.open("[");
        items(self);
        self.close("]")
    }

    /// Opens what a later call closes, for documents written in pieces.
    pub fn open(&mut self, bracket: &'static str) -> &mut Self {
        self.comma();
        self.out.extend_from_slice(bracket.as_bytes());
        self.after_value = false;
        self
    }

    pub fn close(&mut self, bracket: &'static str) -> &mut Self {
        self.out.extend_from_slice(bracket.as_bytes());
        self.after_value = true;
        self
    }

    pub fn key(&mut self, key: &str) -> &mut Self {
        self.text(key);
        self.out.push(b':');
        self.after_value = false;
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.comma();
        self.out.push(b'"');
        self.escape(text);
        self.out.push(b'"');
        self
    }

    /// A text written by `Display`, quoted and escaped.
    pub fn display(&mut self, value: impl fmt::Display) -> &mut Self {
        self.comma();
        self.out.push(b'"');
        let written = write!(Escaping(self), "{value}");
        assert!(written.is_ok(), "writing into a vector does not fail");
        self.out.push(b'"');
        self
    }

    /// A number, `true`, `false` or `null`, as `Display` writes it.
    pub fn plain(&mut self, value: impl fmt::Display) -> &mut Self {
        self.comma();
        let written = write!(Plain(&mut self.out), "{value}");
        assert!(written.is_ok(), "writing into a vector does not fail");
        self
    }

    /// Milliseconds as seconds, with a fraction only where there is one, as Prometheus marshals timestamps.
    pub fn timestamp(&mut self, t_ms: i64) -> &mut Self {
        let (sign, whole, fraction) =
            (if t_ms < 0 { "-" } else { "" }, t_ms.unsigned_abs() / 1000, t_ms.unsigned_abs() % 1000);
        if fraction == 0 {
            self.plain(format_args!("{sign}{whole}"))
        } else {
            self.plain(format_args!("{sign}{whole}.{fraction:03}"))
        }
    }

    fn comma(&mut self) {
        if self.after_value {
            self.out.push(b',');
        }
        self.after_value = true;
    }

    /// Go's encoder also escapes `<`, `>`, `&` and the two line separators; all readers take both forms.
    fn escape(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '"' => self.out.extend_from_slice(b"\\\""),
                '\\' => self.out.extend_from_slice(b"\\\\"),
                '\n' => self.out.extend_from_slice(b"\\n"),
                '\r' => self.out.extend_from_slice(b"\\r"),
                '\t' => self.out.extend_from_slice(b"\\t"),
                c if (c as u32) < 0x20 => {
                    let written = write!(Plain(&mut self.out), "\\u{:04x}", c as u32);
                    assert!(written.is_ok(), "writing into a vector does not fail");
                }
                c => self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}

struct Plain<'a>(&'a mut Vec<u8>);

impl Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

struct Escaping<'a>(&'a mut Json);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.escape(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_between_values_and_nowhere_else() {
        let mut json = Json::default();
        json.object(|json| {
            json.key("a").array(|_| {});
            json.key("b").array(|json| {
                json.plain(1).timestamp(1_500).timestamp(-20).timestamp(2_000);
                json.object(|_| {});
            });
            json.key("c\n").display(format_args!("x\"{}", '\u{1}'));
        });
        assert_eq!(core::str::from_utf8(json.bytes()), Ok(r#"{"a":[],"b":[1,1.500,-0.020,2,{}],"c\n":"x\"\u0001"}"#));
    }

    #[test]
    fn pieces_taken_in_between_join_to_the_whole() {
        let mut json = Json::default();
        json.open("[").plain(1);
        let first = json.take();
        json.plain(2).close("]");
        assert_eq!([first, json.into_bytes()].concat(), b"[1,2]");
    }
}
