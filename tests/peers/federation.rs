//! A real Prometheus takes the newest values from `/federate`.

use crate::{
    api,
    programs::{Holdfast, NodeExporter, Prometheus, wait_for},
};
use std::time::Duration;

#[test]
fn a_real_prometheus_federates_with_honoured_labels() {
    let exporter = NodeExporter::start();
    let node = Holdfast::start(&format!(
        "global: {{scrape_interval: 1s, external_labels: {{site: one}}}}\n\
         scrape_configs: [{{job_name: exporter, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]\n",
        exporter.port
    ));
    let central = Prometheus::start(&format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs:\n\
         - job_name: federate\n\
         \x20 honor_labels: true\n\
         \x20 metrics_path: /federate\n\
         \x20 params: {{'match[]': ['{{job=~\".+\"}}']}}\n\
         \x20 static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        node.port
    ));
    wait_for("five federated values of both jobs", Duration::from_secs(30), || {
        let count = "min(count_over_time(up{site=\"one\"}[1m])) + 0 * count(count by (job) (up{site=\"one\"})) ";
        api::value(central.port, count).filter(|count| *count >= 5.0)
    });

    let time_ms = api::now_ms();
    let held = api::query(central.port, "{site=\"one\"}[1m]", time_ms).expect("an answer");
    let held = api::without(&held, &["site"]);
    let ours = api::query(node.port, "{job=~\".+\"}[2m]", time_ms).expect("an answer");
    let missing: Vec<_> = ours.keys().filter(|labels| !held.contains_key(*labels)).collect();
    assert!(missing.is_empty(), "not federated: {missing:?}");
    for (labels, samples) in &held {
        let scraped = ours.get(labels).unwrap_or_else(|| panic!("{labels:?} is in no scrape of ours"));
        for sample in samples {
            assert!(scraped.contains(sample), "{labels:?}: {sample:?} is not among {scraped:?}");
        }
    }
    let jobs: Vec<&str> =
        held.keys().filter(|labels| labels["__name__"] == "up").map(|labels| labels["job"].as_str()).collect();
    assert_eq!(jobs, ["exporter", "node"], "the labels are those of the node's own scrapes");
    assert_eq!(api::value(central.port, "up{job=\"federate\"}"), Some(1.0));
}
