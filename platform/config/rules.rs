//! Reads rule files: groups of recording and alerting rules, with the checks of Prometheus 3.5 (its `rulefmt` package).

use super::{
    Finding, Reading, Refused,
    errors::{Findings, Position},
    file::read_bounded,
    keys::{RULE, RULE_FILE, RULE_GROUP},
    yaml::{Node, Section, Style, TextPair, Value, parse},
};
use holdfast_core::{
    labels::NAME,
    rules::{GroupSpec, RuleKind, RuleSpec},
};
use std::{collections::BTreeMap, path::Path};

/// The groups of one file, and what should be known about it.
pub fn load(path: &Path, reading: &Reading) -> Result<(Vec<GroupSpec>, Vec<Finding>), Refused> {
    let findings = Findings::new(&path.display().to_string());
    let mut groups = Vec::new();
    if let Some(text) = read_bounded(path, reading.file_bytes_max, &findings) {
        let context = Context { reading, findings: &findings, source: &text };
        groups = context.groups();
    }
    match findings.finish() {
        (errors, notices) if errors.is_empty() => Ok((groups, notices)),
        (errors, _) => Err(Refused { errors }),
    }
}

struct Context<'r> {
    reading: &'r Reading<'r>,
    findings: &'r Findings,
    source: &'r str,
}

