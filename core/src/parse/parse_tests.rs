//! What is accepted and what is made of it. Every row of the tables was scraped by Prometheus 3.5.3 first; where it and
//! we differ on purpose, the row says so.

use super::*;
use crate::prng::Prng;
use proptest::prelude::*;
use std::{
    format,
    ops::ControlFlow,
    string::{String, ToString},
    vec::Vec,
};

/// Writes what the parser finds as lines of text.
#[derive(Default)]
struct Written {
    lines: Vec<String>,
    samples_max: Option<usize>,
}

impl ExpositionSink for Written {
    fn sample(&mut self, sample: SampleLine<'_>) -> ControlFlow<()> {
        if self.samples_max == Some(self.lines.len()) {
            return ControlFlow::Break(());
        }
        let (mut name, mut value) = (String::new(), String::new());
        let mut line = sample.name.read(&mut name).to_string();
        for pair in sample.labels {
            line += &format!("|{}={}", pair.name.read(&mut name), pair.value(&mut value));
        }
        line += &format!(" {}", f64::from_bits(sample.value_bits));
        if let Some(timestamp_ms) = sample.timestamp_ms {
            line += &format!(" @{timestamp_ms}");
        }
        self.lines.push(line);
        ControlFlow::Continue(())
    }

    fn help(&mut self, metric: &str, text: &str) -> ControlFlow<()> {
        self.lines.push(format!("help {metric}: {text}"));
        ControlFlow::Continue(())
    }

    fn kind(&mut self, metric: &str, kind: MetricKind) -> ControlFlow<()> {
        self.lines.push(format!("kind {metric}: {}", kind.text()));
        ControlFlow::Continue(())
    }
}

/// Everything found before the end or the error, and the error.
fn parse_pieces<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<String>, Option<ParseError>) {
    let (mut parser, mut written) = (TextParser::new(), Written::default());
    let result = pieces
        .into_iter()
        .try_for_each(|piece| parser.feed(piece, &mut written))
        .and_then(|()| parser.finish(&mut written));
    (written.lines, result.err())
}

fn check(body: &[u8], expected: &[&str]) {
    let (lines, error) = parse_pieces([body]);
    assert_eq!((lines, error), (expected.iter().map(|line| line.to_string()).collect(), None), "{:?}", body.escape_ascii());
}

fn check_refused(body: &[u8], line: u64, reason: ParseReason) {
    let (_, error) = parse_pieces([body]);
    let error = error.map(|error| (error.line, error.reason));
    assert_eq!(error, Some((line, reason)), "{:?}", body.escape_ascii());
}

