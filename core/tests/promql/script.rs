//! The script language of Prometheus' own PromQL tests, read and run on series in memory.
//!
//! `load 5m` then one series a line with its values (`1 2 3`, `0+10x5`, `_` for none, `stale`); `eval instant at 5m
//! EXPR` or `eval range from 0 to 10m step 1m EXPR`, then the expected series or number, and `expect fail|warn|info|
//! ordered|no_warn|no_info [msg:|regex:] ...`; `clear` forgets what was loaded. A blank line ends a block.

use holdfast_core::{
    labels::{LabelSet, LabelsBuf, LabelsBuilder, MatchOp, Matcher, NAME},
    promql::{
        self, AnnotationLevel, Progress, Query, QueryOptions, ResultSeries, ValueType, Window,
        source::{Selection, Source, SourceError},
    },
    store::{STALE_NAN_BITS, Sample},
};
use std::collections::{BTreeMap, BTreeSet};

/// Series in memory.
#[derive(Default)]
pub struct Memory {
    pub series: Vec<(LabelSet, Vec<Sample>)>,
    pub read_count: usize,
}

impl Source for Memory {
    fn select(&mut self, selection: &mut Selection, _: usize) -> Result<bool, SourceError> {
        let times = selection.start_ms..=selection.end_ms;
        for (index, (labels, samples)) in self.series.iter().enumerate().rev() {
            let inside = samples.iter().any(|sample| times.contains(&sample.t_ms));
            if inside && selection.matches(labels.as_ref()) {
                selection.add_index(index)?;
            }
        }
        selection.finish();
        Ok(true)
    }

    fn labels(&mut self, selection: &Selection, index: usize, labels: &mut LabelsBuf) -> Result<usize, SourceError> {
        labels.set(self.series[selection.series[index].series as usize].0.as_ref());
        Ok(0)
    }

    fn read(
        &mut self,
        selection: &Selection,
        index: usize,
        start_ms: i64,
        end_ms: i64,
        samples: &mut Vec<Sample>,
    ) -> Result<Option<usize>, SourceError> {
        self.read_count += 1;
        let index = selection.series[index].series as usize;
        samples.extend(self.series[index].1.iter().filter(|sample| (start_ms..=end_ms).contains(&sample.t_ms)));
        Ok(Some(0))
    }
}

/// How one `eval` went.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Passed,
    Failed(String),
    /// Needs what is refused by name so far (native histograms, experimental language).
    Later,
}

pub struct Report {
    pub line: usize,
    pub expr: String,
    pub outcome: Outcome,
}

pub struct Answer {
    pub value_type: ValueType,
    pub series: Vec<ResultSeries>,
    pub annotations: Vec<(AnnotationLevel, String)>,
}

pub const OPTIONS: QueryOptions =
    QueryOptions { lookback_delta_ms: 300_000, samples_max: 50_000_000, bytes_max: 64 * 1024 * 1024 };

/// Runs a query to its end in bites.
pub fn ask(memory: &mut Memory, text: &str, window: Window, bite_samples: usize) -> Result<Answer, String> {
    let expr = promql::parse(text).map_err(|error| error.to_string())?;
    // What an expression prints must mean the same.
    let printed = expr.to_string();
    let again = promql::parse(&printed).map_err(|error| format!("printed as {printed}: {error}"))?;
    if again.to_string() != printed {
        return Err(format!("{printed} prints as {again} the second time"));
    }
    let mut query = Query::new(&expr, window, OPTIONS).map_err(|error| error.to_string())?.with_text(text);
    let mut series = Vec::new();
    loop {
        match query.advance(memory, bite_samples).map_err(|error| error.to_string())? {
            Progress::More => {}
            Progress::Series => series.push(query.take_series().expect("Progress::Series announces one")),
            Progress::Done => break,
        }
    }
    assert_eq!(query.advance(memory, 1), Ok(Progress::Done));
    let annotations = query.annotations().iter().map(|a| (a.level, a.text.clone())).collect();
    Ok(Answer { value_type: query.value_type(), series, annotations })
}

