//! The tools people have: promtool asks Holdfast, and reads the files that Holdfast ships.

use crate::{
    api,
    programs::{Holdfast, holdfast, peer, run, wait_for},
};
use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

fn promtool(arguments: &[&str]) -> String {
    let output = run(Command::new(peer("promtool")).args(arguments));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn promtool_asks_for_instants_ranges_series_and_labels() {
    let node = Holdfast::start("global: {scrape_interval: 1s}\n");
    // From the first whole second behind the first scrape, the value stands at every second.
    let first_ms = wait_for("the first scrape", Duration::from_secs(20), || {
        let samples = api::query(node.port, "up[1m]", api::now_ms()).ok()?;
        Some(samples.values().next()?.first()?.0)
    });
    let start_s = first_ms / 1000 + 1;
    wait_for("three seconds more", Duration::from_secs(5), || (api::now_ms() > (start_s + 2) * 1000).then_some(()));
    let url = format!("http://127.0.0.1:{}", node.port);
    let (end_ms, start, end) = ((start_s + 2) * 1000, start_s.to_string(), (start_s + 2).to_string());

    let known = api::query(node.port, "up", end_ms).expect("an answer");
    let (labels, _) = known.first_key_value().expect("one series");
    let series = format!("up{{instance={:?}, job=\"node\"}}", labels["instance"]);
    let instant = promtool(&["query", "instant", &format!("--time={end}"), &url, "up"]);
    assert_eq!(instant.trim(), format!("{series} => 1 @[{end}]"));

    let range = promtool(&[
        "query",
        "range",
        &format!("--start={start}"),
        &format!("--end={end}"),
        "--step=1s",
        &url,
        "up * 2",
    ]);
    let (head, values) = range.split_once(" =>\n").expect("a series with its values");
    assert_eq!(head, series.strip_prefix("up").expect("a name"));
    let values: Vec<&str> = values.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(values, [0, 1, 2].map(|second| format!("2 @[{}]", start_s + second)), "{range}");

    let series = promtool(&["query", "series", "--match=up", "--match=node_load1", &url]);
    let names: BTreeSet<&str> = series.lines().filter_map(|line| line.split('"').nth(1)).collect();
    assert_eq!(names, BTreeSet::from(["node_load1", "up"]), "{series}");

    let labels = promtool(&["query", "labels", &url, "job"]);
    assert_eq!(labels.trim(), "node");

    let output = run(Command::new(peer("promtool")).args(["query", "instant", &url, "sum("]));
    assert!(!output.status.success(), "a broken expression is an error");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("parse error"), "{words}");
}

#[test]
fn the_shipped_files_and_the_fixtures_are_judged_alike_by_promtool_and_by_us() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = run(Command::new(root.join("tests/promtool_configs")).arg(peer("promtool")));
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{words}{}", String::from_utf8_lossy(&output.stderr));
    assert!(words.trim_end().ends_with(" 0 failed") && !words.starts_with("0 passed"), "{words}");

    for name in ["prometheus.yml", "board.yml", "gateway.yml"] {
        let environment = [("HOSTNAME", "press-3"), ("SITE", "north")];
        let output = run(holdfast().args(["check", "config"]).arg(root.join("configs").join(name)).envs(environment));
        assert_eq!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for name in ["host.yml", "targets.yml"] {
        let output = run(holdfast().args(["check", "rules"]).arg(root.join("configs/rules").join(name)));
        assert_eq!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
