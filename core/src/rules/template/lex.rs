//! Cuts a template into texts and actions, and an action into tokens.

use super::Fault;
use alloc::{borrow::ToOwned, boxed::Box, format, string::String, vec::Vec};
use nom::{
    IResult, Parser,
    branch::alt,
    bytes::complete::{is_not, tag, take_while},
    character::complete::{char, satisfy},
    combinator::{opt, recognize, value},
    sequence::pair,
};

#[derive(Debug, PartialEq)]
pub enum Piece<'t> {
    Text(&'t str),
    /// The tokens between the braces, and where the action begins.
    Action {
        at: usize,
        tokens: Vec<Token<'t>>,
    },
}

#[derive(Debug, PartialEq)]
pub struct Token<'t> {
    pub at: usize,
    pub length: usize,
    /// Whether white space stands before it; `a .b` and `a.b` differ.
    pub spaced: bool,
    pub kind: Kind<'t>,
}

#[derive(Debug, PartialEq, Clone)]
pub enum Kind<'t> {
    /// A name, a keyword included.
    Name(&'t str),
    /// `.name`, without the point.
    Field(&'t str),
    /// `.`
    Dot,
    /// `$` or `$name`
    Variable(&'t str),
    Text(Box<str>),
    Int(i64),
    Float(f64),
    /// `( ) | , := =`
    Sign(&'static str),
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Fault> {
    let mut pieces = Vec::new();
    let (mut at, mut trim_left) = (0, false);
    loop {
        let rest = &text[at..];
        let open = rest.find(OPEN);
        let mut plain = &rest[..open.unwrap_or(rest.len())];
        if trim_left {
            plain = plain.trim_start_matches(SPACES);
        }
        let Some(open) = open else {
            push_text(&mut pieces, plain);
            return Ok(pieces);
        };
        let action_at = at + open;
        let inside_at = action_at + OPEN.len();
        let inside = &text[inside_at..];
        let trims = inside.starts_with('-') && inside[1..].starts_with(SPACES);
        if trims {
            plain = plain.trim_end_matches(SPACES);
        }
        push_text(&mut pieces, plain);
        let start_at = inside_at + if trims { 2 } else { 0 };
        if text[start_at..].starts_with("/*") {
            (at, trim_left) = comment(text, start_at)?;
            continue;
        }
        let (tokens, end_at, trim) = tokens(text, start_at)?;
        pieces.push(Piece::Action { at: action_at, tokens });
        (at, trim_left) = (end_at, trim);
    }
}

fn push_text<'t>(pieces: &mut Vec<Piece<'t>>, plain: &'t str) {
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
}

/// Skips `/* ... */`, which must be all of the action. Gives where the text goes on, and whether it is trimmed.
fn comment(text: &str, at: usize) -> Result<(usize, bool), Fault> {
    let length = text[at..].find("*/").ok_or_else(|| Fault::new(at, "unclosed comment"))?;
    let after_at = at + length + 2;
    let after = &text[after_at..];
    if after.starts_with(CLOSE) {
        return Ok((after_at + CLOSE.len(), false));
    }
    match after.strip_prefix(SPACES).and_then(|rest| rest.strip_prefix("-}}")) {
        Some(_) => Ok((after_at + 4, true)),
        None => Err(Fault::new(at, "comment ends before closing delimiter")),
    }
}

/// The tokens from `at` to the closing braces; where the text goes on, and whether it is trimmed.
fn tokens(text: &str, mut at: usize) -> Result<(Vec<Token<'_>>, usize, bool), Fault> {
    let mut tokens = Vec::new();
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start_matches(SPACES);
        let spaced = trimmed.len() < rest.len();
        at += rest.len() - trimmed.len();
        if trimmed.starts_with(CLOSE) {
            return Ok((tokens, at + CLOSE.len(), false));
        }
        if spaced && trimmed.starts_with("-}}") {
            return Ok((tokens, at + 3, true));
        }
        if trimmed.is_empty() {
            return Err(Fault::new(at, "unclosed action"));
        }
        let (after, kind) = token(trimmed).map_err(|_| Fault::new(at, unexpected(trimmed)))?;
        let length = trimmed.len() - after.len();
        tokens.push(Token { at, length, spaced, kind });
        at += length;
    }
}

fn unexpected(rest: &str) -> String {
    match rest.chars().next() {
        Some('"') => "unterminated quoted string".to_owned(),
        Some('`') => "unterminated raw quoted string".to_owned(),
        Some('\'') => "unterminated or malformed character constant".to_owned(),
        Some(digit) if digit.is_ascii_digit() || digit == '+' || digit == '-' => {
            let end = rest.find(|c: char| SPACES.contains(&c) || "|)}".contains(c)).unwrap_or(rest.len());
            format!("bad number syntax: {:?}", &rest[..end])
        }
        Some(other) => format!("unexpected {other:?} in command"),
        None => "unclosed action".to_owned(),
    }
}

fn token(input: &str) -> IResult<&str, Kind<'_>> {
    alt((
        sign,
        number,
        quoted.map(|text| Kind::Text(text.into())),
        raw_quoted,
        character.map(|character| Kind::Int(i64::from(u32::from(character)))),
        recognize(pair(char('$'), take_while(is_word))).map(Kind::Variable),
        pair(char('.'), word).map(|(_, name)| Kind::Field(name)),
        value(Kind::Dot, char('.')),
        word.map(Kind::Name),
    ))
    .parse(input)
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn word(input: &str) -> IResult<&str, &str> {
    recognize(pair(satisfy(|c| c == '_' || c.is_alphabetic()), take_while(is_word))).parse(input)
}

fn sign(input: &str) -> IResult<&str, Kind<'_>> {
    alt((
        value(Kind::Sign(":="), tag(":=")),
        value(Kind::Sign("="), tag("=")),
        value(Kind::Sign("|"), tag("|")),
        value(Kind::Sign(","), tag(",")),
        value(Kind::Sign("("), tag("(")),
        value(Kind::Sign(")"), tag(")")),
    ))
    .parse(input)
}

/// Go's integers (0x, 0o, 0b, underscores) and floats. A number with a point or an exponent is a float.
fn number(input: &str) -> IResult<&str, Kind<'_>> {
    let starts = (opt(satisfy(|c| c == '+' || c == '-')), opt(char('.')), satisfy(|c| c.is_ascii_digit()));
    let (_, start) = recognize(starts).parse(input)?;
    let hexadecimal = input.trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("0x");
    let mut previous = ' ';
    let length = input[start.len()..].find(|c: char| {
        let in_exponent = (c == '+' || c == '-') && matches!(previous, 'e' | 'E') && !hexadecimal;
        previous = c;
        !(in_exponent || c.is_ascii_alphanumeric() || c == '_' || c == '.')
    });
    let (text, rest) = input.split_at(length.map_or(input.len(), |length| start.len() + length));
    match parse_number(text) {
        Some(kind) => Ok((rest, kind)),
        None => Err(nom::Err::Failure(nom::error::Error::new(input, nom::error::ErrorKind::Digit))),
    }
}