#[derive(Default)]
struct Expected {
    fail: bool,
    warn: bool,
    info: bool,
    no_warn: bool,
    no_info: bool,
    ordered: bool,
    /// (fail, warn or info; msg, regex or any; text)
    texts: Vec<(String, String, String)>,
    number: Option<f64>,
    string: Option<String>,
    range_vector: Option<(i64, i64)>,
    series: Vec<(LabelSet, Vec<Option<f64>>)>,
    has_histogram: bool,
}

/// Runs a whole script; an error is one of the script itself.
pub fn run(script: &str) -> Result<Vec<Report>, String> {
    let lines: Vec<&str> =
        script.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let (mut memory, mut histograms, mut reports) = (Memory::default(), BTreeSet::new(), Vec::new());
    let mut at = 0;
    while at < lines.len() {
        let (line, number) = (lines[at], at + 1);
        at += 1;
        let block_from = at;
        if line.starts_with("load") || line.starts_with("eval") {
            while at < lines.len() && !lines[at].is_empty() {
                at += 1;
            }
        }
        let block = &lines[block_from..at];
        let context = |error: String| format!("line {number}: {error}");
        if line == "clear" {
            (memory, histograms) = (Memory::default(), BTreeSet::new());
        } else if line.starts_with("load") {
            load(&mut memory, &mut histograms, line, block).map_err(context)?;
        } else if line.starts_with("eval") {
            reports.push(eval(&mut memory, &histograms, line, number, block).map_err(context)?);
        } else if !line.is_empty() {
            return Err(format!("line {number}: {line:?} is no command"));
        }
    }
    Ok(reports)
}

fn load(memory: &mut Memory, histograms: &mut BTreeSet<String>, line: &str, block: &[&str]) -> Result<(), String> {
    let gap_ms = duration_ms(line.split_whitespace().nth(1).ok_or("load without a gap")?)?;
    for text in block {
        if text.contains("@st") {
            continue;
        }
        let (labels, rest) = metric(text)?;
        if rest.contains("{{") || line.starts_with("load_with") {
            let name = labels.get(NAME).unwrap_or("");
            let base = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
            if rest.contains("{{") {
                histograms.insert(name.to_owned());
                continue;
            } else if let Some(base) = base {
                histograms.insert(base.to_owned());
            }
        }
        let samples: Vec<Sample> = values(rest)?
            .into_iter()
            .enumerate()
            .filter_map(|(index, value)| Some(Sample { t_ms: index as i64 * gap_ms, value: value? }))
            .collect();
        memory.series.retain(|(other, _)| *other != labels);
        memory.series.push((labels, samples));
    }
    Ok(())
}

fn eval(
    memory: &mut Memory,
    histograms: &BTreeSet<String>,
    line: &str,
    number: usize,
    block: &[&str],
) -> Result<Report, String> {
    let mut expected = Expected::default();
    let (command, rest) = line.split_once(' ').ok_or("eval without a kind")?;
    match command {
        "eval" => {}
        "eval_fail" => expected.fail = true,
        "eval_warn" => expected.warn = true,
        "eval_info" => expected.info = true,
        "eval_ordered" => expected.ordered = true,
        _ => return Err(format!("{command} is no command")),
    }
    let (window, expr) = window(rest)?;
    expectations(&mut expected, block)?;
    let words: BTreeSet<&str> = expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).collect();
    let touches_histograms = expected.has_histogram
        || histograms.iter().any(|name| words.contains(name.as_str()))
        || (!histograms.is_empty() && expr.contains("__name__=~"));
    let outcome = if touches_histograms {
        Outcome::Later
    } else {
        match check(memory, expr, window, &expected) {
            Ok(()) => Outcome::Passed,
            Err(error) if error.contains("not supported yet") => Outcome::Later,
            Err(error) => Outcome::Failed(error),
        }
    };
    Ok(Report { line: number, expr: expr.to_owned(), outcome })
}

