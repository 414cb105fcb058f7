//! A real condition, a real Alertmanager, and a webhook behind it.

use crate::{
    api,
    programs::{Alertmanager, Holdfast, HoldfastSettings, NodeExporter, peer, run, wait_for},
    sink::Sink,
};
use serde_json::Value as Json;
use std::{
    process::Command,
    time::{Duration, Instant},
};

const RULES: &str = "
groups:
- name: targets
  rules:
  - alert: TargetDown
    expr: up{job=\"exporter\"} == 0
    for: 2s
    labels: {severity: page}
    annotations: {summary: '{{ $labels.instance }} is away, up is {{ $value }}'}
";
const SOON: Duration = Duration::from_secs(20);

/// What `amtool alert query` shows as active.
fn active(alertmanager: &Alertmanager) -> Vec<Json> {
    let url = format!("--alertmanager.url={}", alertmanager.url());
    let output = run(Command::new(peer("amtool")).args([&url, "--output=json", "alert", "query", "TargetDown"]));
    assert!(output.status.success(), "amtool: {}", String::from_utf8_lossy(&output.stderr));
    let list: Json = serde_json::from_slice(&output.stdout).expect("amtool writes JSON");
    list.as_array().expect("a list of alerts").clone()
}

fn wait_active(alertmanager: &Alertmanager) -> Json {
    wait_for("amtool shows the alert", SOON, || active(alertmanager).pop())
}

#[test]
fn an_alert_reaches_a_real_alertmanager_resolves_and_waits_while_it_is_away() {
    let sink = Sink::start();
    let mut alertmanager = Alertmanager::start(sink.port);
    let mut exporter = NodeExporter::start();
    let node = Holdfast::start_with(HoldfastSettings {
        configuration: format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s, external_labels: {{site: one}}}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: exporter, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]}}\n",
            exporter.port, alertmanager.port
        ),
        files: vec![("rules.yml".into(), RULES.into())],
        ..HoldfastSettings::default()
    });
    wait_for("the target is up", SOON, || api::value(node.port, "up{job=\"exporter\"}").filter(|up| *up == 1.0));
    assert_eq!(active(&alertmanager), Vec::<Json>::new());

    exporter.program.stop();
    let stopped = Instant::now();
    let alert = wait_active(&alertmanager);
    assert!(stopped.elapsed() >= Duration::from_secs(2), "it was held for 2 s");
    let instance = format!("127.0.0.1:{}", exporter.port);
    let labels = serde_json::json!({
        "alertname": "TargetDown", "job": "exporter", "instance": instance, "severity": "page", "site": "one",
    });
    assert_eq!(alert["labels"], labels);
    assert_eq!(alert["annotations"]["summary"], format!("{instance} is away, up is 0"));
    let link = alert["generatorURL"].as_str().expect("a link");
    assert!(link.contains("/graph?g0.expr=up"), "{link}");
    let starts_at = alert["startsAt"].clone();

    exporter.start_again();
    wait_for("amtool shows no alert", SOON, || active(&alertmanager).is_empty().then_some(()));
    let told = |status: &'static str| {
        wait_for(status, SOON, || sink.alerts().into_iter().rfind(|alert| alert["status"] == status))
    };
    assert_eq!(told("firing")["startsAt"], starts_at);
    assert_eq!(told("resolved")["startsAt"], starts_at);

    alertmanager.program.stop();
    exporter.program.stop();
    wait_for("the alert fires at the node", SOON, || {
        let alerts = api::get_json(node.port, "/api/v1/alerts");
        alerts["data"]["alerts"].as_array()?.iter().any(|alert| alert["state"] == "firing").then_some(())
    });
    alertmanager.start_again();
    let alert = wait_active(&alertmanager);
    assert_eq!(alert["labels"], labels);
    assert_ne!(alert["startsAt"], starts_at, "another alert, told late");
    assert_eq!(node.program.thread_count(), 1);
}
