//! Remote write to a real Prometheus: through an outage and a kill, and from two nodes with one configuration.

use crate::{
    api::{self, Vectors, differences},
    programs::{Holdfast, HoldfastSettings, NodeExporter, Prometheus, number_from, poll, wait_for},
};
use std::time::Duration;

/// All samples of the last ten minutes, asked by job: one answer about everything may be more than a small budget has
/// for a query.
fn everything(port: u16, time_ms: i64) -> Vectors {
    let mut all = Vectors::new();
    for job in ["exporter", "holdfast", "node"] {
        let expression = format!("{{job=\"{job}\"}}[10m]");
        all.extend(api::query(port, &expression, time_ms).unwrap_or_else(|error| panic!("port {port}: {error}")));
    }
    all
}

/// Waits until a number of scrapes more than now are in the store.
fn wait_scrapes(node: &Holdfast, count: usize) {
    let since_ms = api::now_ms();
    wait_for("scrapes go on", Duration::from_secs(20 + count as u64), || {
        let samples = api::query(node.port, "up{job=\"exporter\"}[10m]", api::now_ms()).ok()?;
        let newer = samples.values().flatten().filter(|(time_ms, _)| *time_ms > since_ms).count();
        (newer >= count).then_some(())
    });
}

#[test]
fn an_outage_with_a_kill_in_its_middle_loses_no_sample_and_sends_none_twice() {
    // Before and after the kill.
    let half_count = number_from("HOLDFAST_PEERS_OUTAGE_SCRAPES", 6) as usize / 2;
    let exporter = NodeExporter::start();
    let mut upstream = Prometheus::start_upstream();
    let mut node = Holdfast::start(&format!(
        "global: {{scrape_interval: 1s, external_labels: {{site: one}}}}\n\
         scrape_configs:\n\
         - {{job_name: exporter, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}\n\
         - {{job_name: holdfast, static_configs: [{{targets: ['127.0.0.1:{{PORT}}']}}]}}\n\
         remote_write: [{{url: '{}', queue_config: {{batch_send_deadline: 1s, max_backoff: 1s}}}}]\n",
        exporter.port,
        upstream.write_url()
    ));
    wait_for("samples are upstream", Duration::from_secs(20), || {
        api::value(upstream.port, "count_over_time(up{job=\"exporter\"}[1m])").filter(|count| *count >= 3.0)
    });

    upstream.program.stop();
    let away_ms = api::now_ms();
    wait_scrapes(&node, half_count);
    let kill_ms = api::now_ms();
    let before = everything(node.port, kill_ms);
    node.program.kill();
    node.start_again();
    let after = everything(node.port, kill_ms);
    for (labels, samples) in &before {
        let kept = after.get(labels).map_or(&[][..], |samples| samples);
        let lost: Vec<_> = samples.iter().filter(|sample| !kept.contains(sample)).collect();
        assert!(lost.is_empty(), "the kill lost {lost:?} of {labels:?}");
    }
    wait_scrapes(&node, half_count);
    upstream.start_again();
    let back_ms = api::now_ms();
    wait_scrapes(&node, 2);

    let time_ms = api::now_ms();
    let local = everything(node.port, time_ms);
    let in_outage =
        local.values().map(|samples| samples.iter().filter(|(at_ms, _)| (away_ms..back_ms).contains(at_ms)).count());
    assert!(in_outage.max() >= Some(2 * half_count), "scraping went on while the upstream was away");
    // An instant that stands twice, or a value that differs, is a difference that does not go away.
    let mut lines = Vec::new();
    let same = poll(Duration::from_secs(20 + half_count as u64), || {
        lines = differences(&local, &api::without(&everything(upstream.port, time_ms), &["site"]), api::exactly);
        lines.is_empty().then_some(())
    });
    let sample_count: usize = local.values().map(Vec::len).sum();
    node.tell(&format!(
        "upstream away for {} s with a kill in the middle, {} of {} series with {sample_count} samples differ; caught \
         up within {} s",
        (back_ms - away_ms) / 1000,
        lines.len(),
        local.len(),
        (api::now_ms() - back_ms) / 1000
    ));
    assert!(same.is_some(), "the upstream does not hold what was scraped:\n{}", lines.join("\n"));
    assert_eq!(differences(&local, &everything(node.port, time_ms), api::exactly), Vec::<String>::new());
    assert_eq!(node.program.thread_count(), 1);
}

