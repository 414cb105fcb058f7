//! Text to tokens.
//!
//! Words are not told apart here: PromQL's keywords are names in other places, so the parser decides. Two places have
//! rules of their own and are tracked: inside braces there are only names, strings and match operators, and inside
//! brackets a colon separates instead of belonging to a name.

use super::ast::Span;
use crate::time::{self, DurationError};
use alloc::{format, string::String, vec::Vec};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or keyword, perhaps with colons.
    Word,
    Number,
    /// `1h30m`
    Duration,
    /// Still quoted.
    Text,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    At,
    Assign,
    EqualRegexp,
    NotEqualRegexp,
    Equal,
    NotEqual,
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    Caret,
    End,
    /// Where the lexer could not go on; always the last.
    Broken,
}

#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub kind: TokenKind,
    pub span: Span,
}

/// Where the lexer stopped, and why.
pub type LexError = (Span, String);

/// All tokens of `text`, the last of kind `End`, or of kind `Broken` with the reason beside: it only counts if the parser
/// comes that far.
pub fn lex(text: &str) -> (Vec<Token>, Option<LexError>) {
    let mut lexer = Lexer { text, at: 0, parens: 0, in_braces: false, in_brackets: false };
    let mut tokens = Vec::new();
    loop {
        match lexer.next() {
            Ok(token) => tokens.push(token),
            Err(error) => {
                tokens.push(Token { kind: TokenKind::Broken, span: error.0 });
                return (tokens, Some(error));
            }
        }
        if tokens.last().is_some_and(|token| token.kind == TokenKind::End) {
            return (tokens, None);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    parens: usize,
    in_braces: bool,
    in_brackets: bool,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn next(&mut self) -> Result<Token, LexError> {
        self.skip_blanks();
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            return self.end();
        };
        let kind = match first {
            '"' | '\'' | '`' => self.string(first)?,
            'a'..='z' | 'A'..='Z' | '_' => self.word(),
            _ if self.in_braces => self.brace_symbol(first)?,
            ':' if !self.in_brackets => {
                if self.rest()[1..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
                    self.word()
                } else {
                    return Err(self.refuse(start, format!("unexpected character: {first:?}")));
                }
            }
            '0'..='9' | '.' => self.number()?,
            _ => self.symbol(first)?,
        };
        if self.at == start {
            self.at += 1;
        }
        Ok(Token { kind, span: Span { start, end: self.at } })
    }

    fn end(&mut self) -> Result<Token, LexError> {
        let here = self.at;
        if self.in_braces {
            return Err(self.refuse(here, "unexpected end of input inside braces".into()));
        }
        if self.in_brackets {
            return Err(self.refuse(here, "unexpected end of input inside brackets".into()));
        }
        if self.parens > 0 {
            return Err(self.refuse(here, "unclosed left parenthesis".into()));
        }
        Ok(Token { kind: TokenKind::End, span: Span { start: here, end: here } })
    }

    fn refuse(&self, start: usize, message: String) -> LexError {
        (Span { start, end: self.at.max(start) }, message)
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn word(&mut self) -> TokenKind {
        let colons = !self.in_braces && !self.in_brackets;
        let rest = self.rest();
        let length =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':'))).unwrap_or(rest.len());
        self.at += length;
        TokenKind::Word
    }

    fn string(&mut self, quote: char) -> Result<TokenKind, LexError> {
        let start = self.at;
        let mut escaped = false;
        for (offset, c) in self.rest()[1..].char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quote != '`' => escaped = true,
                '\n' if quote != '`' => break,
                c if c == quote => {
                    self.at = start + 1 + offset + 1;
                    return Ok(TokenKind::Text);
                }
                _ => {}
            }
        }
        self.at = self.text.len();
        let what = if quote == '`' { "unterminated raw string" } else { "unterminated quoted string" };
        Err(self.refuse(start, what.into()))
    }

    /// `12`, `0x1f`, `1.5e-3`, `.5`, and durations such as `1h30m`.
    fn number(&mut self) -> Result<TokenKind, LexError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        // An underscore may stand between digits, and behind `0x`.
        let digits = |mut at: usize, hex: bool| {
            let is_digit =
                |at: usize| bytes.get(at).is_some_and(|b| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() });
            let from = at;
            while is_digit(at) || (bytes.get(at) == Some(&b'_') && is_digit(at + 1) && (hex || at > from)) {
                at += 1;
            }
            at
        };
        let is_word = |at: usize| bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let hex = bytes[start] == b'0' && matches!(bytes.get(start + 1), Some(b'x' | b'X'));
        let mut end = if hex { digits(start + 2, true) } else { digits(start, false) };
        let mut kind = TokenKind::Number;
        if hex && end == start + 2 {
            kind = TokenKind::End;
        } else if !hex {
            if end > start && bytes.get(end).is_some_and(u8::is_ascii_alphabetic) && !matches!(bytes[end], b'e' | b'E')
            {
                while is_word(end) {
                    end += 1;
                }
                kind = TokenKind::Duration;
            } else {
                if bytes.get(end) == Some(&b'.') {
                    end = digits(end + 1, false);
                }
                if matches!(bytes.get(end), Some(b'e' | b'E')) {
                    let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
                    let exponent = digits(end + 1 + sign, false);
                    kind = if exponent == end + 1 + sign { TokenKind::End } else { kind };
                    end = exponent;
                }
            }
        }
        let lone_dot = &self.text[start..end] == ".";
        let broken = kind == TokenKind::End || lone_dot || (kind == TokenKind::Number && is_word(end));
        if broken || bytes.get(end) == Some(&b'.') {
            while is_word(end) || bytes.get(end) == Some(&b'.') {
                end += 1;
            }
            self.at = end;
            let text = &self.text[start..end];
            return Err(self.refuse(start, format!("bad number or duration syntax: {text:?}")));
        }
        self.at = end;
        Ok(kind)
    }

    fn brace_symbol(&mut self, first: char) -> Result<TokenKind, LexError> {
        let (kind, length) = match (first, self.rest().as_bytes().get(1)) {
            ('}', _) => {
                self.in_braces = false;
                (TokenKind::RightBrace, 1)
            }
            (',', _) => (TokenKind::Comma, 1),
            ('=', Some(b'~')) => (TokenKind::EqualRegexp, 2),
            ('=', _) => (TokenKind::Assign, 1),
            ('!', Some(b'~')) => (TokenKind::NotEqualRegexp, 2),
            ('!', Some(b'=')) => (TokenKind::NotEqual, 2),
            ('{', _) => return Err(self.refuse(self.at, "unexpected left brace '{'".into())),
            _ => return Err(self.refuse(self.at, format!("unexpected character inside braces: {first:?}"))),
        };
        self.at += length;
        Ok(kind)
    }

    fn symbol(&mut self, first: char) -> Result<TokenKind, LexError> {
        let second = self.rest().as_bytes().get(1).copied();
        let (kind, length) = match (first, second) {
            ('(', _) => {
                self.parens += 1;
                (TokenKind::LeftParen, 1)
            }
            (')', _) => {
                let Some(parens) = self.parens.checked_sub(1) else {
                    // Behind it, as Prometheus has it.
                    return Err(self.refuse(self.at + 1, "unexpected right parenthesis ')'".into()));
                };
                self.parens = parens;
                (TokenKind::RightParen, 1)
            }
            ('{', _) => {
                self.in_braces = true;
                (TokenKind::LeftBrace, 1)
            }
            ('}', _) => return Err(self.refuse(self.at, "unexpected character: '}'".into())),
            ('[', _) if self.in_brackets => return Err(self.refuse(self.at, "unexpected left brace '['".into())),
            ('[', _) => {
                self.in_brackets = true;
                (TokenKind::LeftBracket, 1)
            }
            (']', _) if !self.in_brackets => {
                return Err(self.refuse(self.at, "unexpected right bracket ']'".into()));
            }
            (']', _) => {
                self.in_brackets = false;
                (TokenKind::RightBracket, 1)
            }
            (',', _) => (TokenKind::Comma, 1),
            (':', _) => (TokenKind::Colon, 1),
            ('@', _) => (TokenKind::At, 1),
            ('+', _) => (TokenKind::Plus, 1),
            ('-', _) => (TokenKind::Minus, 1),
            ('*', _) => (TokenKind::Star, 1),
            ('/', _) => (TokenKind::Slash, 1),
            ('%', _) => (TokenKind::Percent, 1),
            ('^', _) => (TokenKind::Caret, 1),
            ('=', Some(b'=')) => (TokenKind::Equal, 2),
            ('=', Some(b'~')) => return Err(self.refuse(self.at, "unexpected character after '=': '~'".into())),
            ('=', _) => (TokenKind::Assign, 1),
            ('!', Some(b'=')) => (TokenKind::NotEqual, 2),
            ('!', _) => {
                let after = self.rest()[1..].chars().next();
                let after = after.map_or_else(|| String::from("end of input"), |c| format!("{c:?}"));
                return Err(self.refuse(self.at, format!("unexpected character after '!': {after}")));
            }
            ('<', Some(b'=')) => (TokenKind::LessOrEqual, 2),
            ('<', _) => (TokenKind::Less, 1),
            ('>', Some(b'=')) => (TokenKind::GreaterOrEqual, 2),
            ('>', _) => (TokenKind::Greater, 1),
            _ => return Err(self.refuse(self.at, format!("unexpected character: {first:?}"))),
        };
        self.at += length;
        Ok(kind)
    }
}

