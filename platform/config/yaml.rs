//! YAML as go-yaml reads it: events of `saphyr-parser` become a tree with positions, and typed access to it.
//!
//! Merge keys (`<<`) are merged, anchors followed, duplicate keys refused, `null` is the zero value. Aliases share their
//! node, so a file cannot grow in memory; what it would be written out is bounded all the same, because readers walk it.

use super::{
    errors::{Findings, Position},
    keys::{Effect, Key, Table},
    units::{parse_bytes, parse_duration_ms},
};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    rc::Rc,
};

/// A file may have one value per so many bytes it may be long, aliases written out. kube-prometheus' rules have one per 25.
const BYTES_PER_NODE: u64 = 16;

/// Deepest nesting. The deepest key Prometheus knows lies at 9.
const DEPTH_MAX: u32 = 32;

/// One value with its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub position: Position,
    pub value: Value,
    /// Nodes below and including this one, aliases written out.
    weight: u32,
}

#[derive(Debug)]
pub(crate) enum Value {
    Scalar { text: String, style: Style },
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<Entry>),
}

/// How a scalar was written; only a plain one may be something else than text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
    /// `|`: the text stands in the file line by line.
    Literal,
    /// `>`.
    Folded,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub position: Position,
    pub node: Rc<Node>,
}

impl Node {
    /// Plain nothing, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, style: Style::Plain } if is_null(text))
    }

    fn kind(&self) -> &'static str {
        match self.value {
            Value::Scalar { .. } => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

/// Reads one document from a file that may be so long. `None`: the file is empty, or an error was recorded.
pub(crate) fn parse(text: &str, file_bytes_max: u64, findings: &Findings) -> Option<Rc<Node>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let nodes_count_max = u32::try_from(file_bytes_max / BYTES_PER_NODE).unwrap_or(u32::MAX);
    let (parser, anchors) = (Parser::new_from_str(text), HashMap::new());
    let mut builder = Builder { parser, anchors, nodes_count: 0, nodes_count_max };
    match builder.document() {
        Ok(root) => root,
        Err((position, message)) => {
            findings.error(within(position, text), message);
            None
        }
    }
}

/// The parser places what is missing at the end of a text on the line after it; shown is the end of the last line.
fn within(position: Position, text: &str) -> Position {
    let ends_count = text.bytes().filter(|byte| *byte == b'\n').count()
        + text.split("\r\n").map(|part| part.matches('\r').count()).sum::<usize>();
    let line = u32::try_from(1 + ends_count).unwrap_or(u32::MAX);
    let column = text.rsplit(['\n', '\r']).next().map_or(0, |last| last.chars().count());
    match position.line <= line {
        true => position,
        false => Position { line, column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1) },
    }
}

type BuildError = (Position, String);

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// Finished anchored nodes by the parser's number.
    anchors: HashMap<usize, Rc<Node>>,
    nodes_count: u32,
    nodes_count_max: u32,
}

impl<'t> Builder<'t> {
    fn document(&mut self) -> Result<Option<Rc<Node>>, BuildError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    let message = "a second document starts here and would not be read; keep one document per file";
                    return Err((position(span.start), message.into()));
                }
                Event::DocumentStart(_) => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), BuildError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let message = format!("not valid YAML: {}; check indentation, quotes and colons", error.info());
                Err((position(*error.marker()), message))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: u32) -> Result<Rc<Node>, BuildError> {
        let at = position(span.start);
        if depth > DEPTH_MAX {
            return Err((at, format!("nested deeper than {DEPTH_MAX} levels; no key lies that deep")));
        }
        let (value, anchor) = match event {
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| (at, "an anchor contains itself; write the value out".into()))?;
                self.count(node.weight, at)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let style = scalar_style(&text, style, tag.as_deref()).map_err(|message| (at, message))?;
                (Value::Scalar { text: text.into_owned(), style }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag, "seq").map_err(|message| (at, message))?;
                (Value::Sequence(self.sequence(depth)?), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag, "map").map_err(|message| (at, message))?;
                (Value::Mapping(self.mapping(depth)?), anchor)
            }
            _ => return Err((at, "not valid YAML: a value is missing here".into())),
        };
        self.count(1, at)?;
        let below = match &value {
            Value::Scalar { .. } => 0,
            Value::Sequence(items) => items.iter().map(|item| item.weight).sum(),
            Value::Mapping(entries) => entries.iter().map(|entry| entry.node.weight).sum(),
        };
        let node = Rc::new(Node { position: at, value, weight: 1 + below });
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: u32) -> Result<Vec<Rc<Node>>, BuildError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: u32) -> Result<Vec<Entry>, BuildError> {
        let (mut entries, mut merged, mut lines) = (Vec::new(), Vec::new(), HashMap::new());
        loop {
            let (event, span) = self.next()?;
            let at = position(span.start);
            let (key, plain) = match event {
                Event::MappingEnd => break,
                Event::Scalar(key, style, 0, None) => (key.into_owned(), style == ScalarStyle::Plain),
                _ => return Err((at, "a key must be plain text without anchor or tag".into())),
            };
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            if plain && key == "<<" {
                merged.extend(merge_sources(&node, at)?);
            } else if let Some(line) = lines.insert(key.clone(), at.line) {
                return Err((at, format!("{key:?} is given again, first on line {line}; keep one of them")));
            } else {
                entries.push(Entry { key, position: at, node });
            }
        }
        // What is written in the mapping itself wins; among several merged mappings the first.
        let mut seen: HashSet<String> = lines.into_keys().collect();
        for source in merged {
            if let Value::Mapping(others) = &source.value {
                for entry in others.iter().filter(|entry| seen.insert(entry.key.clone())) {
                    self.count(entry.node.weight, entry.position)?;
                    entries.push(entry.clone());
                }
            }
        }
        Ok(entries)
    }

    fn count(&mut self, added: u32, at: Position) -> Result<(), BuildError> {
        self.nodes_count = self.nodes_count.saturating_add(added);
        let count_max = self.nodes_count_max;
        match self.nodes_count <= count_max {
            true => Ok(()),
            false => {
                Err((at, format!("more than {count_max} values (aliases written out); split or shorten the file")))
            }
        }
    }
}

