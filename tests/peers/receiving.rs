//! Remote write from a real Prometheus, whose queue is cut by series: each of its shards sends a part of every scrape.

use crate::{
    api::{self, Vectors, differences},
    programs::{Holdfast, HoldfastSettings, NodeExporter, Prometheus, poll, wait_for},
};
use std::time::Duration;

fn receiver() -> Holdfast {
    Holdfast::start_with(HoldfastSettings {
        configuration: "global: {scrape_interval: 1h}\n".into(),
        arguments: vec!["--web.enable-remote-write-receiver".into()],
        ..HoldfastSettings::default()
    })
}

fn everything(port: u16, time_ms: i64) -> Vectors {
    api::query(port, "{job=\"exporter\"}[10m]", time_ms).unwrap_or_else(|error| panic!("port {port}: {error}"))
}

#[test]
fn what_a_prometheus_pushes_is_what_it_has_through_kills_of_the_receiver() {
    let (exporter, mut node) = (NodeExporter::start(), receiver());
    let sender = Prometheus::start(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n\
         - {{job_name: exporter, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}\n\
         remote_write:\n\
         - url: http://127.0.0.1:{}/api/v1/write\n\
         \x20 queue_config: {{min_shards: 4, max_samples_per_send: 100, batch_send_deadline: 200ms, max_backoff: 1s}}\n",
        exporter.port, node.port
    ));
    let count = |port| api::value(port, "count_over_time(up{job=\"exporter\"}[10m])").unwrap_or_default();
    let wait_more = |node: &Holdfast, more: f64| {
        let since = count(node.port);
        wait_for("pushed scrapes", Duration::from_secs(40), || (count(node.port) >= since + more).then_some(()));
    };
    wait_more(&node, 5.0);
    for kill in [true, false] {
        if kill {
            node.program.kill();
        } else {
            node.program.stop();
        }
        node.start_again();
        wait_more(&node, 4.0);
    }

    // A scrape under way gets an instant that is already over.
    let time_ms = api::now_ms() - 2_000;
    let theirs = everything(sender.port, time_ms);
    let mut lines = Vec::new();
    let same = poll(Duration::from_secs(20), || {
        lines = differences(&everything(node.port, time_ms), &theirs, api::exactly);
        lines.is_empty().then_some(())
    });
    assert!(same.is_some(), "the receiver does not hold what was pushed:\n{}", lines.join("\n"));
    assert!(theirs.len() > 300, "{} series", theirs.len());
    // The receiver has the metrics of its own host beside them.
    for (expression, closeness) in [
        ("sum by (mode) (rate(node_cpu_seconds_total{job=\"exporter\"}[10s]))", 1e-12),
        ("count({job=\"exporter\"})", 0.0),
        ("node_memory_MemTotal_bytes{job=\"exporter\"} * on (instance) group_left () up", 0.0),
    ] {
        let ask = |port| api::query(port, expression, time_ms).unwrap_or_else(|error| panic!("{expression}: {error}"));
        let is_close = |a: f64, b: f64| api::exactly(a, b) || (a - b).abs() <= closeness * a.abs();
        let lines = differences(&ask(node.port), &ask(sender.port), is_close);
        assert!(lines.is_empty(), "{expression}:\n{}", lines.join("\n"));
    }
    assert!(!node.program.log().contains("pushed samples are refused"), "{}", node.program.log());
    let metrics = String::from_utf8(api::get(node.port, "/metrics").expect("an answer").body).expect("text");
    let figure = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}"));
        line.trim().parse().expect("a number")
    };
    assert_eq!(figure("holdfast_receive_pushers "), 1.0);
    assert!(figure("holdfast_receive_samples_stored_total ") > 0.0);
}
