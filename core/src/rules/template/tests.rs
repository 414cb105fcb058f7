use super::*;

fn data(value: f64) -> Data {
    let pairs = [("__name__", "x"), ("instance", "node1.example.org:9100"), ("job", "node"), ("id", "7")];
    Data {
        labels: Rc::new(LabelSet::from_pairs(pairs)),
        external_labels: Rc::new(LabelSet::default()),
        external_url: "".into(),
        value,
        now_ms: 1_435_065_584_128,
    }
}

/// Answers the few queries that the recorded templates ask.
fn answer(query: &str) -> Result<Vec<QueriedSample>, String> {
    let x = |id: &str, value: f64| QueriedSample {
        labels: LabelSet::from_pairs([
            ("__name__", "x"),
            ("instance", "node1.example.org:9100"),
            ("job", "node"),
            ("id", id),
        ]),
        value,
        text: None,
    };
    let bare = |value: f64, text: Option<&str>| QueriedSample {
        labels: LabelSet::default(),
        value,
        text: text.map(Box::from),
    };
    match query {
        "x{id='0'}" => Ok(alloc::vec![x("0", 0.0)]),
        "x{id=~'0|1'}" => Ok(alloc::vec![x("1", 0.0), x("0", 0.0)]),
        "1+1" => Ok(alloc::vec![bare(2.0, None)]),
        "'abc'" => Ok(alloc::vec![bare(0.0, Some("abc"))]),
        "nosuch" => Ok(Vec::new()),
        other => Err(format!("unexpected query {other}")),
    }
}

fn expand(text: &str, value: f64) -> String {
    match Template::parse("__alert_A", text).and_then(|template| template.expand(&data(value), &mut answer)) {
        Ok(text) => text,
        Err(error) => format!("<error expanding template: {error}>"),
    }
}

/// The recording writes a newline as `\n`, a tab as `\t` and a backslash as `\\`.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, if character == '\\' { characters.next() } else { None }) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some(escaped)) => out.push(escaped),
            (plain, _) => out.push(plain),
        }
    }
    out
}

