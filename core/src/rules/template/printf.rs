//! Go's `fmt.Sprintf`, `Sprint` and `Sprintln` for the values of a template.

use super::{time_text, value::Value};
use crate::number::{GoFloat, go_exponent, special};
use alloc::{borrow::ToOwned, format, string::String, vec::Vec};
use core::{iter::Peekable, str::Chars};

/// Widest field and highest precision; more is cut to this.
const WIDTH_MAX: usize = 1_000;

/// `%.<digits>g` of Go: so many significant digits, no trailing zeros.
pub fn general(value: f64, digits: usize) -> String {
    let spec = Spec { precision: Some(digits), ..Spec::default() };
    float_digits(value, 'g', &spec)
}

/// Operands one after the other, with a space between two that are not texts.
pub fn sprint(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if index > 0 && !is_text(value) && !is_text(&values[index - 1]) {
            out.push(' ');
        }
        out.push_str(&shown(value, 'v', &Spec::default()));
    }
    out
}

pub fn sprintln(values: &[Value]) -> String {
    let texts: Vec<String> = values.iter().map(|value| shown(value, 'v', &Spec::default())).collect();
    format!("{}\n", texts.join(" "))
}

#[derive(Clone, Debug, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

pub fn sprintf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut rest = format.chars().peekable();
    let (mut next, mut reordered) = (0, false);
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let directive = directive(&mut out, &mut rest, values, &mut next);
        reordered |= directive.reordered;
        out.push_str(&conversion(&directive, values, &mut next));
    }
    if !reordered && next < values.len() {
        let extra: Vec<String> = values[next..]
            .iter()
            .map(|value| match value {
                Value::Nil => "<nil>".into(),
                other => format!("{}={}", other.type_name(), shown(other, 'v', &Spec::default())),
            })
            .collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn conversion(directive: &Directive, values: &[Value], next: &mut usize) -> String {
    let Directive { spec, verb, .. } = directive;
    let Some(verb) = *verb else { return "%!(NOVERB)".into() };
    if verb == '%' {
        return "%".into();
    }
    if directive.bad_index {
        return format!("%!{verb}(BADINDEX)");
    }
    match values.get(*next) {
        Some(value) => {
            *next += 1;
            shown(value, verb, spec)
        }
        None => format!("%!{verb}(MISSING)"),
    }
}

/// What stands behind a percent sign.
#[derive(Default)]
struct Directive {
    spec: Spec,
    verb: Option<char>,
    /// An operand was chosen by its number.
    reordered: bool,
    /// There is no operand of that number.
    bad_index: bool,
}

fn directive(out: &mut String, rest: &mut Peekable<Chars<'_>>, values: &[Value], next: &mut usize) -> Directive {
    let mut found = Directive::default();
    while let Some(flag) = rest.next_if(|c| "-+# 0".contains(*c)) {
        match flag {
            '-' => found.spec.minus = true,
            '+' => found.spec.plus = true,
            '#' => found.spec.sharp = true,
            ' ' => found.spec.space = true,
            _ => found.spec.zero = true,
        }
    }
    argument_index(rest, values, next, &mut found);
    if rest.next_if_eq(&'*').is_some() {
        match star(values, next) {
            Some(width) => {
                found.spec.minus |= width < 0;
                found.spec.width = Some((width.unsigned_abs() as usize).min(WIDTH_MAX));
            }
            None => out.push_str("%!(BADWIDTH)"),
        }
    } else {
        found.spec.width = digits(rest);
    }
    if rest.next_if_eq(&'.').is_some() {
        argument_index(rest, values, next, &mut found);
        if rest.next_if_eq(&'*').is_some() {
            match star(values, next) {
                Some(precision) => found.spec.precision = usize::try_from(precision).ok().map(|p| p.min(WIDTH_MAX)),
                None => out.push_str("%!(BADPREC)"),
            }
        } else {
            found.spec.precision = Some(digits(rest).unwrap_or(0));
        }
    }
    argument_index(rest, values, next, &mut found);
    found.spec.zero &= !found.spec.minus;
    found.verb = rest.next();
    found
}

fn digits(rest: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let mut number = None;
    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
        number = Some((number.unwrap_or(0) * 10 + digit as usize - '0' as usize).min(WIDTH_MAX));
    }
    number
}

