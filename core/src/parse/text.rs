//! The text format 0.0.4 as Prometheus 3 reads it, names in quotes included.
//!
//! Grammar: `prometheus.io/docs/instrumenting/exposition_formats`; where that is silent, what Prometheus' lexer does.

use super::{
    ExpositionSink, KnownLines, MetricKind, NoSample,
    lines::{LINE_BYTES_MAX, LineReader, LineTooLong, Lines, Taken},
    number,
};
use alloc::string::String;
use core::ops::ControlFlow;
use nom::{
    IResult, Parser,
    bytes::complete::{tag, take_while, take_while1},
    combinator::{recognize, verify},
    sequence::pair,
};

/// Characters of a broken line that its error quotes.
const EXCERPT_CHARS_MAX: usize = 60;

/// Where and why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason} while parsing: {excerpt:?}")]
pub struct ParseError {
    /// One-based.
    pub line: u64,
    pub reason: ParseReason,
    /// The line's beginning.
    pub excerpt: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseReason {
    #[error("expected a valid start token")]
    StartExpected,
    #[error("expected metric name after HELP or TYPE")]
    MetaNameExpected,
    #[error("expected text after the metric name of HELP or TYPE")]
    MetaTextExpected,
    #[error("invalid metric type")]
    KindInvalid,
    #[error("help text is not a valid utf8 string")]
    HelpNotUtf8,
    #[error("expected label name")]
    LabelNameExpected,
    #[error("expected equal")]
    EqualExpected,
    #[error("expected label value")]
    LabelValueExpected,
    #[error("invalid UTF-8 label value")]
    NotUtf8,
    #[error("metric name already set")]
    MetricNameAgain,
    #[error("metric name not set")]
    MetricNameMissing,
    #[error("expected value after metric")]
    ValueExpected,
    #[error("the value is not a number")]
    ValueInvalid,
    #[error("expected timestamp or new record")]
    TimestampExpected,
    #[error("the timestamp is out of range")]
    TimestampInvalid,
    #[error("expected next entry after timestamp")]
    LineEndExpected,
    #[error("the line is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// The sink said so, and knows why.
    #[error("stopped")]
    Stopped,
}

/// Reads one body.
///
/// ```
/// # use holdfast_core::parse::*;
/// # use core::ops::ControlFlow;
/// # struct Sum(f64);
/// # impl ExpositionSink for Sum {
/// #     fn sample(&mut self, sample: SampleLine<'_>) -> ControlFlow<()> {
/// #         self.0 += f64::from_bits(sample.value_bits);
/// #         ControlFlow::Continue(())
/// #     }
/// #     fn help(&mut self, _: &str, _: &str) -> ControlFlow<()> { ControlFlow::Continue(()) }
/// #     fn kind(&mut self, _: &str, _: MetricKind) -> ControlFlow<()> { ControlFlow::Continue(()) }
/// # }
/// let (mut parser, mut sum) = (TextParser::new(), Sum(0.0));
/// parser.feed(b"requests_total{code=\"200\"} 4", &mut sum)?;
/// parser.feed(b"2\nerrors_total 1\n", &mut sum)?;
/// parser.finish(&mut sum)?;
/// assert_eq!(sum.0, 43.0);
/// # Ok::<(), ParseError>(())
/// ```
pub struct TextParser {
    lines: Lines,
    rules: LineRules,
}

/// What one line leaves for the next.
#[derive(Default)]
struct LineRules {
    /// The last `TYPE`: decides which float labels are rewritten, as in Prometheus for all lines until the next one.
    kind: MetricKind,
    scratch: String,
}

impl Default for TextParser {
    fn default() -> Self {
        Self::new()
    }
}

impl TextParser {
    pub fn new() -> Self {
        Self { lines: Lines::new(), rules: LineRules::default() }
    }

    /// Parses every line that `bytes` completes. After an error the parser must not be fed again.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn ExpositionSink) -> Result<(), ParseError> {
        let Self { lines, rules } = self;
        let result = lines.feed(bytes, &mut BodyReader { rules, is_over: false, sink });
        result.map_err(|failure| failure.at(lines.number))
    }