fn check(memory: &mut Memory, expr: &str, window: Window, expected: &Expected) -> Result<(), String> {
    let answer = ask(memory, expr, window, 1_000_000);
    // However small the bites, the answer is the same.
    let nibbled = ask(memory, expr, window, 1);
    match (&answer, &nibbled) {
        (Ok(answer), Ok(nibbled)) => {
            let (whole, bites) = (format!("{:?}", answer.series), format!("{:?}", nibbled.series));
            if whole != bites {
                return Err(format!("in bites: {bites}, at once: {whole}"));
            }
        }
        (Err(answer), Err(nibbled)) if answer == nibbled => {}
        _ => return Err("in bites it ends differently".into()),
    }
    let answer = match answer {
        Err(error) if expected.fail => {
            if error.contains("not supported yet") {
                return Err(error);
            }
            return texts(expected, "fail", &[error]);
        }
        Err(error) => return Err(error),
        Ok(_) if expected.fail => return Err("it did not fail".into()),
        Ok(answer) => answer,
    };
    if let Some(text) = &expected.string {
        let found = answer.series.first().and_then(|series| series.text.as_deref());
        return if found == Some(text) { Ok(()) } else { Err(format!("got {found:?}")) };
    }
    match expected.number {
        Some(number) => {
            let value = answer.series.first().and_then(|series| series.points.first()).map_or(f64::NAN, |p| p.value);
            if answer.value_type != ValueType::Scalar || !almost(number, value) {
                return Err(format!("got {value}"));
            }
        }
        None => compare(&answer.series, window, expected)?,
    }
    if let (Window::Instant { t_ms }, None) = (window, expected.range_vector) {
        in_a_range(memory, expr, t_ms, expected)?;
    }
    for (level, word, wanted, unwanted) in [
        (AnnotationLevel::Warning, "warn", expected.warn, expected.no_warn),
        (AnnotationLevel::Info, "info", expected.info, expected.no_info),
    ] {
        let found: Vec<String> =
            answer.annotations.iter().filter(|(found, _)| *found == level).map(|(_, text)| text.clone()).collect();
        if (wanted && found.is_empty()) || (unwanted && !found.is_empty()) {
            return Err(format!("{word}: got {found:?}"));
        }
        texts(expected, word, &found)?;
    }
    Ok(())
}

/// The middle step of a range query gives what the instant query gave.
fn in_a_range(memory: &mut Memory, expr: &str, t_ms: i64, expected: &Expected) -> Result<(), String> {
    let window = Window::Range { start_ms: t_ms - 60_000, end_ms: t_ms + 60_000, step_ms: 60_000 };
    let mut answer = ask(memory, expr, window, 1_000_000).map_err(|error| format!("in a range: {error}"))?;
    for series in &mut answer.series {
        series.points.retain(|point| point.t_ms == t_ms);
    }
    answer.series.retain(|series| !series.points.is_empty());
    let result = match expected.number {
        Some(number) => match &answer.series[..] {
            [series] if almost(number, series.points[0].value) => Ok(()),
            other => Err(format!("got {other:?}")),
        },
        None if ["start()", "end()"].iter().any(|word| expr.contains(word)) => Ok(()),
        None => {
            let unordered = Expected { ordered: false, series: expected.series.clone(), ..Expected::default() };
            compare(&answer.series, Window::Instant { t_ms }, &unordered)
        }
    };
    result.map_err(|error| format!("in a range: {error}"))
}

fn compare(found: &[ResultSeries], window: Window, expected: &Expected) -> Result<(), String> {
    let (start_ms, step_ms) = match (window, expected.range_vector) {
        (_, Some(range)) => range,
        (Window::Instant { t_ms }, _) => (t_ms, 1),
        (Window::Range { start_ms, step_ms, .. }, _) => (start_ms, step_ms),
    };
    let mut wanted: BTreeMap<LabelSet, (usize, Vec<(i64, f64)>)> = BTreeMap::new();
    for (position, (labels, values)) in expected.series.iter().enumerate() {
        let points =
            values.iter().enumerate().filter_map(|(step, value)| Some((start_ms + step as i64 * step_ms, (*value)?)));
        wanted.insert(labels.clone(), (position, points.collect()));
    }
    for (position, series) in found.iter().enumerate() {
        let Some((wanted_position, points)) = wanted.remove(&series.labels) else {
            return Err(format!("unexpected {} {:?}", series.labels, series.points.first()));
        };
        if expected.ordered && position != wanted_position {
            return Err(format!("{} is at position {position}", series.labels));
        }
        let same = points.len() == series.points.len()
            && points.iter().zip(&series.points).all(|((t_ms, value), p)| *t_ms == p.t_ms && almost(*value, p.value));
        if !same {
            return Err(format!("{}: got {:?}, expected {points:?}", series.labels, series.points));
        }
    }
    match wanted.into_iter().find(|(_, (_, points))| !points.is_empty()) {
        Some((labels, _)) => Err(format!("missing {labels}")),
        None => Ok(()),
    }
}