#[test]
fn templates_expand_as_the_real_program_recorded_them() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in include_str!("recorded.tsv").lines().skip(1) {
        let mut columns = line.split('\t');
        let (Some(value), Some(text), Some(wanted)) = (columns.next(), columns.next(), columns.next()) else {
            panic!("broken line: {line}")
        };
        let value: f64 = value.parse().unwrap();
        let wanted = unescaped(wanted);
        let found = expand(text, value);
        if found != wanted {
            wrong.push(format!("{value} {text}\n  wanted {wanted:?}\n  found  {found:?}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Functions that came after the recorded version (3.14), and addresses that the recording had no host for.
#[test]
fn newer_functions_and_the_external_url_work() {
    for (text, wanted) in [
        ("{{ urlQueryEscape \"a b+~/\" }}", "a+b%2B~%2F"),
        ("{{ now }}", "1.435065584128e+09"),
        ("{{ humanizeTimestamp now }}", "2015-06-23 13:19:44.128 +0000 UTC"),
        ("{{ toDuration 90.5 }} {{ toDuration 0.0015 }} {{ toDuration 0 }}", "1m30.5s 1.5ms 0s"),
        ("{{ toDuration 3600 }} {{ toDuration 1e-6 }} {{ toDuration -3e-9 }}", "1h0m0s 1µs -3ns"),
        ("{{ (toDuration 90).Minutes }} {{ humanizeDuration (toDuration 90) }}", "1.5 1m 30s"),
    ] {
        assert_eq!(expand(text, 1.0), wanted, "{text}");
    }
    for (url, wanted) in [
        ("http://box:9090", "|http://box:9090"),
        ("http://box:9090/", "/|http://box:9090/"),
        ("https://box/prom/a?x#y", "/prom/a|https://box/prom/a?x#y"),
    ] {
        let template = Template::parse("t", "{{ pathPrefix }}|{{ externalURL }}").unwrap();
        let data = Data { external_url: url.into(), ..data(1.0) };
        assert_eq!(template.expand(&data, &mut answer).unwrap(), wanted);
    }
}

#[test]
fn functions_on_query_results_take_them_apart() {
    for (text, wanted) in [
        ("{{ query \"'abc'\" | first | strvalue }}", "abc"),
        ("{{ range query \"x{id=~'0|1'}\" }}{{ .Labels.id }}{{ end }}", "10"),
        ("{{ index (query \"x{id=~'0|1'}\") 1 | label \"id\" }}", "0"),
        ("{{ (index (query \"1+1\") 0).Value }} {{ len (slice (query \"x{id=~'0|1'}\") 1) }}", "2 1"),
        ("{{ with query \"nosuch\" }}some{{ else }}none{{ end }}", "none"),
    ] {
        assert_eq!(expand(text, 1.0), wanted, "{text}");
    }
    assert!(expand("{{ query \"broken\" }}", 1.0).ends_with("error calling query: unexpected query broken>"));
}

#[test]
fn a_broken_regular_expression_is_told() {
    let told = expand("{{ match \"[\" \"x\" }}", 1.0);
    assert!(told.contains("at <match \"[\" \"x\">: error calling match: error parsing regexp: "), "{told}");
}

/// Line 1 of what promtool 3.5.3 says, where ours is the same.
#[test]
fn what_does_not_parse_is_refused_with_its_line() {
    for (text, message) in [
        ("{{ foo }}", "1: function \"foo\" not defined"),
        ("a\nb {{ $x }}", "2: undefined variable \"$x\""),
        ("{{ if }}", "1: missing value for if"),
        ("{{ if true }}", "1: unexpected EOF"),
        ("{{ end }}", "1: unexpected {{end}}"),
        ("{{ else }}", "1: unexpected {{else}}"),
        ("{{", "1: unclosed action"),
        ("{{ \"abc }}", "1: unterminated quoted string"),
        ("{{ 1a }}", "1: bad number syntax: \"1a\""),
        ("{{ | x }}", "1: missing value for command"),
        ("{{ (1 }}", "1: unclosed left paren"),
        ("{{ 1) }}", "1: unexpected \")\" in command"),
        ("{{ break }}", "1: {{break}} outside {{range}}"),
        ("{{ range . }}{{ end }}{{ continue }}", "1: {{continue}} outside {{range}}"),
        ("{{ define \"x\" }}{{ $labels }}{{ end }}", "1: undefined variable \"$labels\""),
        ("{{ define x }}{{ end }}", "1: define clause needs a quoted name"),
        ("{{ template x }}", "1: template clause needs a quoted name"),
        ("{{ $a, $b := . }}", "1: too many declarations in command"),
        ("{{ $value | 1 }}", "1: non executable command in pipeline; put a function behind the |"),
        ("{{ 1.5.x }}", "1: bad number syntax: \"1.5.x\""),
        ("{{ \"a\".x }}", "1: unexpected . after term \"x\""),
        ("{{/* unclosed", "1: unclosed comment"),
        ("{{ @ }}", "1: unexpected '@' in command"),
        ("{{ }}", "1: missing value for command"),
        ("{{ if true }}{{ else }}{{ else }}{{ end }}", "1: expected end; found {{else}}"),
        ("{{ printf(\"a\") }}", "1: unexpected \"(\" in operand"),
        ("{{ define \"x\" }}{{ end }}{{ define \"x\" }}{{ end }}", "1: multiple definition of template \"x\""),
    ] {
        match Template::parse("t", text) {
            Err(error) => assert_eq!(format!("{error}"), format!("template: t:{message}"), "{text}"),
            Ok(_) => panic!("{text} must be refused"),
        }
    }
}

#[test]
fn nesting_is_bounded_on_both_sides_of_the_edge() {
    let nested = |depth: usize| format!("{{{{ {}1{} }}}}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(expand(&nested(50), 1.0), "1");
    assert!(expand(&nested(51), 1.0).contains("nested deeper than 50"));
    let blocks = |depth: usize| format!("{}x{}", "{{ if true }}".repeat(depth), "{{ end }}".repeat(depth));
    assert_eq!(expand(&blocks(50), 1.0), "x");
    assert!(expand(&blocks(51), 1.0).contains("nested deeper than 50"));
}

#[test]
fn a_template_that_calls_itself_or_loops_or_grows_is_stopped() {
    let endless = "{{ define \"x\" }}{{ template \"x\" }}{{ end }}{{ template \"x\" }}";
    assert!(expand(endless, 1.0).contains("exceeded maximum template depth (50)"));
    assert!(expand("{{ range 1000000000 }}{{ end }}", 1.0).contains("more than 100000 steps"));
    let doubling = "{{ $x := \"x\" }}{{ range 100 }}{{ $x = print $x $x }}{{ end }}";
    assert!(expand(doubling, 1.0).contains("error calling print: the text is longer than 65536 bytes"));
    let wide = |count: usize| format!("{{{{ range {count} }}}}{{{{ printf \"%1000d\" 1 }}}}{{{{ end }}}}");
    assert_eq!(expand(&wide(65), 1.0).len(), 65_000);
    assert!(expand(&wide(66), 1.0).contains("longer than 65536 bytes"));
}

proptest::proptest! {
    /// Whatever people write, it expands or is refused, and never panics.
    #[test]
    fn any_text_is_answered(text in "(\\{\\{|\\}\\}|-|[ .$|()\"'`a-c0-9:=,/*]|if|end|else|range|with|define|printf|%|\\$labels|\\.Labels|é|\n){0,40}") {
        let _ = expand(&text, 1.5);
    }

    #[test]
    fn any_format_is_answered(format in "(%|[-+# 0-9*.\\[\\]]|[a-zA-Z]|é){0,12}", value in proptest::num::f64::ANY) {
        let _ = printf::sprintf(&format, &[value::Value::Float(value), value::Value::text("é\n"), value::Value::Int(-1)]);
    }
}
