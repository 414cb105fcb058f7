//! A checked configuration, as the platform hands it over at start and at reload.

use crate::{labels::LabelSet, rules::GroupSpec};
use alloc::{string::String, vec::Vec};

#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub scrape: Vec<JobSettings>,
    pub rule_groups: Vec<GroupSpec>,
    pub alertmanagers: Vec<AlertmanagerSettings>,
    pub remote_writes: Vec<RemoteWriteSettings>,
    /// With environment variables expanded. Added to what leaves: remote write, federation, alerts.
    pub external_labels: LabelSet,
    pub evaluation_interval_ms: u64,
    pub rule_query_offset_ms: i64,
    /// The configuration as YAML for `/api/v1/status/config`: defaults filled in, secrets as `<secret>`.
    pub yaml: String,
}

/// One entry of `scrape_configs`, or the built-in host target.
#[derive(Clone, Debug)]
pub struct JobSettings {
    pub job_name: String,
    pub kind: JobKind,
    pub scrape_interval_ms: u64,
    pub scrape_timeout_ms: u64,
    pub metrics_path: String,
    pub scheme: Scheme,
    pub params: Vec<(String, Vec<String>)>,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    /// 0: no limit, here and in the limits below.
    pub sample_limit: u64,
    pub body_size_limit_bytes: u64,
    pub label_limit: u64,
    pub label_name_length_limit: u64,
    pub label_value_length_limit: u64,
    pub targets: Vec<TargetSettings>,
}

impl JobSettings {
    /// A job without targets and without limits, everything else at Prometheus' default.
    pub fn new(job_name: &str, kind: JobKind, scrape_interval_ms: u64, scrape_timeout_ms: u64) -> Self {
        Self {
            job_name: job_name.into(),
            kind,
            scrape_interval_ms,
            scrape_timeout_ms,
            metrics_path: "/metrics".into(),
            scheme: Scheme::Http,
            params: Vec::new(),
            honor_labels: false,
            honor_timestamps: true,
            sample_limit: 0,
            body_size_limit_bytes: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            targets: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    Http,
    /// The host's own metrics, read in this process.
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
}

#[derive(Clone, Debug)]
pub struct TargetSettings {
    /// `host:port`; the host name for the built-in target.
    pub address: String,
    /// The group's labels.
    pub labels: LabelSet,
}

#[derive(Clone, Debug)]
pub struct AlertmanagerSettings {
    /// `http://host:port` + path prefix, without the API's path.
    pub url: String,
    pub timeout_ms: u64,
}

#[derive(Clone, Debug)]
pub struct RemoteWriteSettings {
    /// The name given, or one made from the URL; names the durable cursor.
    pub name: String,
    pub url: String,
    pub timeout_ms: u64,
    pub samples_per_send_max: u64,
    pub batch_deadline_ms: u64,
    pub backoff_ms_min: u64,
    pub backoff_ms_max: u64,
    pub retry_on_429: bool,
}

/// What is fixed at start: flags and facts about this process.
#[derive(Clone, Debug)]
pub struct Options {
    pub lookback_delta_ms: i64,
    pub query_timeout_ms: u64,
    pub query_samples_max: u64,
    /// Queries that run at a time; more wait.
    pub query_count_max: usize,
    /// Heap that all queries together may use.
    pub query_bytes_max: u64,
    /// As it appears in generatorURL and on the page, without a trailing slash.
    pub external_url: String,
    /// Path of `external_url`, with which every route is prefixed; empty or `/something`.
    pub route_prefix: String,
    pub enable_lifecycle: bool,
    pub enable_remote_write_receiver: bool,
    pub flush_interval_ms: u64,
    pub retention_ms: Option<u64>,
    pub retention_bytes: Option<u64>,
    pub resend_delay_ms: u64,
    pub for_outage_tolerance_ms: u64,
    pub for_grace_period_ms: u64,
    pub hostname: String,
    pub page_title: String,
    /// Name and value of every flag, as `/api/v1/status/flags` gives them.
    pub flags: Vec<(String, String)>,
    pub storage_path: String,
    /// The whole process' budget, for the page and our own metrics.
    pub memory_limit_bytes: u64,
    /// Places schedules and jitter: the same after a restart, another on every node (made from the store's UUID).
    pub seed: u64,
    pub started_wall_ms: i64,
    pub opened: Opened,
}

/// How long this process took to come to its store, disk included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It went on with the slab of the process before. What it took of the processor tells what it would take where nobody
    /// else wants that.
    Attached { took_us: u64, cpu_us: u64 },
    /// It made a fresh one from the data directory.
    Recovered { took_us: u64 },
}