fn texts(expected: &Expected, word: &str, found: &[String]) -> Result<(), String> {
    for (_, kind, text) in expected.texts.iter().filter(|(about, _, _)| about == word) {
        let matches = |found: &String| match kind.as_str() {
            "msg" => found == text,
            "regex" => Matcher::new("text", MatchOp::Regexp, &format!(".*{text}.*")).is_ok_and(|m| m.matches(found)),
            _ => true,
        };
        if !found.iter().any(matches) {
            return Err(format!("{word}: got {found:?}, expected {text}"));
        }
    }
    Ok(())
}

fn window(text: &str) -> Result<(Window, &str), String> {
    if let Some(rest) = text.strip_prefix("instant ") {
        let Some(rest) = rest.trim_start().strip_prefix("at ") else {
            return Ok((Window::Instant { t_ms: 0 }, rest.trim()));
        };
        let (at, expr) = rest.trim_start().split_once(char::is_whitespace).ok_or("eval without an expression")?;
        return Ok((Window::Instant { t_ms: duration_ms(at)? }, expr.trim()));
    }
    let rest = text.strip_prefix("range from ").ok_or("eval is instant or range")?;
    let (start, rest) = rest.split_once(" to ").ok_or("range without to")?;
    let (end, rest) = rest.split_once(" step ").ok_or("range without step")?;
    let (step, expr) = rest.trim().split_once(char::is_whitespace).ok_or("eval without an expression")?;
    let window =
        Window::Range { start_ms: duration_ms(start)?, end_ms: duration_ms(end)?, step_ms: duration_ms(step)? };
    Ok((window, expr.trim()))
}

fn expectations(expected: &mut Expected, block: &[&str]) -> Result<(), String> {
    for line in block {
        if let Some(rest) = line.strip_prefix("expect range vector ") {
            let (window, _) = window(&format!("range {rest} ."))?;
            let Window::Range { start_ms, step_ms, .. } = window else { return Err("no range".into()) };
            expected.range_vector = Some((start_ms, step_ms));
        } else if let Some(rest) = line.strip_prefix("expect string ") {
            expected.string = Some(text_of(rest)?);
        } else if let Some(rest) = line.strip_prefix("expect ") {
            let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            match word {
                "fail" => expected.fail = true,
                "warn" => expected.warn = true,
                "info" => expected.info = true,
                "no_warn" => expected.no_warn = true,
                "no_info" => expected.no_info = true,
                "ordered" => expected.ordered = true,
                _ => return Err(format!("{line:?} expects what?")),
            }
            if let Some((kind, text)) = rest.trim().split_once(':') {
                expected.texts.push((word.into(), kind.into(), text.trim().into()));
            }
        } else if let Some(text) = line.strip_prefix("expected_fail_message ") {
            expected.texts.push(("fail".into(), "msg".into(), text.trim().into()));
        } else if let Some(text) = line.strip_prefix("expected_fail_regexp ") {
            expected.texts.push(("fail".into(), "regex".into(), text.trim().into()));
        } else if let Some(value) = number(line) {
            expected.number = Some(value);
        } else {
            expected.has_histogram |= line.contains("{{");
            let (labels, rest) = metric(line)?;
            if !line.contains("{{") {
                expected.series.push((labels, values(rest)?));
            }
        }
    }
    Ok(())
}