/// A number's value as Go reads it: hexadecimal, octal with a leading zero, else decimal. A number with a point or an
/// exponent, or `inf` and `nan` in any case, is a float.
pub fn number_value(text: &str) -> Option<f64> {
    if text.eq_ignore_ascii_case("inf") {
        return Some(f64::INFINITY);
    }
    if text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    let text = &text.replace('_', "");
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return i64::from_str_radix(digits, 16).ok().map(|value| value as f64);
    }
    if text.len() > 1
        && text.starts_with('0')
        && text.bytes().all(|b| b.is_ascii_digit())
        && let Ok(value) = i64::from_str_radix(&text[1..], 8)
    {
        return Some(value as f64);
    }
    // A finite text that overflows is an error in Go's ParseFloat.
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Milliseconds of a duration such as `1h30m`: each unit once, from large to small.
pub fn duration_ms(text: &str) -> Result<i64, String> {
    match time::parse_duration_ms(text) {
        Ok(ms) => Ok(ms as i64),
        Err(DurationError::Empty) => Err("empty duration string".into()),
        Err(DurationError::TooLong) => Err("duration out of range".into()),
        Err(DurationError::Syntax | DurationError::UnknownUnit(_)) => {
            Err(format!("not a valid duration string: {text:?}"))
        }
    }
}