fn merge_sources(node: &Rc<Node>, at: Position) -> Result<Vec<Rc<Node>>, BuildError> {
    let is_mapping = |node: &Rc<Node>| matches!(node.value, Value::Mapping(_));
    match &node.value {
        Value::Mapping(_) => Ok(vec![node.clone()]),
        Value::Sequence(items) if items.iter().all(is_mapping) => Ok(items.clone()),
        _ => Err((at, "`<<` needs a mapping or a list of mappings, mostly an alias like *defaults".into())),
    }
}

/// The tag can only say what is so anyway, or make a plain scalar text.
fn scalar_style(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Style, String> {
    let written = match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::Literal => Style::Literal,
        ScalarStyle::Folded => Style::Folded,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
    };
    match tag {
        None => Ok(written),
        Some(tag) if tag.handle == "!" && tag.suffix.is_empty() => Ok(Style::Quoted),
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" if written == Style::Plain => Ok(Style::Quoted),
            "str" => Ok(written),
            "int" if unsigned(text.trim_start_matches('-')).is_some() => Ok(Style::Plain),
            "float" if text.parse::<f64>().is_ok() => Ok(Style::Plain),
            "bool" if boolean(text).is_some() => Ok(Style::Plain),
            "null" if is_null(text) => Ok(Style::Plain),
            "int" | "float" | "bool" | "null" => {
                Err(format!("{text:?} is not what the tag {tag} says; remove the tag"))
            }
            _ => Err(format!("the tag {tag} means nothing here; remove it")),
        },
        Some(tag) => Err(format!("the tag {tag} means nothing here; remove it")),
    }
}

fn check_tag(tag: Option<Cow<'_, Tag>>, own: &str) -> Result<(), String> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == own) => {
            Err(format!("the tag {tag} means nothing here; remove it"))
        }
        _ => Ok(()),
    }
}

fn position(marker: Marker) -> Position {
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Position { line: bounded(marker.line()).max(1), column: bounded(marker.col()).saturating_add(1) }
}

/// A mapping whose keys are those of a [`Table`]. Reading a value records what is wrong with it and gives `None`; so does
/// an absent key.
pub(crate) struct Section<'n> {
    entries: &'n [Entry],
    table: &'static Table,
    /// As in `scrape_configs[0].static_configs[1]`; empty at the top.
    path: String,
    pub position: Position,
    findings: &'n Findings,
    errors_before: usize,
}

impl<'n> Section<'n> {
    /// Checks every key against the table. `null` is an empty section.
    pub fn open(node: &'n Node, table: &'static Table, path: String, findings: &'n Findings) -> Self {
        let errors_before = findings.error_count();
        let entries: &[Entry] = match &node.value {
            Value::Mapping(entries) => entries,
            _ if node.is_null() => &[],
            _ => {
                let name = if path.is_empty() { "the file" } else { &path };
                findings.error(
                    node.position,
                    format!("{name} must be a mapping (`key: value` lines), not {}", node.kind()),
                );
                &[]
            }
        };
        let section = Self { entries, table, path, position: node.position, findings, errors_before };
        section.check_keys();
        section
    }

