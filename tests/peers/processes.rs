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
