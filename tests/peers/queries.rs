//! The same questions to Holdfast and to real Prometheuses, at the same instants.
//!
//! Three servers: Holdfast scrapes a node_exporter and a Prometheus every second; that Prometheus scrapes the same two
//! by itself; a second Prometheus, the mirror, gets Holdfast's samples by remote write. The mirror has the same samples,
//! so it must give the same values (but for the order of sums: 1e-12 of the value). The other has scraped up to a second
//! earlier or later, so it must give the same label sets, and values within the tolerance that stands at each query.

use crate::{
    api::{self, Vectors, differences},
    programs::{Holdfast, HoldfastSettings, NodeExporter, Prometheus, free_port, number_from, wait_for},
};
use std::{collections::BTreeSet, time::Duration};

/// How far two scrapes of one target, up to a second apart, may carry a result.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Does not change while the test runs.
    Constant,
    /// At most this far apart.
    Within(f64),
    /// At most this share of the larger one apart.
    Share(f64),
}

use Phase::{Constant, Share, Within};

/// The one query without a result.
const NOTHING: &str = "absent(up)";

const INSTANT: &[(&str, Phase)] = &[
    ("up", Constant),
    ("node_memory_MemTotal_bytes", Constant),
    ("node_time_seconds", Within(2.5)),
    ("node_boot_time_seconds offset 3s", Within(1.0)),
    ("rate(node_cpu_seconds_total{mode!~\"guest.*\"}[10s])", Within(0.6)),
    ("sum by (mode) (rate(node_cpu_seconds_total[10s]))", Within(1.2)),
    ("sum without (cpu, mode) (irate(node_cpu_seconds_total[10s]))", Within(1.5)),
    ("count by (job) ({__name__=~\"node_(cpu|memory|load).*\"})", Constant),
    ("topk(3, node_memory_MemTotal_bytes or node_cpu_seconds_total > 1e18)", Constant),
    ("bottomk(1, node_network_mtu_bytes{device=\"lo\"})", Constant),
    // Not of "/" alone: a container's is an overlay, which an exporter leaves out.
    ("1 - node_filesystem_avail_bytes / (node_filesystem_size_bytes > 0)", Within(0.05)),
    (
        "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_response_size_bytes_bucket{handler=\"/metrics\"}[15s])))",
        Share(0.5),
    ),
    ("absent(no_such_metric{job=\"exporter\"})", Constant),
    (NOTHING, Constant),
    ("label_replace(up, \"host\", \"$1\", \"instance\", \"(.*):.*\")", Constant),
    ("max_over_time(node_load1[10s:1s])", Within(2.0)),
    ("avg_over_time(up[10s]) == bool 1", Constant),
    ("node_uname_info * on (instance) group_left () up{job=\"exporter\"}", Constant),
    ("node_cpu_seconds_total{mode=\"idle\"} and on (cpu) node_cpu_seconds_total{mode=\"user\"}", Share(0.2)),
    ("{__name__=\"node_network_info\", device!=\"\"} unless node_network_mtu_bytes", Constant),
    ("increase(node_context_switches_total[10s]) > 0", Share(0.9)),
    ("quantile by (job) (0.5, scrape_samples_scraped)", Share(0.1)),
    ("scalar(count(up)) + 2 ^ 3 % 5", Constant),
    ("vector(1) == 1", Constant),
    ("sort_desc(count_over_time(up[10s]))", Within(1.0)),
    ("stddev(node_memory_MemTotal_bytes) or vector(0)", Constant),
];

const RANGE: &[(&str, Phase)] = &[
    ("up", Constant),
    ("node_load1", Within(2.0)),
    ("avg by (mode) (rate(node_cpu_seconds_total[5s]))", Within(0.8)),
    ("count({job=\"exporter\"}) > 0", Within(2.0)),
    ("sum(up) by (job) * 2", Constant),
    ("node_memory_MemTotal_bytes offset 2s", Constant),
];

