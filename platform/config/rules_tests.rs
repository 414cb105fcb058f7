use super::*;
use crate::config::file::tests::{check_folder, fixtures, reading};
use std::fs;

#[test]
fn every_bad_rule_file_gives_exactly_its_error_lines() {
    check_folder("bad_rules", |path| load(path, &reading()).map(|_| ()));
}

#[test]
fn a_rule_file_becomes_groups() {
    let (groups, notices) = load(&fixtures().join("good/rules/a.yml"), &reading()).unwrap();
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let expected = GroupSpec {
        name: "one".into(),
        file: fixtures().join("good/rules/a.yml").display().to_string(),
        interval_ms: Some(10_000),
        limit: 5,
        query_offset_ms: Some(0),
        labels: pair("team", "edge"),
        rules: vec![
            RuleSpec {
                kind: RuleKind::Record { record: "job:up:sum".into() },
                expr: "sum by (job) (up)".into(),
                labels: pair("kind", "sum"),
            },
            RuleSpec {
                kind: RuleKind::Alert {
                    alert: "Down".into(),
                    for_ms: 300_000,
                    keep_firing_for_ms: 60_000,
                    annotations: pair("summary", "{{ $labels.instance }} is down"),
                },
                expr: "up\n  == 0\n".into(),
                labels: pair("severity", "page"),
            },
        ],
    };
    assert_eq!((groups.len(), &groups[0], notices), (2, &expected, Vec::new()));
    let two = &groups[1];
    assert_eq!((two.interval_ms, two.limit, two.query_offset_ms, two.rules.len()), (None, 0, None, 0));
}

#[test]
fn zero_and_null_intervals_mean_the_global_ones_but_an_offset_of_zero_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yml");
    fs::write(
        &path,
        "groups:\n- {name: a, interval: 0s, query_offset: null}\n- {name: b, interval: ~, query_offset: 0}\n",
    )
    .unwrap();
    let (groups, _) = load(&path, &reading()).unwrap();
    let read: Vec<_> = groups.iter().map(|group| (group.interval_ms, group.query_offset_ms)).collect();
    assert_eq!(read, [(None, None), (None, Some(0))]);
}
