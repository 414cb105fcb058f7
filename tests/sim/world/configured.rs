//! What the daemon of a world is told: targets, rules, peers, and how much memory it has.

use super::Scale;
use crate::network::{HOST, SOURCES, instance_of};
use holdfast_core::{
    daemon::{
        Options, Settings,
        settings::{AlertmanagerSettings, JobKind, JobSettings, Opened, RemoteWriteSettings, TargetSettings},
    },
    labels::LabelSet,
    memory::Plan,
    prng,
    rules::{GroupSpec, RuleKind, RuleSpec},
    scrape::TargetSpec,
    time::Now,
};

pub const FLUSH_INTERVAL_MS: u64 = 30_000;
pub const SAMPLES_PER_SEND_MAX: u64 = 200;
/// How long samples wait for company on their way upstream.
pub const BATCH_DEADLINE_MS: u64 = 5_000;

/// Places the targets in their intervals.
const SEED: u64 = 7;
const SLAB_BYTES: usize = 384 * 1024;
/// Of packed rows: what all targets give in a few minutes.
const TIGHT_RING_BYTES: u32 = 6 * 1024;

pub fn plan(scale: &Scale) -> Plan {
    let mut plan = Plan::for_slab(SLAB_BYTES).expect("the plan");
    plan.timelines_count = plan.timelines_count.max(16);
    plan.layouts_count = plan.layouts_count.max(48);
    if scale.is_tight {
        plan.ring_bytes = TIGHT_RING_BYTES;
    }
    plan.ring_bytes = scale.ring_bytes.unwrap_or(plan.ring_bytes);
    plan
}

/// With the targets of the sources that are there.
pub fn settings(scale: &Scale, is_there: &[bool; SOURCES]) -> Settings {
    let job = |job_name: &str, kind, sources: std::ops::Range<usize>| JobSettings {
        targets: sources
            .filter(|source| is_there[*source])
            .map(|source| TargetSettings { address: instance_of(source), labels: LabelSet::default() })
            .collect(),
        ..JobSettings::new(job_name, kind, scale.interval_ms, scale.interval_ms * 3 / 5)
    };
    Settings {
        scrape: vec![job("sim", JobKind::Http, 0..HOST), job("host", JobKind::Host, HOST..SOURCES)],
        rule_groups: rule_groups(scale),
        alertmanagers: vec![AlertmanagerSettings { url: "http://am:9093".into(), timeout_ms: 10_000 }],
        remote_writes: vec![RemoteWriteSettings {
            name: "up".into(),
            url: "http://up/api/v1/write".into(),
            timeout_ms: 30_000,
            samples_per_send_max: SAMPLES_PER_SEND_MAX,
            batch_deadline_ms: BATCH_DEADLINE_MS,
            backoff_ms_min: 30,
            backoff_ms_max: 5_000,
            retry_on_429: true,
        }],
        external_labels: LabelSet::from_pairs([("site", "attic")]),
        evaluation_interval_ms: scale.interval_ms * 4,
        rule_query_offset_ms: 0,
        yaml: String::new(),
    }
}

/// Where in its interval the host is scraped.
pub fn host_place_ms(scale: &Scale) -> u64 {
    let settings = settings(scale, &[true; SOURCES]);
    let Some(job) = settings.scrape.iter().find(|job| job.kind == JobKind::Host) else { unreachable!("see above") };
    prng::mix(TargetSpec::new(job, &job.targets[0]).timeline_key().0 ^ SEED) % scale.interval_ms
}

/// One group of something that is always so, and one of targets that are down.
fn rule_groups(scale: &Scale) -> Vec<GroupSpec> {
    let group = |name: &str, interval_ms, rules: [(RuleKind, &str); 2]| GroupSpec {
        name: name.into(),
        file: "rules.yml".into(),
        interval_ms,
        limit: 0,
        query_offset_ms: None,
        labels: Vec::new(),
        rules: rules.map(|(kind, expr)| RuleSpec { kind, expr: expr.into(), labels: Vec::new() }).into(),
    };
    let record = |record: &str| RuleKind::Record { record: record.into() };
    let alert = |alert: &str, for_ms| RuleKind::Alert {
        alert: alert.into(),
        for_ms,
        keep_firing_for_ms: 0,
        annotations: Vec::new(),
    };
    vec![
        group(
            "g",
            Some(scale.interval_ms * 3),
            [(record("sums:m0"), "sum(m0_0)"), (alert("Always", 20_000), "vector(1)")],
        ),
        group("targets", None, [(record("ups:count"), "count(up)"), (alert("Down", 10_000), "up == 0")]),
    ]
}

pub fn options(scale: &Scale, now: Now) -> Options {
    Options {
        lookback_delta_ms: crate::model::LOOKBACK_MS,
        query_timeout_ms: 120_000,
        query_samples_max: 50_000_000,
        query_count_max: 20,
        query_bytes_max: 8 << 20,
        external_url: "http://box:9090".into(),
        route_prefix: String::new(),
        enable_lifecycle: false,
        enable_remote_write_receiver: true,
        flush_interval_ms: FLUSH_INTERVAL_MS,
        retention_ms: scale.retention_ms,
        retention_bytes: None,
        resend_delay_ms: 60_000,
        for_outage_tolerance_ms: 3_600_000,
        for_grace_period_ms: 600_000,
        page_title: "Holdfast".into(),
        hostname: "box".into(),
        flags: Vec::new(),
        storage_path: "sim".into(),
        memory_limit_bytes: 16 << 20,
        seed: SEED,
        started_wall_ms: now.wall_ms,
        opened: Opened::Recovered { took_us: 0 },
    }
}