/// `[n]`: the next operand is the n-th.
fn argument_index(rest: &mut Peekable<Chars<'_>>, values: &[Value], next: &mut usize, found: &mut Directive) {
    if rest.next_if_eq(&'[').is_none() {
        return;
    }
    found.reordered = true;
    let number = digits(rest);
    let closed = rest.next_if_eq(&']').is_some();
    match number {
        Some(number) if closed && (1..=values.len()).contains(&number) => *next = number - 1,
        _ => found.bad_index = true,
    }
}

fn star(values: &[Value], next: &mut usize) -> Option<i64> {
    let value = values.get(*next);
    *next = (*next + 1).min(values.len());
    match value {
        Some(Value::Int(int)) => Some(*int),
        _ => None,
    }
}

fn shown(value: &Value, verb: char, spec: &Spec) -> String {
    if verb == 'T' {
        return padded(value.type_name().into(), spec, false);
    }
    // Go's `%+v` is about structs only.
    let plain = Spec { plus: false, ..spec.clone() };
    let spec = if verb == 'v' { &plain } else { spec };
    match (value, verb) {
        (Value::Nil, 'v') => padded("<nil>".into(), spec, false),
        (Value::Nil, _) => format!("%!{verb}(<nil>)"),
        (Value::Bool(bool), 't' | 'v') => padded(format!("{bool}"), spec, false),
        (Value::Int(int), _) => shown_int(*int, verb, spec).unwrap_or_else(|| bad_verb(value, verb, spec)),
        (Value::Float(float), 'v' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'x' | 'X') => shown_float(*float, verb, spec),
        (Value::Text(text), _) => shown_text(text, verb, spec).unwrap_or_else(|| bad_verb(value, verb, spec)),
        (Value::Time(ms), 'v' | 's') => padded(time_text::time_text(*ms), spec, false),
        (Value::Duration(ns), 'v' | 's') => padded(time_text::duration_text(*ns), spec, false),
        (Value::Duration(ns), 'd') => shown_int(*ns, verb, spec).unwrap_or_default(),
        (Value::Labels(labels), _) => {
            map_text(labels.iter().map(|(name, value)| (Value::text(name), Value::text(value))).collect(), verb, spec)
        }
        (Value::Arguments(_), _) => map_text(value.elements().unwrap_or_default(), verb, spec),
        (Value::Samples(samples), _) => {
            let texts: Vec<String> =
                samples.iter().map(|sample| shown(&Value::Sample(sample.clone()), verb, spec)).collect();
            format!("[{}]", texts.join(" "))
        }
        (Value::Sample(sample), _) => format!(
            "&{{{} {}}}",
            shown(&Value::Labels(sample.labels.clone()), verb, spec),
            shown(&Value::Float(sample.value), verb, spec)
        ),
        (Value::Data(data), _) => {
            let fields = [
                Value::Labels(data.labels.clone()),
                Value::Labels(data.external_labels.clone()),
                Value::Text(data.external_url.clone()),
                Value::Float(data.value),
            ];
            format!("{{{}}}", fields.map(|field| shown(&field, verb, spec)).join(" "))
        }
        (Value::Bool(_) | Value::Float(_) | Value::Time(_) | Value::Duration(_), _) => bad_verb(value, verb, spec),
    }
}

fn map_text(pairs: Vec<(Value, Value)>, verb: char, spec: &Spec) -> String {
    let texts: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{}:{}", shown(key, verb, spec), shown(value, verb, spec))).collect();
    format!("map[{}]", texts.join(" "))
}

/// `%!d(float64=1.5)`: the value as `%v`, with the flags given.
fn bad_verb(value: &Value, verb: char, spec: &Spec) -> String {
    format!("%!{verb}({}={})", value.type_name(), shown(value, 'v', spec))
}

