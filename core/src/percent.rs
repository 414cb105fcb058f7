//! Percent-encoding, for whatever becomes part of a URL.

use alloc::string::String;

/// As HTML forms and Go's `url.QueryEscape` write it: a space is `+`, everything but letters, digits and `-_.~` is
/// percent-encoded.
pub fn push_query_escaped(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_query_may_hold_stays_as_it_is() {
        let mut out = String::new();
        push_query_escaped(&mut out, "aZ09-_.~ +&=%/\u{e9}\n");
        assert_eq!(out, "aZ09-_.~+%2B%26%3D%25%2F%C3%A9%0A");
    }
}
