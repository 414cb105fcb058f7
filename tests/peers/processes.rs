//! What the host sees of the process: its start without a configuration, its threads, its memory.

use crate::{
    api,
    programs::{Holdfast, HoldfastSettings, NodeExporter, number_from, wait_for},
};
use std::time::{Duration, Instant};

/// The default `--memory.limit`; `bench/shows` asks for less, of a release build.
fn resident_kb_max() -> u64 {
    number_from("HOLDFAST_PEERS_RESIDENT_KB_MAX", 16 * 1024)
}

#[test]
fn without_a_configuration_the_host_is_up_within_two_seconds_and_the_page_is_served() {
    let started = Instant::now();
    let node = Holdfast::spawn(HoldfastSettings::default());
    wait_for("up{job=\"node\"} is 1", Duration::from_secs(2), || {
        let port_answers = api::get(node.port, "/-/healthy").is_ok();
        port_answers.then(|| api::value(node.port, "up{job=\"node\"}"))?.filter(|up| *up == 1.0)
    });
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());

    for path in ["/", "/graph?g0.expr=up"] {
        let page = api::get(node.port, path).expect("an answer");
        assert_eq!(page.status, 200, "{path}");
        assert!(page.head.contains("content-type: text/html"), "{path}: {}", page.head);
    }
    for name in ["node_cpu_seconds_total", "node_memory_MemTotal_bytes", "node_filesystem_size_bytes"] {
        let count = api::value(node.port, &format!("count({name}{{job=\"node\"}})"));
        assert!(count >= Some(1.0), "{name}: {count:?}");
    }
    // Its own turn comes anywhere in the first interval of 15 s.
    wait_for("it scrapes itself", Duration::from_secs(20), || {
        api::value(node.port, "up{job!=\"node\"}").filter(|up| *up == 1.0)
    });
    assert!(node.data().join("holdfast.db").exists(), "the data is in ./data");
    node.tell("the default run");
    let peak_kb = node.program.status("VmHWM");
    assert!(peak_kb <= resident_kb_max(), "{peak_kb} kB resident");
    assert_eq!(node.program.thread_count(), 1);
}

#[test]
fn one_thread_and_the_memory_limit_hold_under_queries_and_scrapes() {
    let exporter = NodeExporter::start();
    let node = Holdfast::start(&format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs:\n\
         - {{job_name: exporter, static_configs: [{{targets: ['127.0.0.1:{}', 'localhost:{}']}}]}}\n\
         - {{job_name: holdfast, static_configs: [{{targets: ['127.0.0.1:{{PORT}}']}}]}}\n",
        exporter.port, exporter.port
    ));
    let until = Instant::now() + Duration::from_secs(10);
    let mut answered_count = 0;
    while Instant::now() < until {
        // All samples at once: it may be refused for its size, in words, and must not break the limit.
        match api::query(node.port, "{__name__=~\".+\"}[1m]", api::now_ms()) {
            Ok(_) => answered_count += 1,
            Err(error) => assert!(error.contains("execution") || error.contains("limit"), "{error}"),
        }
        assert_eq!(node.program.thread_count(), 1);
        assert_eq!(node.program.status("Threads"), 1);
        let peak_kb = node.program.status("VmHWM");
        assert!(peak_kb <= 16 * 1024, "{peak_kb} kB resident of --memory.limit=16MiB");
    }
    node.tell(&format!("all samples asked for again and again, {answered_count} times answered"));
    assert!(answered_count > 0, "no query was answered");
    assert_eq!(api::value(node.port, "min(up)"), Some(1.0));
}

/// A power cut takes the RAM file system with it; a kill of the process does not. What a flush has brought to the medium
/// is there after either.
#[test]
fn a_kill_without_the_hot_state_loses_no_more_than_one_flush_interval() {
    let exporter = NodeExporter::start();
    let mut node = Holdfast::start_with(HoldfastSettings {
        configuration: format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs: [{{job_name: exporter, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]\n",
            exporter.port
        ),
        arguments: vec!["--storage.flush-interval=2s".into()],
        ..HoldfastSettings::default()
    });
    wait_for("eight scrapes", Duration::from_secs(20), || {
        api::value(node.port, "min(count_over_time(up[1m]))").filter(|count| *count >= 8.0)
    });
    let kill_ms = api::now_ms();
    let expression = "{job=~\".+\"}[1m]";
    let before = api::query(node.port, expression, kill_ms).expect("an answer");
    node.program.kill();
    node.forget_hot_state();
    node.start_again();
    let after = api::query(node.port, expression, kill_ms).expect("an answer");
    // One interval, and a flush may wait for the widest gap between scrapes.
    let flushed_until_ms = kill_ms - 2 * 2_000;
    for (labels, samples) in &before {
        let kept = after.get(labels).map_or(&[][..], |samples| samples);
        assert!(kept.iter().all(|sample| samples.contains(sample)), "{labels:?}: nothing is made up");
        let lost: Vec<_> =
            samples.iter().filter(|sample| sample.0 < flushed_until_ms && !kept.contains(sample)).collect();
        assert!(lost.is_empty(), "{labels:?}: {lost:?} were flushed and are lost");
    }
    assert!(before.len() > 400);
}
