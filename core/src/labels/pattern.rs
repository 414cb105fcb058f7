//! Regular expressions as Go and so Prometheus reads them: fully anchored, dot matches newline, classes are ASCII.
//!
//! Patterns that need no automaton (a literal, an alternation of literals, a literal prefix or suffix with `.*` or
//! `.+`) are matched as text; everything else is compiled, with a bound on the compiled size.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::fmt;
use regex_automata::{
    Input, meta,
    util::{interpolate, syntax},
};

/// Compiled size of one pattern. A larger one is refused by name.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    pattern: Box<str>,
    reason: Box<str>,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error parsing regexp: {}: `{}`", self.reason, self.pattern)
    }
}

impl core::error::Error for PatternError {}

#[derive(Clone, Debug)]
pub struct Pattern {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Literals(Box<[Box<str>]>),
    /// `prefix.*` (or `.+`): starts with the text, and has at least `more` bytes behind it.
    Prefix {
        text: Box<str>,
        more: usize,
    },
    Suffix {
        text: Box<str>,
        more: usize,
    },
    Automaton(Box<meta::Regex>),
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if let Some(kind) = plain(text) {
            return Ok(Self { kind });
        }
        let regex = compile(text, |translated| format!("^(?:{translated})$"))?;
        Ok(Self { kind: Kind::Automaton(Box::new(regex)) })
    }

    pub fn matches(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Literals(literals) => literals.iter().any(|literal| **literal == *text),
            Kind::Prefix { text: prefix, more } => text.strip_prefix(&**prefix).is_some_and(|rest| rest.len() >= *more),
            Kind::Suffix { text: suffix, more } => text.strip_suffix(&**suffix).is_some_and(|rest| rest.len() >= *more),
            Kind::Automaton(regex) => regex.is_match(Input::new(text)),
        }
    }

    /// The template with `$1`, `${1}`, `$name` and `$$` replaced by what the groups took from `text`, as Go expands it;
    /// nothing where `text` does not match.
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let mut expanded = String::new();
        let Kind::Automaton(regex) = &self.kind else {
            let whole = |group: usize, out: &mut String| out.push_str(if group == 0 { text } else { "" });
            return self.matches(text).then(|| {
                interpolate::string(template, whole, |_| None, &mut expanded);
                expanded
            });
        };
        let mut captures = regex.create_captures();
        regex.captures(Input::new(text), &mut captures);
        captures.is_match().then(|| {
            captures.interpolate_string_into(text, template, &mut expanded);
            expanded
        })
    }

    /// The texts that match, where they are a short list; lets an index look them up.
    pub fn literals(&self) -> Option<&[Box<str>]> {
        match &self.kind {
            Kind::Literals(literals) => Some(literals),
            _ => None,
        }
    }
}

/// A pattern of Go's that is searched for anywhere in a text, with its groups.
pub(crate) fn search_regex(text: &str) -> Result<meta::Regex, PatternError> {
    // Outside of labels, Go's dot does not match a newline; `(?s)` in the pattern changes that.
    compile(text, |translated| format!("(?-s:{translated})"))
}

fn compile(text: &str, wrap: impl Fn(String) -> String) -> Result<meta::Regex, PatternError> {
    let refused = |reason: String| PatternError { pattern: text.into(), reason: reason.into() };
    meta::Builder::new()
        .configure(meta::Config::new().nfa_size_limit(Some(PATTERN_BYTES_MAX)).utf8_empty(true))
        .syntax(syntax::Config::new().dot_matches_new_line(true))
        .build(&wrap(translate(text)))
        .map_err(|error| match error.syntax_error() {
            Some(syntax) => refused(last_line(&format!("{syntax}"))),
            None => refused(String::from("expression too large")),
        })
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or(text).trim();
    String::from(line.strip_prefix("error: ").unwrap_or(line))
}

fn is_plain(text: &str) -> bool {
    !text.bytes().any(|byte| br"\.+*?()|[]{}^$".contains(&byte))
}

fn plain(text: &str) -> Option<Kind> {
    for (wild, more) in [(".*", 0), (".+", 1)] {
        if let Some(prefix) = text.strip_suffix(wild).filter(|rest| is_plain(rest)) {
            return Some(Kind::Prefix { text: prefix.into(), more });
        }
        if let Some(suffix) = text.strip_prefix(wild).filter(|rest| is_plain(rest)) {
            return Some(Kind::Suffix { text: suffix.into(), more });
        }
    }
    let alternatives: Vec<&str> = text.split('|').collect();
    alternatives
        .iter()
        .all(|alternative| is_plain(alternative))
        .then(|| Kind::Literals(alternatives.into_iter().map(Box::from).collect()))
}

