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