/// `name{a="b"} ...`: the labels and what follows.
fn metric(text: &str) -> Result<(LabelSet, &str), String> {
    let name_end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    let mut builder = LabelsBuilder::default();
    builder.set(NAME, name);
    let after_blank = rest.trim_start();
    if !after_blank.starts_with('{') || after_blank.starts_with("{{") {
        return if name.is_empty() { Err(format!("{text:?} has no labels")) } else { Ok((builder.build(), rest)) };
    }
    let (mut rest, mut expects_value): (&str, Option<String>) = (&after_blank[1..], None);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',', '=']);
        if let Some(after) = rest.strip_prefix('}') {
            if let Some(name) = expects_value.take() {
                builder.set(NAME, &name);
            }
            return Ok((builder.build(), after));
        }
        let quoted = rest.starts_with(['"', '\'', '`']);
        let length = if quoted { quoted_length(rest)? } else { rest.find(['=', ' ']).ok_or("unfinished labels")? };
        let (word, after) = rest.split_at(length);
        let word = if quoted { text_of(word)? } else { word.to_owned() };
        let has_value = after.trim_start().starts_with('=');
        match expects_value.take() {
            Some(name) => {
                builder.set(&name, &word);
            }
            None if has_value => expects_value = Some(word),
            None => {
                builder.set(NAME, &word);
            }
        }
        rest = after;
    }
}

fn quoted_length(text: &str) -> Result<usize, String> {
    let quote = text.chars().next().unwrap_or('"');
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != '`' {
            escaped = true;
        } else if c == quote {
            return Ok(at + 1);
        }
    }
    Err(format!("unfinished text {text}"))
}

/// A quoted text, by way of PromQL's own reading of texts.
fn text_of(quoted: &str) -> Result<String, String> {
    let expr = promql::parse(quoted.trim()).map_err(|error| error.to_string())?;
    match expr.kind {
        promql::ExprKind::Text(text) => Ok(text.into()),
        _ => Err(format!("{quoted} is no text")),
    }
}

/// `1 2+3x4 _x2 stale`: nothing is a missing sample.
fn values(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut list = Vec::new();
    for item in text.split_whitespace() {
        let (base, repeat) = match item.rsplit_once('x') {
            Some((base, count)) if !base.is_empty() && count.parse::<usize>().is_ok() => {
                (base, count.parse().unwrap_or(0))
            }
            _ => (item, 0_usize),
        };
        if base == "_" {
            list.extend(core::iter::repeat_n(None, repeat.max(1)));
            continue;
        }
        if base == "stale" {
            list.extend(core::iter::repeat_n(Some(f64::from_bits(STALE_NAN_BITS)), repeat + 1));
            continue;
        }
        let split =
            base.char_indices().skip(1).find(|(at, c)| (*c == '+' || *c == '-') && !base[..*at].ends_with(['e', 'E']));
        let (first, step) = split.map_or((base, "0"), |(at, _)| base.split_at(at));
        let mut value = number(first).ok_or_else(|| format!("{item:?} is no value"))?;
        let step = number(step).ok_or_else(|| format!("{item:?} has no step"))?;
        for _ in 0..=repeat {
            list.push(Some(value));
            value += step;
        }
    }
    Ok(list)
}

fn number(text: &str) -> Option<f64> {
    match text.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str() {
        "inf" => Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        "nan" => Some(f64::NAN),
        hex if hex.starts_with("0x") => {
            let value = i64::from_str_radix(&hex[2..], 16).ok()? as f64;
            Some(if text.starts_with('-') { -value } else { value })
        }
        "infinity" | "" => None,
        _ => text.parse().ok(),
    }
}

fn duration_ms(text: &str) -> Result<i64, String> {
    let expr = promql::parse(text.trim()).map_err(|error| error.to_string())?;
    match expr.kind {
        promql::ExprKind::Number { value, .. } => Ok((value * 1000.0).round() as i64),
        _ => Err(format!("{text} is no duration")),
    }
}

fn almost(a: f64, b: f64) -> bool {
    let (stale_a, stale_b) = (a.to_bits() == STALE_NAN_BITS, b.to_bits() == STALE_NAN_BITS);
    if stale_a || stale_b {
        return stale_a && stale_b;
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        difference < 1e-6 * f64::MIN_POSITIVE
    } else {
        difference / sum.min(f64::MAX) < 1e-6
    }
}