    /// Parses the last line if it lacks its newline.
    pub fn finish(&mut self, sink: &mut dyn ExpositionSink) -> Result<(), ParseError> {
        let Self { lines, rules } = self;
        let result = lines.finish(&mut BodyReader { rules, is_over: true, sink });
        result.map_err(|failure| failure.at(lines.number))
    }

    /// As if it were new, with the allocations that it has.
    pub fn start_again(&mut self) {
        self.lines.start_again();
        self.rules.kind = MetricKind::default();
    }

    /// Bytes this parser keeps between two pieces.
    pub fn heap_bytes(&self) -> usize {
        self.lines.heap_bytes() + self.rules.scratch.capacity()
    }
}

/// Reads the lines of a body for a sink.
struct BodyReader<'r, 's> {
    rules: &'r mut LineRules,
    /// What is still unread is the last line.
    is_over: bool,
    sink: &'r mut (dyn ExpositionSink + 's),
}

impl LineReader<Failure> for BodyReader<'_, '_> {
    fn known(&mut self, bytes: &[u8]) -> KnownLines {
        self.sink.known(bytes, &mut self.rules.kind)
    }

    fn take(&mut self, line: &[u8]) -> Result<Taken, Failure> {
        self.rules.line(line, self.is_over, self.sink)
    }
}

/// A [`ParseError`] that does not know its line yet.
struct Failure {
    reason: ParseReason,
    excerpt: String,
}

impl Failure {
    fn at(self, line: u64) -> ParseError {
        ParseError { line, reason: self.reason, excerpt: self.excerpt }
    }
}

impl From<LineTooLong> for Failure {
    fn from(_: LineTooLong) -> Self {
        Self { reason: ParseReason::LineTooLong, excerpt: String::new() }
    }
}

/// Why the labels of a line cannot be read.
enum Stop {
    /// The line ends inside quotes.
    Open,
    Broken(ParseReason),
}

impl From<ParseReason> for Stop {
    fn from(reason: ParseReason) -> Self {
        Self::Broken(reason)
    }
}

impl LineRules {
    fn line(&mut self, line: &[u8], last: bool, sink: &mut dyn ExpositionSink) -> Result<Taken, Failure> {
        let flow = match self.line_inner(line, sink) {
            Ok(flow) => flow,
            Err(Stop::Open) if !last => return Ok(Taken::Unfinished),
            Err(Stop::Open) => return Err(failure(ParseReason::LabelValueExpected, line)),
            Err(Stop::Broken(reason)) => return Err(failure(reason, line)),
        };
        match flow {
            Flow::Next => Ok(Taken::Whole),
            Flow::End => Ok(Taken::End),
            Flow::Stopped => Err(failure(ParseReason::Stopped, line)),
        }
    }

    fn line_inner(&mut self, line: &[u8], sink: &mut dyn ExpositionSink) -> Result<Flow, Stop> {
        let rest = skip_blanks(line);
        let (flow, what) = match rest.first() {
            None => (Flow::Next, NoSample::Other),
            // A NUL where a line would begin ends the body for Prometheus.
            Some(0) => (Flow::End, NoSample::Other),
            Some(b'#') => self.comment(&rest[1..], sink)?,
            Some(_) => return self.sample(line, rest, sink),
        };
        if flow == Flow::Next {
            sink.no_sample(line, what);
        }
        Ok(flow)
    }

    fn comment(&mut self, text: &[u8], sink: &mut dyn ExpositionSink) -> Result<(Flow, NoSample), Stop> {
        let inner = skip_blanks(text);
        if inner.len() == text.len() {
            // `#` without a blank behind it is never HELP or TYPE.
            return Ok((if text.contains(&0) { Flow::End } else { Flow::Next }, NoSample::Other));
        }
        let Ok((rest, word)) = meta_word(inner) else { return Ok((Flow::Next, NoSample::Other)) };
        let (name, rest) = match rest.first() {
            Some(b'"') => match quoted(rest) {
                Quoted::Closed { inner, rest } => (inner, rest),
                Quoted::Open | Quoted::Broken => return Err(ParseReason::MetaNameExpected.into()),
            },
            _ => match metric_name(rest) {
                Ok((rest, name)) => (name, rest),
                Err(_) => return Err(ParseReason::MetaNameExpected.into()),
            },
        };
        let name = utf8(name)?;
        // One character divides name and text, whatever it is.
        let text = rest.get(1..).unwrap_or(&[]);
        if word == b"TYPE" {
            self.kind = metric_kind(text).ok_or(ParseReason::KindInvalid)?;
            Ok((sink.kind(name, self.kind).into(), NoSample::Kind(self.kind)))
        } else {
            let text = core::str::from_utf8(text).map_err(|_| ParseReason::HelpNotUtf8)?;
            let flow = sink.help(name, unescape(text, Escapes::Help, &mut self.scratch));
            Ok((flow.into(), NoSample::Help))
        }
    }