#[test]
fn what_prometheus_accepts_is_accepted_alike() {
    for (body, expected) in [
        (&b"a 1\n"[..], &["a 1"][..]),
        (b"a 1", &["a 1"]),
        (b"", &[]),
        (b"\n", &[]),
        (b"a 1\n\n\nb 2\n", &["a 1", "b 2"]),
        // Prometheus takes the blanks into the name, which nobody can have meant.
        (b"  a 1\n", &["a 1"]),
        (b"\ta 1\n", &["a 1"]),
        (b"a\t1\n", &["a 1"]),
        (b"a  1  \n", &["a 1"]),
        (b"a 1 1000\n", &["a 1 @1000"]),
        (b"a 1 1000\t\n", &["a 1 @1000"]),
        (b"a 1 0\n", &["a 1 @0"]),
        (b"a:b 1\n", &["a:b 1"]),
        (b"a{} 1\n", &["a 1"]),
        (b"a{b=\"c\"} 1\n", &["a|b=c 1"]),
        (b"a{b=\"c\",} 1\n", &["a|b=c 1"]),
        (b"a{b=\"c\" d=\"e\"} 1\n", &["a|b=c|d=e 1"]),
        (b"a { b = \"c\" , d = \"e\" } 1\n", &["a|b=c|d=e 1"]),
        (b"a{b=\"c\"}1\n", &["a|b=c 1"]),
        (b"a{b=\"x\ny\"} 1\nz 2\n", &["a|b=x\ny 1", "z 2"]),
        (b"a{b=\"x\\ny\\\\z\\\"q\\t\"} 1\n", &["a|b=x\ny\\z\"q\\t 1"]),
        (b"{\"a\"} 1\n", &["a 1"]),
        (b"{\"a\",} 1\n", &["a 1"]),
        (b"{\"a.b\",c=\"d\"} 1\n", &["a.b|c=d 1"]),
        (b"{c=\"d\",\"a.b\"} 1\n", &["a.b|c=d 1"]),
        (b"{\"a\",\"b.c\"=\"d\"} 1\n", &["a|b.c=d 1"]),
        (b"{\"a\\\"b\"} 1\n", &["a\"b 1"]),
        (b"a{b=\"c\xc3\xa4\"} 1\n", &["a|b=cä 1"]),
        (b"a{b=\"c\0d\"} 1\n", &["a|b=c\0d 1"]),
        (b"a 1\n\0b 2\n", &["a 1"]),
        (b"#x\0\na 1\n", &[]),
        (b"# x\0y\na 1\n", &["a 1"]),
        (b"# comment\n#comment\n#\n# HELP\n#HELP a\n# TYPE\n# EOF\na 1\n", &["a 1"]),
        (b"# HELP a\na 1\n", &["help a: ", "a 1"]),
        (b"# HELP a te\\\\x\\nt\\\"\na 1\n", &["help a: te\\x\nt\\\"", "a 1"]),
        (b"  # HELP a  x\r\n", &["help a:  x\r"]),
        (b"#\tTYPE\ta\tcounter\n", &["kind a: counter"]),
        (b"# TYPE a untyped\n", &["kind a: unknown"]),
        (b"# HELP \"a.b\" x\n# TYPE \"a.b\" gauge\n", &["help a.b: x", "kind a.b: gauge"]),
    ] {
        check(body, expected);
    }
}

#[test]
fn what_prometheus_refuses_is_refused_with_the_line() {
    use ParseReason::*;
    for (body, reason) in [
        (&b"a 1\r\n"[..], ValueInvalid),
        (b"a 1 -1000\n", TimestampExpected),
        (b"a 1 +5\n", TimestampExpected),
        (b"a 1 # x\n", TimestampExpected),
        (b"a 1{\n", TimestampExpected),
        (b"a 1 1.5\n", LineEndExpected),
        (b"a 1 5 6\n", LineEndExpected),
        (b"a 1 0x5\n", LineEndExpected),
        (b"a 1 99999999999999999999\n", TimestampInvalid),
        (b"a{b=\"c\",,} 1\n", LabelNameExpected),
        (b"a{,} 1\n", LabelNameExpected),
        (b"a{1b=\"c\"} 1\n", LabelNameExpected),
        (b"a{b=\"c\"\n", LabelNameExpected),
        (b"a{b:c=\"d\"} 1\n", EqualExpected),
        (b"{\"a\" \"b\"} 1\n", EqualExpected),
        (b"{\"a\" b=\"c\"} 1\n", EqualExpected),
        (b"a{b=c} 1\n", LabelValueExpected),
        (b"a{b=\"x\\\ny\"} 1\n", LabelValueExpected),
        (b"a{b=\"c\n", LabelValueExpected),
        (b"{} 1\n", MetricNameMissing),
        (b"{b=\"c\"} 1\n", MetricNameMissing),
        (b"a{\"b\"} 1\n", MetricNameAgain),
        // Prometheus says "metric name already set" here; the reason is another, the refusal the same.
        (b"a{b} 1\n", EqualExpected),
        (b"a{b=\"c\"}{d=\"e\"} 1\n", ValueExpected),
        (b"a\n", ValueExpected),
        (b"a \n", ValueExpected),
        (b"{\"a\"}\n", ValueExpected),
        (b"b\0 2\n", ValueInvalid),
        (b"a{b=\"\xff\"} 1\n", NotUtf8),
        (b"{\"a\xff\"} 1\n", NotUtf8),
        (b"\xc3\xa4 1\n", StartExpected),
        (b"1a 1\n", StartExpected),
        (b"\x0ba 1\n", StartExpected),
        (b"a-b 1\n", ValueInvalid),
        (b"a#b 1\n", ValueInvalid),
        (b"a{b=\"c\"} # 1\n", ValueInvalid),
        (b"# HELP \n", MetaNameExpected),
        (b"# TYPE 1a counter\n", MetaNameExpected),
        (b"# HELP a \xff\n", HelpNotUtf8),
        (b"# TYPE a  counter\n", KindInvalid),
        (b"# TYPE a counter \n", KindInvalid),
        (b"# TYPE a counter\r\n", KindInvalid),
        (b"# TYPE a\n", KindInvalid),
        (b"# TYPE a unknown\n", KindInvalid),
        (b"# TYPE a Counter\n", KindInvalid),
    ] {
        check_refused(body, 1, reason);
        check_refused(&[b"ok 1\n\n# HELP x y\n", body].concat(), 4, reason);
    }
}