#[test]
fn the_same_questions_get_the_same_answers_as_from_real_prometheuses() {
    let (mirror, exporter) = (Prometheus::start_upstream(), NodeExporter::start());
    let jobs = |own: u16| {
        format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs:\n\
             - {{job_name: exporter, static_configs: [{{targets: ['127.0.0.1:{}']}}]}}\n\
             - {{job_name: prometheus, static_configs: [{{targets: ['127.0.0.1:{own}']}}]}}\n",
            exporter.port
        )
    };
    let port = free_port();
    let direct = Prometheus::start_on(port, &jobs(port));
    let remote_write =
        format!("remote_write: [{{url: '{}', queue_config: {{batch_send_deadline: 1s}}}}]\n", mirror.write_url());
    let node = Holdfast::start_with(HoldfastSettings {
        configuration: jobs(port) + &remote_write,
        arguments: vec!["--host.job=".into()],
        ..HoldfastSettings::default()
    });

    let scrape_count = number_from("HOLDFAST_PEERS_SCRAPES", 20);
    let window = format!("[{}s]", scrape_count * 2);
    wait_for("enough scrapes of both targets by both", Duration::from_secs(scrape_count + 20), || {
        let count = format!("min(count_over_time(up{window}))");
        let enough = |port| api::value(port, &count).filter(|count| *count >= scrape_count as f64);
        Some((enough(node.port)?, enough(direct.port)?))
    });
    let time_ms = quiet_instant(node.port);
    let everything = |port| {
        // By job, because one answer about everything may be more than a small budget has for a query.
        let mut all = Vectors::new();
        for job in ["exporter", "prometheus"] {
            all.extend(api::query(port, &format!("{{job=\"{job}\"}}{window}"), time_ms).expect("an answer"));
        }
        all
    };
    let ours = everything(node.port);
    assert!(ours.len() > 400, "a node_exporter and a Prometheus have hundreds of series, not {}", ours.len());
    wait_for("the mirror has every sample", Duration::from_secs(15), || {
        differences(&ours, &everything(mirror.port), api::exactly).is_empty().then_some(())
    });

    let mut wrong = Vec::new();
    let mut check = |expression: &str, phase: Phase, ask: &dyn Fn(u16) -> Result<Vectors, String>| {
        let (ours, same, other) = match (ask(node.port), ask(mirror.port), ask(direct.port)) {
            (Ok(ours), Ok(same), Ok(other)) => (ours, same, other),
            answers => return wrong.push(format!("{expression}: {answers:?}")),
        };
        if ours.is_empty() && *expression != *NOTHING {
            wrong.push(format!("{expression}: no result, so it compares nothing"));
        }
        let lines = differences(&ours, &same, |ours, theirs| share_apart(ours, theirs) < 1e-12);
        wrong.extend(lines.iter().map(|line| format!("{expression}: with the same samples: {line}")));
        let lines = differences(&ours, &other, |ours, theirs| phase.allows(ours, theirs));
        wrong.extend(lines.iter().map(|line| format!("{expression}: beside its own scrapes: {line}")));
    };
    for (expression, phase) in INSTANT {
        check(expression, *phase, &|port| api::query(port, expression, time_ms));
    }
    for (expression, phase) in RANGE {
        let range = (time_ms - 8_000, time_ms, 1_000);
        check(expression, *phase, &|port| api::query_range(port, expression, range));
    }
    let sample_count: usize = ours.values().map(Vec::len).sum();
    node.tell(&format!(
        "{} queries at the same instant after {scrape_count} scrapes, {} differences; {} series with {sample_count} \
         samples are the same at the mirror",
        INSTANT.len() + RANGE.len(),
        wrong.len(),
        ours.len()
    ));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));

    for path in ["/api/v1/label/job/values", "/api/v1/label/mode/values", "/api/v1/series?match[]=up"] {
        let items = |port| set_of(&api::get_json(port, path)["data"]);
        assert_eq!(items(node.port), items(direct.port), "{path}");
    }
    assert_eq!(node.program.thread_count(), 1);
}

impl Phase {
    fn allows(self, ours: f64, theirs: f64) -> bool {
        match self {
            Constant => api::exactly(ours, theirs),
            Within(most) => (ours - theirs).abs() <= most,
            Share(most) => share_apart(ours, theirs) <= most,
        }
    }
}

/// 0 when both are the same or no number.
fn share_apart(ours: f64, theirs: f64) -> f64 {
    match api::exactly(ours, theirs) {
        true => 0.0,
        false => (ours - theirs).abs() / ours.abs().max(theirs.abs()),
    }
}

/// An instant of the last two seconds that lies as far as possible from the moments of the scrapes and from whole
/// seconds, so that no sample lies on the edge of a range: Prometheus 2 and 3 see such a sample differently.
fn quiet_instant(port: u16) -> i64 {
    let now_ms = api::now_ms();
    let scrapes = api::query(port, "up[5s]", now_ms).expect("an answer");
    let phases: Vec<i64> = scrapes.values().flatten().map(|(time_ms, _)| time_ms.rem_euclid(1000)).chain([0]).collect();
    let apart_ms = |a: i64, b: i64| (a - b).rem_euclid(1000).min((b - a).rem_euclid(1000));
    let loneliness = |phase: &i64| phases.iter().map(|taken| apart_ms(*phase, *taken)).min();
    let phase = (0..1000).step_by(10).max_by_key(loneliness).expect("a hundred to choose from");
    (now_ms / 1000 - 1) * 1000 + phase
}

fn set_of(list: &serde_json::Value) -> BTreeSet<String> {
    let list = list.as_array().expect("a list");
    assert!(!list.is_empty());
    list.iter().map(ToString::to_string).collect()
}