    /// `line` is what is left of `whole` behind blanks.
    fn sample(&mut self, whole: &[u8], line: &[u8], sink: &mut dyn ExpositionSink) -> Result<Flow, Stop> {
        // One look at the whole line says that every part of it is text: what divides them is ASCII.
        let text = core::str::from_utf8(line).ok();
        let (mut name, mut rest) = match metric_name(line) {
            Ok((rest, name)) => (Some(QuotedText { raw: part_of(text, line, name)? }), skip_blanks(rest)),
            Err(_) if line[0] == b'{' => (None, line),
            Err(_) => return Err(ParseReason::StartExpected.into()),
        };
        let mut labels = "";
        if let Some(inside) = rest.strip_prefix(b"{") {
            let (named, after) = check_labels(inside, name.is_some(), text.is_some())?;
            labels = part_of(text, line, &inside[..inside.len() - after.len() - 1])?;
            name = name.or(named);
            rest = skip_blanks(after);
        }
        let name = name.ok_or(ParseReason::MetricNameMissing)?;
        let before_value = &whole[..whole.len() - rest.len()];
        let (rest, value) = value_word(rest).map_err(|_| ParseReason::ValueExpected)?;
        let value_bits = number::parse_value(value).ok_or(ParseReason::ValueInvalid)?;
        let rest = skip_blanks(rest);
        let (rest, timestamp_ms) = timestamp(rest)?;
        if !skip_blanks(rest).is_empty() {
            return Err(ParseReason::LineEndExpected.into());
        }
        let labels = Labels { rest: labels, float_name: float_label(self.kind) };
        let line = SampleLine { name, labels, value_bits, timestamp_ms, before_value, kind: self.kind };
        Ok(sink.sample(line).into())
    }
}

#[derive(PartialEq)]
enum Flow {
    Next,
    End,
    Stopped,
}

impl From<ControlFlow<()>> for Flow {
    fn from(flow: ControlFlow<()>) -> Self {
        match flow {
            ControlFlow::Continue(()) => Self::Next,
            ControlFlow::Break(()) => Self::Stopped,
        }
    }
}

/// One sample as it stands on its line; everything is checked, nothing copied.
#[derive(Clone, Copy)]
pub struct SampleLine<'a> {
    pub name: QuotedText<'a>,
    pub labels: Labels<'a>,
    /// Every NaN is Prometheus' one normal NaN, so a stale marker cannot come from outside.
    pub value_bits: u64,
    /// Wall milliseconds, where the line has a timestamp.
    pub timestamp_ms: Option<i64>,
    /// The line's bytes before its value.
    pub before_value: &'a [u8],
    /// What the last `TYPE` said, of whatever metric: lines that are alike mean the same only under the same kind.
    pub kind: MetricKind,
}

/// Text from between quotes, escapes and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedText<'a> {
    raw: &'a str,
}

impl<'a> QuotedText<'a> {
    /// The text meant; `scratch` is used only where there are escapes.
    pub fn read<'s>(self, scratch: &'s mut String) -> &'s str
    where
        'a: 's,
    {
        unescape(self.raw, Escapes::Label, scratch)
    }
}

/// The pairs of a line in the order written. Names may repeat and values may be empty: the line's reader decides.
#[derive(Clone, Copy)]
pub struct Labels<'a> {
    rest: &'a str,
    float_name: Option<&'static str>,
}

/// One label of a line.
#[derive(Clone, Copy)]
pub struct LabelPair<'a> {
    pub name: QuotedText<'a>,
    value: QuotedText<'a>,
    is_float: bool,
}