impl Context<'_> {
    fn groups(&self) -> Vec<GroupSpec> {
        let Some(root) = parse(self.source, self.reading.file_bytes_max, self.findings) else { return Vec::new() };
        let top = Section::open(&root, &RULE_FILE, String::new(), self.findings);
        let (mut groups, mut lines) = (Vec::new(), BTreeMap::new());
        for section in top.sections("groups", &RULE_GROUP) {
            let group = self.group(&section);
            let at = section.position_of("name");
            if group.name.is_empty() && section.get("name").is_none_or(|node| node.is_null() || is_text(node)) {
                self.findings.error(at, "a group has no name; give it one that is unique in this file");
            } else if let Some(line) = lines.insert(group.name.clone(), at.line) {
                let message =
                    format!("the group name {:?} is used again, first on line {line}; rename one of them", group.name);
                self.findings.error(at, message);
            }
            groups.push(group);
        }
        groups
    }

    fn group(&self, section: &Section) -> GroupSpec {
        let labels = section.text_pairs("labels");
        self.check_labels(&labels);
        let rules: Vec<RuleSpec> = section.sections("rules", &RULE).filter_map(|rule| self.rule(&rule)).collect();
        GroupSpec {
            name: section.text("name").unwrap_or_default(),
            file: self.findings.file().into(),
            interval_ms: section.duration_ms("interval").filter(|interval_ms| *interval_ms > 0),
            limit: section.unsigned("limit").unwrap_or(0),
            query_offset_ms: section
                .get("query_offset")
                .filter(|node| !node.is_null())
                .and_then(|_| section.duration_ms("query_offset"))
                .map(|offset_ms| i64::try_from(offset_ms).unwrap_or(i64::MAX)),
            labels: pairs(labels),
            rules,
        }
    }

    fn rule(&self, section: &Section) -> Option<RuleSpec> {
        let record = section.text("record").unwrap_or_default();
        let alert = section.text("alert").unwrap_or_default();
        let expr = section.text("expr").unwrap_or_default();
        let for_ms = section.duration_ms("for").unwrap_or(0);
        let keep_firing_for_ms = section.duration_ms("keep_firing_for").unwrap_or(0);
        let (labels, annotations) = (section.text_pairs("labels"), section.text_pairs("annotations"));

        if section.is_clean() {
            match (record.is_empty(), alert.is_empty()) {
                (true, true) => {
                    self.findings
                        .error(section.position, "a rule has neither record nor alert; give one of them a name");
                }
                (false, false) => {
                    let message = "a rule has both record and alert; make two rules of it or remove one of the names";
                    self.findings.error(section.position_of("alert"), message);
                }
                (false, true) => self.check_recording(section, &record, for_ms, keep_firing_for_ms, &annotations),
                (true, false) => self.check_templates(&labels, &annotations),
            }
            if expr.is_empty() {
                self.findings.error(section.position_of("expr"), "a rule has no expr; give it a PromQL expression");
            }
        }
        if let Some(node) = section.get("expr").filter(|_| !expr.is_empty()) {
            self.check_expression(node, &expr);
        }
        self.check_labels(&labels);
        for pair in annotations.iter().filter(|pair| pair.name.is_empty()) {
            self.findings.error(pair.position, "an annotation has no name; give it one or remove the line");
        }

        let kind = match record.is_empty() {
            true => RuleKind::Alert { alert, for_ms, keep_firing_for_ms, annotations: pairs(annotations) },
            false => RuleKind::Record { record },
        };
        Some(RuleSpec { kind, expr, labels: pairs(labels) })
    }

    fn check_recording(
        &self,
        section: &Section,
        record: &str,
        for_ms: u64,
        keep_firing_for_ms: u64,
        annotations: &[TextPair],
    ) {
        for (key, given) in
            [("annotations", !annotations.is_empty()), ("for", for_ms > 0), ("keep_firing_for", keep_firing_for_ms > 0)]
        {
            if given {
                let message = format!("a recording rule has no {key}; remove it, or make it an alert");
                self.findings.error(section.position_of(key), message);
            }
        }
        if record.contains(['{', '}']) {
            let message = format!(
                "the record {record:?} has braces; give a metric name here, labels under labels, and PromQL under expr"
            );
            self.findings.error(section.position_of("record"), message);
        }
    }

    fn check_labels(&self, labels: &[TextPair]) {
        for pair in labels {
            if pair.name.is_empty() {
                self.findings.error(pair.position, "a label has no name; give it one or remove the line");
            } else if pair.name == NAME {
                let message = format!("the label {NAME} cannot be set by a rule; name a new series with record");
                self.findings.error(pair.position, message);
            }
        }
    }

    /// Only alerting rules' texts are templates.
    fn check_templates(&self, labels: &[TextPair], annotations: &[TextPair]) {
        for (what, pair) in
            labels.iter().map(|pair| ("label", pair)).chain(annotations.iter().map(|pair| ("annotation", pair)))
        {
            if let Err(error) = (self.reading.check_template)(&pair.value) {
                let message = format!("the template of the {what} {} is broken: {error}", pair.name);
                self.findings.error(pair.value_position, message);
            }
        }
    }

    fn check_expression(&self, node: &Node, expr: &str) {
        let Err((offset, error)) = (self.reading.check_expression)(expr) else { return };
        let (at, exact) = self.place_in(node, expr, offset.min(expr.len()));
        let (line, column) = line_and_column(expr, offset);
        let place = match exact {
            true => String::new(),
            false => format!(" at {line}:{column} of the expression"),
        };
        self.findings.error(at, format!("the expression is wrong{place}: {error}"));
    }

    /// The place in the file of a byte of a scalar's text, and whether it is exact. Folded and escaped texts do not stand in
    /// the file as they are; there it is the scalar's beginning.
    fn place_in(&self, node: &Node, text: &str, offset: usize) -> (Position, bool) {
        let Value::Scalar { style, .. } = &node.value else { return (node.position, false) };
        let (line, column) = line_and_column(text, offset);
        let content = text.lines().nth(line as usize - 1).unwrap_or("");
        let (file_line, skipped) = match style {
            // The block's place is its first line that is not empty.
            Style::Literal => {
                let empty = text.lines().take_while(|line| line.is_empty()).count() as u32;
                ((node.position.line + line - 1).saturating_sub(empty), 0)
            }
            Style::Plain => (node.position.line, node.position.column - 1),
            Style::Quoted => (node.position.line, node.position.column),
            Style::Folded => return (node.position, false),
        };
        let source = self.source.lines().nth(file_line as usize - 1).unwrap_or("");
        let indent = match style {
            // The block's lines stand indented, each as far as the block itself plus its own.
            Style::Literal => source.chars().count().saturating_sub(content.chars().count()) as u32,
            _ => skipped,
        };
        let stands_there: String = source.chars().skip(indent as usize).take(content.chars().count()).collect();
        match stands_there == content && (line == 1 || *style == Style::Literal) {
            true => (Position { line: file_line, column: indent + column }, true),
            false => (node.position, false),
        }
    }
}

/// From 1, in characters.
fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = 1 + before.matches('\n').count() as u32;
    let column = 1 + before.rsplit('\n').next().unwrap_or("").chars().count() as u32;
    (line, column)
}

fn is_text(node: &Node) -> bool {
    matches!(node.value, Value::Scalar { .. })
}

fn pairs(pairs: Vec<TextPair>) -> Vec<(String, String)> {
    pairs.into_iter().map(|pair| (pair.name, pair.value)).collect()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