#[test]
fn values_are_read_as_go_reads_them() {
    for (text, value) in [
        ("NaN", f64::NAN),
        ("nan", f64::NAN),
        ("+Inf", f64::INFINITY),
        ("-Inf", f64::NEG_INFINITY),
        ("inf", f64::INFINITY),
        ("+infinity", f64::INFINITY),
        ("1e5", 1e5),
        ("1E5", 1e5),
        ("1e+5", 1e5),
        ("1e-400", 0.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+.5", 0.5),
        ("-0", -0.0),
        ("00012", 12.0),
        ("12345678901234567", 12345678901234568.0),
        ("999999999999999", 999999999999999.0),
        ("9999999999999999", 1e16),
    ] {
        let bits = if value.is_nan() { 0x7ff8_0000_0000_0001 } else { value.to_bits() };
        assert_eq!(parse_value(text.as_bytes()), Some(bits), "{text}");
    }
    for text in [
        "", "+", "+NaN", "-nan", "infin", "0x10", "0x1p4", "1_000", "1e400", "-1e400", ".", "--5", "1e", "e5", "1,5", "1d",
        "1f", "0b1", "1e5_0", "1 ", "١",
    ] {
        assert_eq!(parse_value(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn le_and_quantile_are_written_as_openmetrics_writes_them_in_their_own_kinds_only() {
    check(
        b"# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"1000000\"} 1\na_bucket{le=\"0.25\"} 1\na_bucket{le=\"+Inf\"} 1\na_bucket{le=\"1e-7\"} 2\na_bucket{le=\"foo\"} 2\na_bucket{le=\"100000\"} 1\n",
        &[
            "kind a: histogram",
            "a_bucket|le=1.0 1",
            "a_bucket|le=1e+06 1",
            "a_bucket|le=0.25 1",
            "a_bucket|le=+Inf 1",
            "a_bucket|le=1e-07 2",
            "a_bucket|le=foo 2",
            "a_bucket|le=100000.0 1",
        ],
    );
    check(
        b"# TYPE a summary\na{quantile=\"1\"} 1\na{quantile=\"0.50\"} 1\nb{le=\"1\"} 1\n# TYPE c gauge\nc{le=\"1\"} 1\n",
        &["kind a: summary", "a|quantile=1.0 1", "a|quantile=0.5 1", "b|le=1 1", "kind c: gauge", "c|le=1 1"],
    );
    for (value, text) in [(0.0, "0.0"), (-0.0, "-0.0"), (-1.0, "-1.0"), (1e-4, "0.0001"), (1e-5, "1e-05"), (1.5e300, "1.5e+300"), (999999.0, "999999.0"), (f64::NAN, "NaN"), (f64::NEG_INFINITY, "-Inf")]
    {
        let mut written = String::new();
        write_float_label(value, &mut written).unwrap();
        assert_eq!(written, text);
    }
}

#[test]
fn a_long_comment_is_passed_over_and_a_long_sample_fails_at_its_line() {
    let fill = |length: usize| "x".repeat(length);
    for (length, is_too_long) in [(LINE_BYTES_MAX, false), (LINE_BYTES_MAX + 1, true)] {
        let sample = format!("a{{b=\"{}\"}} 1", fill(length - 9));
        let comment = format!("# {}", fill(length - 2));
        assert_eq!((sample.len(), comment.len()), (length, length));
        let body = format!("{comment}\n{sample}\nc 1\n");
        for piece_bytes in [1_000, body.len()] {
            let (lines, error) = parse_pieces(body.as_bytes().chunks(piece_bytes));
            let error = error.map(|error| (error.line, error.reason));
            assert_eq!(error, is_too_long.then_some((2, ParseReason::LineTooLong)));
            assert_eq!(lines.len(), if is_too_long { 0 } else { 2 });
        }
    }
}

#[test]
fn newlines_inside_quotes_count_as_lines_and_are_bounded() {
    let body = |count| format!("a{{b=\"{}\"}} 1\nbroken\n", "\n".repeat(count));
    check_refused(body(64).as_bytes(), 66, ParseReason::ValueExpected);
    check_refused(body(65).as_bytes(), 1, ParseReason::LineTooLong);
}

#[test]
fn a_sink_that_breaks_stops_the_parser() {
    let (mut parser, mut written) = (TextParser::new(), Written { samples_max: Some(2), ..Written::default() });
    let error = parser.feed(b"a 1\nb 2\nc 3\nd 4\n", &mut written).unwrap_err();
    assert_eq!((error.line, error.reason, written.lines.len()), (3, ParseReason::Stopped, 2));
    assert_eq!(error.to_string(), "line 3: stopped while parsing: \"c 3\"");
}

/// Bodies of the tables' stuff, now and then broken.
fn random_body(prng: &mut Prng) -> Vec<u8> {
    const PARTS: [&str; 24] = [
        "a", "b_total", "{", "}", "\"", "\\", "\\n", "=", ",", " ", "\t", "\n", "\n", "1", "NaN", "{le=\"1\"}", "{b=\"c\",d=\"e\"} 2\n",
        "# TYPE a histogram\n", "# HELP a x\\ny\n", "# ", "ä", "\0", "a 1\n", "a{b=\"x\ny\"} 1\n",
    ];
    let count = prng.below(20);
    let mut body = Vec::new();
    for _ in 0..count {
        body.extend_from_slice(PARTS[prng.below(PARTS.len() as u64) as usize].as_bytes());
    }
    if prng.chance(1, 8) {
        body.push(prng.below(256) as u8);
    }
    body
}

#[test]
fn any_split_of_a_body_gives_the_same_result() {
    let mut prng = Prng::new(11);
    for _ in 0..3_000 {
        let body = random_body(&mut prng);
        let whole = parse_pieces([&body[..]]);
        assert_eq!(parse_pieces(body.chunks(1)), whole, "{:?}", body.escape_ascii().to_string());
        let cut = prng.below(body.len() as u64 + 1) as usize;
        assert_eq!(parse_pieces([&body[..cut], &body[cut..]]), whole, "{:?} at {cut}", body.escape_ascii().to_string());
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_split_alike(body in proptest::collection::vec(any::<u8>(), 0..200), piece in 1_usize..50) {
        prop_assert_eq!(parse_pieces(body.chunks(piece)), parse_pieces([&body[..]]));
    }

    #[test]
    fn every_finite_float_comes_back_from_its_text(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        prop_assert_eq!(parse_value(format!("{value:e}").as_bytes()), Some(bits));
        let mut label = String::new();
        write_float_label(value, &mut label).unwrap();
        prop_assert_eq!(parse_value(label.as_bytes()), Some(bits));
    }
}