fn shown_int(int: i64, verb: char, spec: &Spec) -> Option<String> {
    let size = int.unsigned_abs();
    let (prefix, mut digits) = match verb {
        'd' | 'v' => ("", format!("{size}")),
        'b' => (if spec.sharp { "0b" } else { "" }, format!("{size:b}")),
        'o' => (if spec.sharp && size != 0 { "0" } else { "" }, format!("{size:o}")),
        'O' => ("0o", format!("{size:o}")),
        'x' => (if spec.sharp { "0x" } else { "" }, format!("{size:x}")),
        'X' => (if spec.sharp { "0X" } else { "" }, format!("{size:X}")),
        'c' | 'q' | 'U' => {
            let character = u32::try_from(int).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            let text = match verb {
                'c' => format!("{character}"),
                'q' => quoted(&format!("{character}"), '\'', spec.plus),
                _ => format!("U+{:04X}", int as u64),
            };
            return Some(padded(text, spec, false));
        }
        _ => return None,
    };
    let sign = sign_of(int < 0, spec);
    match spec.precision {
        Some(0) if int == 0 => return Some(padded(String::new(), spec, false)),
        Some(precision) => digits = format!("{digits:0>precision$}"),
        None if spec.zero => {
            let width = spec.width.unwrap_or(0).saturating_sub(sign.len());
            digits = format!("{digits:0>width$}");
        }
        None => {}
    }
    Some(padded(format!("{sign}{prefix}{digits}"), spec, false))
}

fn sign_of(negative: bool, spec: &Spec) -> &'static str {
    match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    }
}

fn shown_float(value: f64, verb: char, spec: &Spec) -> String {
    let mut text = float_digits(value, verb, spec);
    if spec.sharp && verb != 'v' && value.is_finite() {
        text = sharpened(&text, verb, spec.precision);
    }
    // The digits carry a minus sign of their own, and +Inf its plus.
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) if text.starts_with('-') => ("-", digits),
        Some(digits) => (if spec.space && !spec.plus { " " } else { "+" }, digits),
        None => (sign_of(false, spec), &text[..]),
    };
    let sign = if digits == "Inf" && sign == "+" && !spec.plus { "+" } else { sign };
    if spec.zero && value.is_finite() {
        let width = spec.width.unwrap_or(0).saturating_sub(sign.len());
        return format!("{sign}{digits:0>width$}");
    }
    padded(format!("{sign}{digits}"), &Spec { zero: false, ..spec.clone() }, false)
}

/// The flag `#`: always a point, and for `%g` all its zeros.
fn sharpened(text: &str, verb: char, precision: Option<usize>) -> String {
    let hexadecimal = matches!(verb, 'x' | 'X');
    let tail_at = if hexadecimal { text.find(['p', 'P']) } else { text.find(['e', 'E']) };
    let (digits, tail) = text.split_at(tail_at.unwrap_or(text.len()));
    let mut out = String::from(digits);
    if !digits.contains('.') {
        out.push('.');
    }
    if matches!(verb, 'g' | 'G') {
        let unsigned = digits.trim_start_matches('-');
        let significant = unsigned.trim_start_matches(['0', '.']).chars().filter(char::is_ascii_digit).count();
        let counted = significant + usize::from(unsigned == "0");
        out.extend(core::iter::repeat_n('0', precision.unwrap_or(6).saturating_sub(counted)));
    }
    out.push_str(tail);
    out
}

fn float_digits(value: f64, verb: char, spec: &Spec) -> String {
    if let Some(text) = special(value) {
        return text.into();
    }
    match (verb, spec.precision) {
        ('f' | 'F', precision) => format!("{value:.*}", precision.unwrap_or(6)),
        ('e', precision) => go_exponent(&format!("{value:.*e}", precision.unwrap_or(6))),
        ('E', precision) => go_exponent(&format!("{value:.*e}", precision.unwrap_or(6))).to_ascii_uppercase(),
        ('x', precision) => hexadecimal(value, precision),
        ('X', precision) => hexadecimal(value, precision).to_ascii_uppercase(),
        ('G', precision) => float_digits(value, 'g', &Spec { precision, ..spec.clone() }).to_ascii_uppercase(),
        (_, None) => format!("{}", GoFloat::G(value)),
        (_, Some(digits)) => significant(value, digits.max(1)),
    }
}