impl<'a> LabelPair<'a> {
    /// The value meant. A histogram's `le` and a summary's `quantile` are rewritten as OpenMetrics writes floats.
    pub fn value<'s>(self, scratch: &'s mut String) -> &'s str
    where
        'a: 's,
    {
        if self.is_float
            && let Some(bits) = number::parse_value(self.value.raw.as_bytes())
        {
            scratch.clear();
            if number::write_float_label(f64::from_bits(bits), scratch).is_ok() {
                return scratch;
            }
        }
        self.value.read(scratch)
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = LabelPair<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = skip_blanks(self.rest.as_bytes());
            if let Some(behind) = rest.strip_prefix(b",") {
                self.go_to(behind);
                continue;
            }
            let (name, behind_name) = name_or_quoted(rest).ok()??;
            let Some(behind) = skip_blanks(behind_name).strip_prefix(b"=") else {
                // The metric's name in quotes.
                self.go_to(behind_name);
                continue;
            };
            let Quoted::Closed { inner, rest: behind } = quoted(skip_blanks(behind)) else { return None };
            let text = Some(self.rest);
            let name = QuotedText { raw: part_of(text, self.rest.as_bytes(), name).ok()? };
            let value = QuotedText { raw: part_of(text, self.rest.as_bytes(), inner).ok()? };
            self.go_to(behind);
            let is_float = self.float_name == Some(name.raw);
            return Some(LabelPair { name, value, is_float });
        }
    }
}

impl Labels<'_> {
    /// `rest` is the end of what is left.
    fn go_to(&mut self, rest: &[u8]) {
        self.rest = &self.rest[self.rest.len() - rest.len()..];
    }
}

/// `part` of `whole` as text. Where `text` is the whole as text, only the part's ends are looked at.
fn part_of<'a>(text: Option<&'a str>, whole: &'a [u8], part: &'a [u8]) -> Result<&'a str, ParseReason> {
    let Some(text) = text else { return utf8(part) };
    let from = part.as_ptr().addr() - whole.as_ptr().addr();
    text.get(from..from + part.len()).ok_or(ParseReason::NotUtf8)
}

/// Checks what stands between the braces; gives the metric's name where it stands there, and what follows the brace.
/// `is_text`: that it is UTF-8 is known.
fn check_labels(mut rest: &[u8], named: bool, is_text: bool) -> Result<(Option<QuotedText<'_>>, &[u8]), Stop> {
    let check = |bytes: &[u8]| if is_text { Ok(()) } else { utf8(bytes).map(|_| ()) };
    let mut metric = None;
    loop {
        rest = skip_blanks(rest);
        if let Some(behind) = rest.strip_prefix(b"}") {
            return Ok((metric, behind));
        }
        let is_quoted = rest.first() == Some(&b'"');
        let Some((name, behind)) = name_or_quoted(rest)? else { return Err(ParseReason::LabelNameExpected.into()) };
        check(name)?;
        rest = skip_blanks(behind);
        match rest.first() {
            Some(b'=') => {}
            Some(b',' | b'}') if is_quoted => {
                if named || metric.is_some() {
                    return Err(ParseReason::MetricNameAgain.into());
                }
                metric = Some(QuotedText { raw: utf8(name)? });
                rest = rest.strip_prefix(b",").unwrap_or(rest);
                continue;
            }
            _ => return Err(ParseReason::EqualExpected.into()),
        }
        match quoted(skip_blanks(&rest[1..])) {
            Quoted::Closed { inner, rest: behind } => {
                check(inner)?;
                rest = skip_blanks(behind);
            }
            Quoted::Open => return Err(Stop::Open),
            Quoted::Broken => return Err(ParseReason::LabelValueExpected.into()),
        }
        // The comma may be missing between two pairs, and may stand behind the last one.
        rest = rest.strip_prefix(b",").unwrap_or(rest);
    }
}

/// A name, and what follows it.
type NameAndRest<'a> = (&'a [u8], &'a [u8]);

/// A label name, or what stands in quotes; `None` where neither begins.
fn name_or_quoted(rest: &[u8]) -> Result<Option<NameAndRest<'_>>, Stop> {
    if rest.first() != Some(&b'"') {
        return Ok(label_name(rest).ok().map(|(rest, name)| (name, rest)));
    }
    match quoted(rest) {
        Quoted::Closed { inner, rest } => Ok(Some((inner, rest))),
        Quoted::Open => Err(Stop::Open),
        Quoted::Broken => Ok(None),
    }
}