#[test]
fn kills_and_an_orderly_stop_while_samples_are_on_their_way_leave_both_sides_alike() {
    let (exporter, upstream) = (NodeExporter::start(), Prometheus::start_upstream());
    let mut node = Holdfast::start(&format!(
        "global: {{scrape_interval: 1s, external_labels: {{site: one}}}}\n\
         scrape_configs:\n\
         - {{job_name: exporter, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}\n\
         remote_write: [{{url: '{}', queue_config: {{batch_send_deadline: 100ms, max_samples_per_send: 100}}}}]\n",
        exporter.port,
        upstream.write_url()
    ));
    // Small batches: each moment finds some sent and some not.
    for kill in [true, true, false] {
        wait_scrapes(&node, 2);
        if kill {
            node.program.kill()
        } else {
            node.program.stop()
        }
        node.start_again();
    }
    wait_scrapes(&node, 2);

    let time_ms = api::now_ms();
    let local = everything(node.port, time_ms);
    let scrape_count = local.values().map(Vec::len).max();
    assert!(scrape_count >= Some(8), "the scrapes of all four lives are there: {scrape_count:?}");
    let mut lines = Vec::new();
    let same = poll(Duration::from_secs(20), || {
        lines = differences(&local, &api::without(&everything(upstream.port, time_ms), &["site"]), api::exactly);
        lines.is_empty().then_some(())
    });
    assert!(same.is_some(), "the upstream does not hold what was scraped:\n{}", lines.join("\n"));
}

#[test]
fn two_nodes_with_one_configuration_stay_apart_upstream() {
    let upstream = Prometheus::start_upstream();
    let configuration = format!(
        "global: {{scrape_interval: 1s, external_labels: {{site: '${{SITE}}'}}}}\n\
         remote_write: [{{url: '{}', queue_config: {{batch_send_deadline: 1s}}}}]\n",
        upstream.write_url()
    );
    let [north, south] = ["north", "south"].map(|site| {
        Holdfast::start_with(HoldfastSettings {
            configuration: configuration.clone(),
            environment: vec![("SITE".into(), site.into())],
            ..HoldfastSettings::default()
        })
    });
    for node in [&north, &south] {
        wait_for("five scrapes of the host", Duration::from_secs(20), || {
            api::value(node.port, "count_over_time(up{job=\"node\"}[1m])").filter(|count| *count >= 5.0)
        });
        assert!(!node.program.log().contains("collide"), "a label tells them apart:\n{}", node.program.log());
    }

    let time_ms = api::now_ms();
    let (ours, theirs) = (everything(north.port, time_ms), everything(south.port, time_ms));
    assert_eq!(
        ours.keys().filter(|labels| labels["__name__"] == "up").collect::<Vec<_>>(),
        theirs.keys().filter(|labels| labels["__name__"] == "up").collect::<Vec<_>>(),
        "but for the external label, their series are the same"
    );
    for (site, local) in [("north", ours), ("south", theirs)] {
        let expression = format!("{{site=\"{site}\"}}[5m]");
        let mut lines = Vec::new();
        let same = poll(Duration::from_secs(20), || {
            let held = api::query(upstream.port, &expression, time_ms).unwrap_or_default();
            lines = differences(&local, &api::without(&held, &["site"]), api::exactly);
            lines.is_empty().then_some(())
        });
        assert!(same.is_some(), "{site}:\n{}", lines.join("\n"));
    }
    let nobodys =
        api::query(upstream.port, "{__name__=~\".+\", site!~\"north|south\"}", api::now_ms()).expect("an answer");
    assert_eq!(nobodys, Vectors::new());
}

#[test]
fn a_node_that_forwards_without_a_label_of_its_own_is_warned_at_start() {
    let upstream = Prometheus::start_upstream();
    let node = Holdfast::start(&format!("remote_write: [{{url: '{}'}}]\n", upstream.write_url()));
    let log = node.program.log();
    let warnings: Vec<&str> =
        log.lines().filter(|line| line.contains("level=warn") && line.contains("collide")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("external_labels") && warnings[0].contains("prometheus.yml"), "{log}");
}