/// `%.<count>g`: `count` significant digits, an exponent below -4 or from `count` on.
fn significant(value: f64, count: usize) -> String {
    let scientific = format!("{value:.*e}", count - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| -> String {
        if !text.contains('.') {
            return text.into();
        }
        text.trim_end_matches('0').trim_end_matches('.').into()
    };
    if exponent < -4 || exponent >= i32::try_from(count).unwrap_or(i32::MAX) {
        return go_exponent(&format!("{}e{exponent}", trimmed(mantissa)));
    }
    let decimals = usize::try_from(count as i64 - 1 - i64::from(exponent)).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}"))
}

/// `-0x1.8p+01`: a float in hexadecimal; `precision` counts the digits behind the point.
fn hexadecimal(value: f64, precision: Option<usize>) -> String {
    let bits = value.to_bits();
    let (mut mantissa, mut exponent) = (bits & ((1 << 52) - 1), ((bits >> 52) & 0x7ff) as i64 - 1023);
    if exponent == -1023 {
        if mantissa == 0 {
            exponent = 0;
        } else {
            let shift = mantissa.leading_zeros() - 11;
            mantissa <<= shift;
            exponent = -1022 - i64::from(shift);
        }
    } else {
        mantissa |= 1 << 52;
    }
    if let Some(digits) = precision.filter(|digits| *digits < 13) {
        // To nearest, halves to even, as Go rounds.
        let dropped = 52 - 4 * digits as u32;
        let (half, rest) = (1_u64 << (dropped - 1), mantissa & ((1 << dropped) - 1));
        mantissa >>= dropped;
        mantissa += u64::from(rest > half || (rest == half && mantissa & 1 == 1));
        mantissa <<= dropped;
        if mantissa >> 53 == 1 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let all = format!("{:013x}", mantissa & ((1 << 52) - 1));
    let fraction = match precision {
        None => all.trim_end_matches('0').into(),
        Some(digits) => format!("{all:0<digits$}")[..digits].to_owned(),
    };
    let point = if fraction.is_empty() { "" } else { "." };
    let (sign, exponent_sign) = (if bits >> 63 == 1 { "-" } else { "" }, if exponent < 0 { '-' } else { '+' });
    format!("{sign}0x{}{point}{fraction}p{exponent_sign}{:02}", mantissa >> 52, exponent.unsigned_abs())
}

fn shown_text(text: &str, verb: char, spec: &Spec) -> Option<String> {
    let cut: String = match spec.precision {
        Some(precision) if verb != 'x' && verb != 'X' => text.chars().take(precision).collect(),
        _ => text.into(),
    };
    let bytes = match spec.precision {
        Some(precision) => &text.as_bytes()[..precision.min(text.len())],
        None => text.as_bytes(),
    };
    let shown = match verb {
        'v' if spec.sharp => quoted(&cut, '"', spec.plus),
        's' | 'v' => cut,
        'q' if spec.sharp && !cut.contains('`') && !cut.chars().any(|c| c.is_control() && c != '\t') => {
            format!("`{cut}`")
        }
        'q' => quoted(&cut, '"', spec.plus),
        'x' | 'X' => {
            let separator = if spec.space { " " } else { "" };
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let digits = digits.join(separator);
            if verb == 'X' { digits.to_ascii_uppercase() } else { digits }
        }
        _ => return None,
    };
    Some(padded(shown, spec, spec.zero))
}

/// Go's `strconv.Quote`, or with `ascii` its `QuoteToASCII`.
fn quoted(text: &str, quote: char, ascii: bool) -> String {
    let mut out = String::from(quote);
    for character in text.chars() {
        match character {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            other if other == quote => {
                out.push('\\');
                out.push(quote);
            }
            control if control < ' ' || control == '\x7f' => out.push_str(&format!("\\x{:02x}", control as u32)),
            wide if ascii && wide as u32 > 0xffff => out.push_str(&format!("\\U{:08x}", wide as u32)),
            wide if ascii && wide as u32 > 0x7f => out.push_str(&format!("\\u{:04x}", wide as u32)),
            control if control.is_control() => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push(quote);
    out
}

fn padded(text: String, spec: &Spec, zeros: bool) -> String {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    let padding: String = core::iter::repeat_n(if zeros { '0' } else { ' ' }, missing).collect();
    if spec.minus { format!("{text}{padding}") } else { format!("{padding}{text}") }
}