enum Quoted<'a> {
    Closed {
        inner: &'a [u8],
        rest: &'a [u8],
    },
    /// The input ends before the closing quote.
    Open,
    /// No quote here, or a backslash before a newline.
    Broken,
}

fn quoted(input: &[u8]) -> Quoted<'_> {
    let Some(body) = input.strip_prefix(b"\"") else { return Quoted::Broken };
    let mut at = 0;
    while let Some(step) = memchr::memchr2(b'"', b'\\', &body[at..]) {
        at += step;
        if body[at] == b'"' {
            return Quoted::Closed { inner: &body[..at], rest: &body[at + 1..] };
        }
        match body.get(at + 1) {
            None | Some(b'\n') => return Quoted::Broken,
            Some(_) => at += 2,
        }
    }
    Quoted::Open
}

fn skip_blanks(input: &[u8]) -> &[u8] {
    let blank_bytes = input.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &input[blank_bytes..]
}

fn meta_word(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let (rest, word) = nom::branch::alt((tag("HELP"), tag("TYPE"))).parse(input)?;
    let (rest, _) = take_while1(|byte| matches!(byte, b' ' | b'\t')).parse(rest)?;
    Ok((rest, word))
}

fn metric_name(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let first = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':');
    name(input, first, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
}

fn label_name(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name(input, first, |byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn name(input: &[u8], first: fn(u8) -> bool, later: fn(u8) -> bool) -> IResult<&[u8], &[u8]> {
    let starts = verify(nom::number::complete::u8, |byte: &u8| first(*byte));
    recognize(pair(starts, take_while(later))).parse(input)
}

fn value_word(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while1(|byte| !number::is_word_end(byte)).parse(input)
}

fn timestamp(input: &[u8]) -> Result<(&[u8], Option<i64>), Stop> {
    if input.is_empty() {
        return Ok((input, None));
    }
    let digits: IResult<&[u8], &[u8]> = take_while1(|byte: u8| byte.is_ascii_digit()).parse(input);
    let (rest, digits) = digits.map_err(|_| ParseReason::TimestampExpected)?;
    let value = utf8(digits)?.parse().map_err(|_| ParseReason::TimestampInvalid)?;
    Ok((rest, Some(value)))
}

fn metric_kind(text: &[u8]) -> Option<MetricKind> {
    Some(match text {
        b"counter" => MetricKind::Counter,
        b"gauge" => MetricKind::Gauge,
        b"histogram" => MetricKind::Histogram,
        b"summary" => MetricKind::Summary,
        b"untyped" => MetricKind::Unknown,
        _ => return None,
    })
}

fn float_label(kind: MetricKind) -> Option<&'static str> {
    match kind {
        MetricKind::Histogram => Some("le"),
        MetricKind::Summary => Some("quantile"),
        MetricKind::Counter | MetricKind::Gauge | MetricKind::Unknown => None,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    /// `\\`, `\n` and `\"`.
    Label,
    /// `\\` and `\n`.
    Help,
}

/// Other escapes stay as they are, as in Prometheus.
fn unescape<'s>(raw: &'s str, escapes: Escapes, scratch: &'s mut String) -> &'s str {
    if !raw.as_bytes().contains(&b'\\') {
        return raw;
    }
    scratch.clear();
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        scratch.push_str(&rest[..at]);
        let meant = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => Some('\\'),
            Some(b'n') => Some('\n'),
            Some(b'"') if escapes == Escapes::Label => Some('"'),
            _ => None,
        };
        scratch.push(meant.unwrap_or('\\'));
        rest = &rest[at + if meant.is_some() { 2 } else { 1 }..];
    }
    scratch.push_str(rest);
    scratch
}

fn utf8(bytes: &[u8]) -> Result<&str, ParseReason> {
    core::str::from_utf8(bytes).map_err(|_| ParseReason::NotUtf8)
}

fn failure(reason: ParseReason, line: &[u8]) -> Failure {
    let beginning = &line[..line.len().min(EXCERPT_CHARS_MAX * 4)];
    Failure { reason, excerpt: String::from_utf8_lossy(beginning).chars().take(EXCERPT_CHARS_MAX).collect() }
}
