use super::*;
use alloc::string::ToString;

fn refused(text: &str, expected: &str) {
    match parse(text) {
        Ok(expr) => panic!("{text:?} was read as {expr}"),
        Err(error) => assert_eq!(error.to_string(), expected, "{text:?}"),
    }
}

fn printed(text: &str, expected: &str) {
    let expr = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(expr.to_string(), expected, "{text:?}");
    assert_eq!(parse(expected).map(|expr| expr.to_string()).as_deref(), Ok(expected));
}

#[test]
fn expressions_print_as_prometheus_prints_them() {
    printed("up", "up");
    printed("up { job = 'node' , }", r#"up{job="node"}"#);
    printed(r#"{__name__="up",job=~"a|b"}"#, r#"{__name__="up",job=~"a|b"}"#);
    printed(r#"{"up"}"#, r#"{__name__="up"}"#);
    printed("x[1y2d]", "x[367d]");
    printed("x[25h]", "x[1d1h]");
    printed("sum by () (x)", "sum(x)");
    printed("a * on () group_left () b", "a * on () group_left () b");
    printed("a or ignoring () b", "a or b");
    printed(r#"{"dotted.name","label.x"!="y"}"#, r#"{"label.x"!="y",__name__="dotted.name"}"#);
    printed("sum   by(job,  instance) (rate(x_total[5m]))", "sum by (job, instance) (rate(x_total[5m]))");
    printed("sum(x) without (job)", "sum without (job) (x)");
    printed("topk(3, x)", "topk(3, x)");
    printed("a*on(x)group_left(y)b", "a * on (x) group_left (y) b");
    printed("a / ignoring(x) b", "a / ignoring (x) b");
    printed("a > bool 1e3", "a > bool 1000");
    printed("(a + -b) ^ 2", "(a + -b) ^ 2");
    printed("x offset -5m @ 1.5", "x @ 1.500 offset -5m");
    printed("x[90s] @ end() offset 1h", "x[1m30s] @ end() offset 1h");
    printed("rate(x[5m])[1h:30s]", "rate(x[5m])[1h:30s]");
    printed("rate(x[5m])[1d:] offset 1w", "rate(x[5m])[1d:] offset 1w");
    printed(r#"label_replace(x, "a", "$1", "b", "(.*)\\d")"#, r#"label_replace(x, "a", "$1", "b", "(.*)\\d")"#);
    printed("SUM(x) AND ON() y", "sum(x) and on () y");
    printed("inf + NaN", "+Inf + NaN");
    printed("sum", "sum");
    printed("bool:x", "bool:x");
}

#[test]
fn operators_bind_as_in_arithmetic() {
    let shape = |text: &str| match parse(text).unwrap().kind {
        ExprKind::Binary(binary) => (binary.op.text(), binary.left.to_string(), binary.right.to_string()),
        other => panic!("{text}: {other:?}"),
    };
    let check = |text: &str, op: &'static str, left: &str, right: &str| {
        assert_eq!(shape(text), (op, left.to_string(), right.to_string()), "{text}");
    };
    check("1 + 2 * 3", "+", "1", "2 * 3");
    check("1 - 2 - 3", "-", "1 - 2", "3");
    check("2 ^ 3 ^ 2", "^", "2", "3 ^ 2");
    check("-x ^ 2 * 3", "*", "-x ^ 2", "3");
    check("a or b and c", "or", "a", "b and c");
    check("a and b unless c", "unless", "a and b", "c");
    check("a > b + 1", ">", "a", "b + 1");
    check("a == bool b > c", ">", "a == bool b", "c");
    check("a atan2 b + c", "+", "a atan2 b", "c");
}

#[test]
fn errors_name_place_and_reason() {
    refused("", "1:1: parse error: no expression found in input");
    refused("1 +", "1:4: parse error: unexpected end of input");
    refused("\n\n  up{", "3:6: parse error: unexpected end of input inside braces");
    refused("(up", "1:4: parse error: unclosed left parenthesis");
    refused("up)", "1:4: parse error: unexpected right parenthesis ')'");
    refused("up}", "1:3: parse error: unexpected character: '}'");
    refused("up up", "1:4: parse error: unexpected identifier \"up\"");
    refused("\"up", "1:1: parse error: unterminated quoted string");
    refused("up{job}", "1:7: parse error: unexpected \"}\" in label matching, expected label matching operator");
    refused("up{job=a}", "1:8: parse error: unexpected identifier \"a\" in label matching, expected string");
    refused("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    refused("up{__name__='x'}", "1:1: parse error: metric name must not be set twice: \"up\" or \"x\"");
    refused("sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar");
    refused("sum()", "1:1: parse error: no arguments for aggregate expression provided");
    refused(
        "topk(x)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    refused("rate(x[5m],)", "1:11: parse error: trailing commas not allowed in function call args");
    refused("1 and 2", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression");
    refused("a + bool b", "1:5: parse error: bool modifier can only be used on comparison operators");
    refused("a and on(x) group_left() b", "1:13: parse error: no grouping allowed for \"and\" operation");
    refused(
        "-\"x\"",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
    );
    refused("x[0m]", "1:3: parse error: duration must be greater than 0");
    refused("sum(x)[5m]", "1:7: parse error: ranges only allowed for vector selectors");
    refused("x offset 1m[5m]", "1:12: parse error: no offset modifiers allowed before range");
    refused("x @ NaN", "1:5: parse error: timestamp out of bounds for @ modifier: NaN");
    refused("x{a=~\"(\"}", "1:3: parse error: error parsing regexp: unclosed group: `(`");
    refused(
        "1 offset 5m",
        "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    );
}

#[test]
fn what_is_left_for_later_is_refused_by_name() {
    refused("info(x)", "1:1: parse error: not supported yet: the function info");
    refused("limitk(2, x)", "1:1: parse error: not supported yet: the aggregation limitk");
    refused("rate(x[5m] smoothed)", "1:12: parse error: not supported yet: the modifier smoothed");
    refused("a + fill(0) b", "1:5: parse error: not supported yet: the modifier fill");
    refused("x[5m + 1m]", "1:6: parse error: not supported yet: duration expressions; write one duration such as 5m");
}

#[test]
fn nesting_is_bounded_on_both_sides_of_the_edge() {
    // Each parenthesis is one higher than what is inside, the number is the first.
    let nested = |count: usize| "(".repeat(count) + "1" + &")".repeat(count);
    let chain = |count: usize| "1".to_string() + &" + 1".repeat(count);
    assert!(parse(&nested(HEIGHT_MAX - 1)).is_ok());
    assert!(parse(&nested(HEIGHT_MAX)).unwrap_err().message.contains("nested more than"));
    assert!(parse(&chain(HEIGHT_MAX - 1)).is_ok());
    assert!(parse(&chain(HEIGHT_MAX)).unwrap_err().message.contains("nested more than"));
    assert!(parse(&"-".repeat(100_000)).is_err());
    assert!(parse(&("x".to_string() + &"[1m:1m]".repeat(HEIGHT_MAX + 1))).is_err());
}

#[test]
fn a_match_parameter_is_a_bare_selector() {
    let matchers = parse_selector("up{job!=\"x\"}").unwrap();
    assert_eq!(matchers.iter().map(|m| m.to_string()).collect::<Vec<_>>(), ["job!=\"x\"", "__name__=\"up\""]);
    for text in ["up[5m]", "up offset 5m", "up @ 1", "sum(up)", "1", "{}"] {
        assert!(parse_selector(text).is_err(), "{text}");
    }
}

#[test]
fn durations_are_read_to_the_millisecond_and_bounded() {
    let check = |text: &str, expected: Result<i64, &str>| {
        assert_eq!(lex::duration_ms(text).as_ref().copied().map_err(|e| e.as_str()), expected, "{text}");
    };
    check("1y2w3d4h5m6s7ms", Ok(31_536_000_000 + 14 * 86_400_000 + 3 * 86_400_000 + 14_706_007));
    check("292y", Ok(292 * 31_536_000_000));
    check("293y", Err("duration out of range"));
    check("99999999999999999999d", Err("duration out of range"));
    check("1m1h", Err("not a valid duration string: \"1m1h\""));
    check("1h1h", Err("not a valid duration string: \"1h1h\""));
    check("5", Err("not a valid duration string: \"5\""));
}

mod foreign {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_prints_as_itself(text in "[a-c0-9_(){}\\[\\]:,=~!<>+*/^%@ \"'`\\\\.#\n-]{0,40}") {
            if let Ok(expr) = parse(&text) {
                let printed = expr.to_string();
                prop_assert_eq!(parse(&printed).map(|again| again.to_string()), Ok(printed));
            }
        }

        #[test]
        fn words_in_any_order_do_not_panic(words in proptest::collection::vec(prop::sample::select(vec![
            "sum", "by", "(", ")", "x", "{", "}", "[", "5m", "]", ":", "offset", "@", "start", "1", "-", "+", "on",
            "group_left", "bool", "==", "and", "rate", ",", "\"a\"", "a", "=", "=~", "inf", "without", "é", "\\x",
        ]), 0..24)) {
            let text = words.join(" ");
            if let Ok(expr) = parse(&text) {
                prop_assert!(parse(&expr.to_string()).is_ok(), "{} from {}", expr, text);
            }
        }
    }
}