fn parse_number(text: &str) -> Option<Kind<'static>> {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let lower = digits.to_ascii_lowercase();
    let signed = |size: u64| i64::try_from(if negative { -i128::from(size) } else { i128::from(size) }).ok();
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).ok().and_then(signed).map(Kind::Int);
        }
    }
    if lower.contains(['.', 'e']) {
        return plain.parse().ok().filter(|float: &f64| float.is_finite()).map(Kind::Float);
    }
    let radix = if lower.len() > 1 && lower.starts_with('0') { 8 } else { 10 };
    u64::from_str_radix(&lower, radix).ok().and_then(signed).map(Kind::Int)
}

fn raw_quoted(input: &str) -> IResult<&str, Kind<'_>> {
    let (rest, (_, text, _)) = (char('`'), opt(is_not("`")), char('`')).parse(input)?;
    Ok((rest, Kind::Text(text.unwrap_or("").into())))
}

/// A double-quoted string on one line, with Go's escapes.
fn quoted(input: &str) -> IResult<&str, String> {
    let (mut rest, _) = char('"').parse(input)?;
    let mut text = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('"') {
            return match String::from_utf8(text) {
                Ok(text) => Ok((after, text)),
                Err(_) => Err(nom::Err::Failure(nom::error::Error::new(input, nom::error::ErrorKind::Char))),
            };
        }
        let (after, unit) = unit(rest, '"')?;
        match unit {
            Unit::Byte(byte) => text.push(byte),
            Unit::Char(character) => text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = after;
    }
}

/// A character constant: `'x'`.
fn character(input: &str) -> IResult<&str, char> {
    let (rest, _) = char('\'').parse(input)?;
    let (rest, unit) = unit(rest, '\'')?;
    let (rest, _) = char('\'').parse(rest)?;
    Ok((
        rest,
        match unit {
            Unit::Byte(byte) => char::from(byte),
            Unit::Char(character) => character,
        },
    ))
}

enum Unit {
    Byte(u8),
    Char(char),
}

/// One character or escape of a string that is quoted by `quote`.
fn unit(input: &str, quote: char) -> IResult<&str, Unit> {
    let refused = || nom::Err::Error(nom::error::Error::new(input, nom::error::ErrorKind::Escaped));
    let mut characters = input.chars();
    let first = characters.next().filter(|c| *c != '\n').ok_or_else(refused)?;
    if first != '\\' {
        return Ok((characters.as_str(), Unit::Char(first)));
    }
    let escape = characters.next().ok_or_else(refused)?;
    let rest = characters.as_str();
    let simple = match escape {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' => '\\',
        other if other == quote => quote,
        'x' => return digits(rest, 2, 16).map(|(rest, code)| (rest, Unit::Byte(code as u8))).ok_or_else(refused),
        'u' | 'U' => {
            let (rest, code) = digits(rest, if escape == 'u' { 4 } else { 8 }, 16).ok_or_else(refused)?;
            return Ok((rest, Unit::Char(char::from_u32(code).ok_or_else(refused)?)));
        }
        '0'..='7' => {
            let (rest, code) = digits(&input[1..], 3, 8).ok_or_else(refused)?;
            return Ok((rest, Unit::Byte(u8::try_from(code).map_err(|_| refused())?)));
        }
        _ => return Err(refused()),
    };
    Ok((rest, Unit::Char(simple)))
}

fn digits(input: &str, count: usize, radix: u32) -> Option<(&str, u32)> {
    let (digits, rest) = input.split_at_checked(count)?;
    digits.chars().all(|c| c.is_digit(radix)).then_some(())?;
    Some((rest, u32::from_str_radix(digits, radix).ok()?))
}