/// Rewrites what Go reads differently from `regex-syntax`: `\Q..\E`, a `{` that opens no repetition, `\z`, and inside
/// classes a lone `[`, `&&`, `--`, `~~`, which are plain there.
fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.char_indices().peekable();
    let (mut in_class, mut class_start) = (false, false);
    while let Some((at, c)) = chars.next() {
        let was_class_start = core::mem::take(&mut class_start);
        match c {
            '\\' => match chars.next() {
                Some((_, 'Q')) if !in_class => {
                    let from = at + 2;
                    let to = text[from..].find(r"\E").map_or(text.len(), |found| from + found);
                    for literal in text[from..to].chars() {
                        if r"\.+*?()|[]{}^$#&-~".contains(literal) {
                            out.push('\\');
                        }
                        out.push(literal);
                    }
                    while chars.next_if(|(next, _)| *next < (to + 2).min(text.len())).is_some() {}
                }
                // ASCII classes in Go; regex-syntax without Unicode tables knows them by these names.
                Some((_, 'd')) => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
                Some((_, 'w')) => out.push_str(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                Some((_, 's')) => out.push_str(if in_class { r"\t\n\f\r " } else { r"[\t\n\f\r ]" }),
                Some((_, 'D')) if !in_class => out.push_str("[^0-9]"),
                Some((_, 'W')) if !in_class => out.push_str("[^0-9A-Za-z_]"),
                Some((_, 'S')) if !in_class => out.push_str(r"[^\t\n\f\r ]"),
                Some((_, 'b')) if !in_class => out.push_str(r"(?-u:\b)"),
                Some((_, 'B')) if !in_class => out.push_str(r"(?-u:\B)"),
                Some((_, escaped)) => {
                    out.push('\\');
                    out.push(escaped);
                }
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                class_start = true;
                out.push('[');
                if chars.next_if(|(_, next)| *next == '^').is_some() {
                    out.push('^');
                }
                if chars.next_if(|(_, next)| *next == ']').is_some() {
                    out.push_str(r"\]");
                }
            }
            '[' if text[at..].starts_with("[:") && text[at..].contains(":]") => {
                let end = at + text[at..].find(":]").unwrap_or(0) + 2;
                out.push_str(&text[at..end]);
                while chars.next_if(|(next, _)| *next < end).is_some() {}
            }
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class
                && (was_class_start || out.ends_with(['-']) || out.ends_with("0-9A-Za-z_") || out.ends_with("0-9")) =>
            {
                out.push_str(r"\-");
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '{' if !in_class && !opens_repetition(&text[at..]) => out.push_str(r"\{"),
            _ => out.push(c),
        }
    }
    out
}

/// `{n}`, `{n,}` or `{n,m}`.
fn opens_repetition(text: &str) -> bool {
    let Some(end) = text.find('}') else { return false };
    let (from, to) = match text[1..end].split_once(',') {
        Some((from, to)) => (from, to),
        None => (&text[1..end], ""),
    };
    !from.is_empty() && from.bytes().chain(to.bytes()).all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let compiled = Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for text in matching {
            assert!(compiled.matches(text), "{pattern} should match {text:?}");
        }
        for text in others {
            assert!(!compiled.matches(text), "{pattern} should not match {text:?}");
        }
    }

    #[test]
    fn patterns_are_anchored_at_both_ends_and_dot_takes_newlines() {
        check("a.c", &["abc", "a\nc"], &["abcd", "xabc", "ac"]);
        check("", &[""], &["a"]);
        check(".*", &["", "a\nb"], &[]);
        check(".+", &["a"], &[""]);
        check("ab|cd", &["ab", "cd"], &["abd", "acd", ""]);
        check("node.*", &["node", "node_cpu"], &["nod", "a_node"]);
        check(".+_total", &["a_total"], &["_total", "a_totals"]);
        check("a|", &["a", ""], &["b"]);
        check("(a|b)c?", &["a", "bc"], &["c"]);
        check("(?i)AbC", &["abc", "ABC"], &["abd"]);
    }

    #[test]
    fn what_go_accepts_is_accepted() {
        check("a{,5}", &["a{,5}"], &["aaa"]);
        check("{", &["{"], &[""]);
        check("[[]", &["["], &["]"]);
        check(r"[\w-.]+", &["a-b.c_1"], &["a b"]);
        check(r"\Qa.b\E+", &["a.b", "a.bb"], &["axb"]);
        check("[a&&b]", &["a", "b", "&"], &["ab"]);
        check(r"\d+", &["12"], &["१२"]);
        check("[]a]", &["]", "a"], &["b"]);
        check("[^]a]", &["b"], &["]", "a"]);
        check("[[:alpha:]]+", &["ab"], &["1"]);
        check("a{2,3}", &["aa", "aaa"], &["a", "aaaa"]);
        check("é.", &["éx", "éé"], &["é"]);
    }

    #[test]
    fn a_template_takes_what_the_groups_took() {
        let check = |pattern: &str, text: &str, template: &str, expected: Option<&str>| {
            assert_eq!(
                Pattern::new(pattern).unwrap().expand(text, template).as_deref(),
                expected,
                "{pattern} {template}"
            );
        };
        check("(.*):(.*)", "host:80", "$2 at ${1}x $$ $1x", Some("80 at hostx $ "));
        check("(?P<name>[a-z]+)[0-9]*", "eth0", "${name}", Some("eth"));
        check("eth.*", "eth0", "if-$0$1", Some("if-eth0"));
        check("(a)", "b", "$1", None);
        check("a", "b", "$1", None);
        check("(a)?b", "b", "x$1", Some("x"));
    }

    #[test]
    fn a_broken_or_huge_pattern_is_refused_with_its_text() {
        assert!(format!("{}", Pattern::new("(").unwrap_err()).contains("`(`"));
        assert!(Pattern::new("((a{900}){900}){900}").is_err());
    }
}