/// The text inside quotes, escapes resolved as in Go.
pub fn unquote(quoted: &str) -> Result<String, String> {
    let inner = &quoted[1..quoted.len() - 1];
    if quoted.starts_with('`') {
        return Ok(inner.replace('\r', ""));
    }
    let quote = &quoted[..1];
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = unescape(&rest[at + 1..], quote, &mut bytes)
            .ok_or_else(|| format!("invalid escape sequence in {quoted}"))?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).map_err(|_| format!("string {quoted} is not valid UTF-8; write text as it is or with \\u"))
}

/// Resolves one escape behind its backslash; returns what follows.
fn unescape<'t>(text: &'t str, quote: &str, bytes: &mut Vec<u8>) -> Option<&'t str> {
    let kind = *text.as_bytes().first()?;
    let number = |from: usize, length: usize, radix: u32| {
        let digits = text.get(from..from + length)?;
        if digits.starts_with(['+', '-']) {
            return None;
        }
        Some((u32::from_str_radix(digits, radix).ok()?, &text[from + length..]))
    };
    let plain = match kind {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' => b'\\',
        kind if quote.as_bytes()[0] == kind => kind,
        b'x' => {
            let (value, rest) = number(1, 2, 16)?;
            bytes.push(value as u8);
            return Some(rest);
        }
        b'0'..=b'7' => {
            let (value, rest) = number(0, 3, 8)?;
            bytes.push(u8::try_from(value).ok()?);
            return Some(rest);
        }
        b'u' | b'U' => {
            let (value, rest) = number(1, if kind == b'u' { 4 } else { 8 }, 16)?;
            bytes.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    bytes.push(plain);
    Some(&text[1..])
}