    /// An absent section, read like an empty one.
    pub fn absent(table: &'static Table, path: String, findings: &'n Findings) -> Self {
        let errors_before = findings.error_count();
        Self { entries: &[], table, path, position: Position::default(), findings, errors_before }
    }

    /// Nothing wrong was found in this section so far, so conclusions from several of its values are worth drawing.
    pub fn is_clean(&self) -> bool {
        self.findings.error_count() == self.errors_before
    }

    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    /// Where the key's value stands, or the section if it is absent.
    pub fn position_of(&self, key: &str) -> Position {
        self.get(key).map_or(self.position, |node| node.position)
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub fn get(&self, key: &str) -> Option<&'n Node> {
        assert!(self.table.key(key).is_some(), "{key} is read but not in the table of {}", self.table.section);
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &*entry.node)
    }

    pub fn text(&self, key: &str) -> Option<String> {
        let node = self.get(key)?;
        scalar_text(node, &self.path_of(key), self.findings).map(str::to_owned)
    }

    /// `null` is no duration: 0.
    pub fn duration_ms(&self, key: &str) -> Option<u64> {
        self.with_unit(key, |text| parse_duration_ms(text).map_err(|error| error.to_string()))
    }

    pub fn bytes(&self, key: &str) -> Option<u64> {
        self.with_unit(key, |text| parse_bytes(text).map_err(|error| error.to_string()))
    }

    pub fn boolean(&self, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        let value = match &node.value {
            _ if node.is_null() => Some(false),
            Value::Scalar { text, style: Style::Plain } => boolean(text),
            _ => None,
        };
        if value.is_none() {
            let path = self.path_of(key);
            self.findings.error(node.position, format!("{path} must be true or false, without quotes{}", shown(node)));
        }
        value
    }

    pub fn unsigned(&self, key: &str) -> Option<u64> {
        let node = self.get(key)?;
        let value = match &node.value {
            _ if node.is_null() => Some(0),
            Value::Scalar { text, style: Style::Plain } => unsigned(text),
            _ => None,
        };
        if value.is_none() {
            let path = self.path_of(key);
            let message = format!("{path} must be a whole number from 0 up, without quotes{}", shown(node));
            self.findings.error(node.position, message);
        }
        value
    }

    /// The items of a list; absent and `null` are empty.
    pub fn list(&self, key: &str) -> &'n [Rc<Node>] {
        self.get(key).map_or(&[], |node| list(node, &self.path_of(key), self.findings))
    }

    /// A list of texts with their places.
    pub fn texts(&self, key: &str) -> Vec<(String, Position)> {
        texts(self.list(key), &self.path_of(key), self.findings)
    }

    /// A mapping with free keys.
    pub fn pairs(&self, key: &str) -> &'n [Entry] {
        match self.get(key) {
            Some(Node { value: Value::Mapping(entries), .. }) => entries,
            Some(node) if !node.is_null() => {
                let path = self.path_of(key);
                let message = format!("{path} must be a mapping (`name: value` lines), not {}", node.kind());
                self.findings.error(node.position, message);
                &[]
            }
            _ => &[],
        }
    }

    /// A mapping with free keys and text values.
    pub fn text_pairs(&self, key: &str) -> Vec<TextPair> {
        let read = |entry: &Entry| {
            let path = format!("{}.{}", self.path_of(key), entry.key);
            let value = scalar_text(&entry.node, &path, self.findings)?.to_owned();
            let (name, position) = (entry.key.clone(), entry.position);
            Some(TextPair { name, value, position, value_position: entry.node.position })
        };
        self.pairs(key).iter().filter_map(read).collect()
    }

    /// A section inside this one; an absent one reads as empty.
    pub fn section(&self, key: &str, table: &'static Table) -> Section<'n> {
        match self.get(key) {
            Some(node) => Section::open(node, table, self.path_of(key), self.findings),
            None => Section::absent(table, self.path_of(key), self.findings),
        }
    }

    /// The sections of a list, each opened when its turn comes, so that its `is_clean` tells of it alone. An empty item is
    /// an error, as in Prometheus.
    pub fn sections(&self, key: &str, table: &'static Table) -> impl Iterator<Item = Section<'n>> + use<'n> {
        let (path, findings) = (self.path_of(key), self.findings);
        self.list(key).iter().enumerate().filter_map(move |(index, node)| {
            let path = format!("{path}[{index}]");
            if node.is_null() {
                findings.error(node.position, format!("{path} is empty; fill it in or remove the dash"));
                return None;
            }
            Some(Section::open(node, table, path, findings))
        })
    }

    fn with_unit(&self, key: &str, read: impl Fn(&str) -> Result<u64, String>) -> Option<u64> {
        let node = self.get(key)?;
        if node.is_null() {
            return Some(0);
        }
        let path = self.path_of(key);
        let text = scalar_text(node, &path, self.findings)?;
        read(text).map_err(|error| self.findings.error(node.position, format!("{path}: {error}"))).ok()
    }

    fn check_keys(&self) {
        for entry in self.entries {
            let path = self.path_of(&entry.key);
            match self.table.key(&entry.key) {
                None => self.findings.error(entry.position, unknown_key(&path, &entry.key, self.table)),
                Some(key) => self.check_effect(entry, &path, key),
            }
        }
    }

    fn check_effect(&self, entry: &Entry, path: &str, key: &Key) {
        match key.effect {
            Effect::Honoured => {}
            Effect::Ignored(why) => self.findings.notice(entry.position, format!("{path} has no effect: {why}")),
            Effect::NotYet(advice) => {
                self.findings.error(entry.position, format!("{path} is not supported yet; {advice}"));
            }
            Effect::Only(allowed, advice) => {
                let text = match &entry.node.value {
                    _ if entry.node.is_null() => return,
                    Value::Scalar { text, .. } => text.as_str(),
                    _ => entry.node.kind(),
                };
                if !allowed.contains(&text) {
                    let message = format!("{path}: {text} is not supported yet; {advice}");
                    self.findings.error(entry.node.position, message);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct TextPair {
    pub name: String,
    pub value: String,
    pub position: Position,
    pub value_position: Position,
}

pub(crate) fn list<'n>(node: &'n Node, path: &str, findings: &Findings) -> &'n [Rc<Node>] {
    match &node.value {
        Value::Sequence(items) => items,
        _ if node.is_null() => &[],
        _ => {
            let message = format!("{path} must be a list (`- item` lines, or [item, item]), not {}", node.kind());
            findings.error(node.position, message);
            &[]
        }
    }
}

pub(crate) fn texts(items: &[Rc<Node>], path: &str, findings: &Findings) -> Vec<(String, Position)> {
    let read = |(index, item): (usize, &Rc<Node>)| {
        let text = scalar_text(item, &format!("{path}[{index}]"), findings)?;
        Some((text.to_owned(), item.position))
    };
    items.iter().enumerate().filter_map(read).collect()
}

/// Any single value is text, as written; `null` is empty.
fn scalar_text<'n>(node: &'n Node, path: &str, findings: &Findings) -> Option<&'n str> {
    match &node.value {
        _ if node.is_null() => Some(""),
        Value::Scalar { text, .. } => Some(text),
        _ => {
            findings.error(node.position, format!("{path} must be a single value, not {}", node.kind()));
            None
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The names of YAML 1.1, which go-yaml still reads.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Decimal, `0x`, `0o`, `0b`, or octal with a leading 0 as in YAML 1.1, with `_` between digits; or a float with no
/// fraction, like `1e3`.
fn unsigned(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    let digits = digits.strip_prefix('+').unwrap_or(&digits);
    let radix = |prefix: &str, radix| digits.strip_prefix(prefix).map(|rest| u64::from_str_radix(rest, radix).ok());
    let whole = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2));
    if let Some(value) = whole {
        return value;
    }
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return u64::from_str_radix(&digits[1..], 8).ok();
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits.parse().ok();
    }
    let float: f64 = digits.parse().ok()?;
    (float.fract() == 0.0 && (0.0..9.0e15).contains(&float)).then_some(float as u64)
}

fn shown(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, style: Style::Plain } => format!(", not {text}"),
        Value::Scalar { text, .. } => format!(", not {text:?}"),
        _ => format!(", not {}", node.kind()),
    }
}

fn unknown_key(path: &str, key: &str, table: &Table) -> String {
    let near = table.keys().map(|row| (edit_distance(key, row.name), row.name)).min();
    match near {
        Some((distance, name)) if distance <= 1 + key.chars().count() / 5 => {
            format!("{path} is not a known key; did you mean {name}?")
        }
        _ => format!("{path} is not a known key; remove it or correct its spelling or indentation"),
    }
}

/// Insertions, deletions, replacements and swaps of neighbours between two short texts (optimal string alignment).
pub(crate) fn edit_distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().take(64).collect(), to.chars().take(64).collect());
    let (mut before, mut last) = (vec![0; to.len() + 1], (0..=to.len()).collect::<Vec<_>>());
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1; to.len() + 1];
        for (j, b) in to.iter().enumerate() {
            row[j + 1] = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        (before, last) = (last, row);
    }
    last[to.len()]
}
