//! Reads `prometheus.yml` into [`Settings`].
//!
//! Defaults, overrides and checks are Prometheus 3.5's (its `config` package), except that everything wrong is reported
//! at once. What a key does is in [`keys`](super::keys).

use super::{
    Loaded, Reading, Refused,
    dump::{self, SCRAPE_PROTOCOL},
    errors::{Findings, Position},
    globs,
    keys::{ALERTING, ALERTMANAGER, FILE, GLOBAL, QUEUE, REMOTE_WRITE, SCRAPE, STATIC_CONFIG},
    rules,
    yaml::{Section, TextPair, Value, parse, texts},
};
use holdfast_core::{
    daemon::settings::{
        AlertmanagerSettings, JobKind, JobSettings, RemoteWriteSettings, Scheme, Settings, TargetSettings,
    },
    labels::LabelSet,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Longest URL, or path of one, in bytes.
const URL_BYTES_MAX: usize = 4 * 1024;
/// Most bytes of one job's `params`: percent-encoded they are three times as long.
const PARAMS_BYTES_MAX: usize = 16 * 1024;

/// The job under which the built-in configuration scrapes this process.
const OWN_JOB: &str = "holdfast";

/// Rule files of one configuration. Each is open, read and closed before the next.
const RULE_FILES_COUNT_MAX: usize = 256;

/// All rule files together may be so many times as long as one file: their rules stay in memory.
const RULE_FILES_BYTES_FACTOR: u64 = 2;

/// A read file before it becomes [`Settings`]: what the dump is made from.
#[derive(Debug, Default)]
pub(crate) struct FileConfig {
    pub global: Global,
    pub rule_files: Vec<String>,
    pub jobs: Vec<JobSettings>,
    pub alertmanagers: Vec<AlertmanagerGroup>,
    pub remote_writes: Vec<RemoteWriteSettings>,
}

#[derive(Clone, Debug)]
pub(crate) struct Global {
    pub scrape_interval_ms: u64,
    pub scrape_timeout_ms: u64,
    pub evaluation_interval_ms: u64,
    pub rule_query_offset_ms: u64,
    pub external_labels: LabelSet,
    pub limits: Limits,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            scrape_interval_ms: 60_000,
            scrape_timeout_ms: 10_000,
            evaluation_interval_ms: 60_000,
            rule_query_offset_ms: 0,
            external_labels: LabelSet::default(),
            limits: Limits::default(),
        }
    }
}

/// 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub sample_limit: u64,
    pub body_size_limit_bytes: u64,
    pub label_limit: u64,
    pub label_name_length_limit: u64,
    pub label_value_length_limit: u64,
}

/// One entry of `alertmanagers`.
#[derive(Debug)]
pub(crate) struct AlertmanagerGroup {
    /// Empty or `/something`.
    pub path_prefix: String,
    pub timeout_ms: u64,
    /// `host:port` each.
    pub targets: Vec<String>,
}

/// Reads the file and the rule files it names.
pub fn load(path: &Path, reading: &Reading) -> Result<Loaded, Refused> {
    let (config, findings) = read(path, reading);
    let rule_paths = find_rule_files(&config, path, reading.file_bytes_max, &findings);
    let (mut errors, mut notices) = findings.finish();
    let mut rule_groups = Vec::new();
    for rule_path in rule_paths {
        match rules::load(&rule_path, reading) {
            Ok((groups, found)) => {
                rule_groups.extend(groups);
                notices.extend(found);
            }
            Err(refused) => errors.extend(refused.errors),
        }
    }
    match errors.is_empty() {
        true => Ok(Loaded { settings: settings(config, rule_groups, reading), notices }),
        false => Err(Refused { errors }),
    }
}

/// The configuration without a file: this process and its host, every 15 s.
pub fn built_in(reading: &Reading) -> Loaded {
    let global = Global { scrape_interval_ms: 15_000, evaluation_interval_ms: 15_000, ..Global::default() };
    let metrics_path = format!("{}/metrics", reading.route_prefix);
    let targets = vec![TargetSettings { address: reading.own_address.into(), labels: LabelSet::default() }];
    let job = JobSettings { metrics_path, targets, ..job(OWN_JOB, JobKind::Http, &global) };
    let config = FileConfig { global, jobs: vec![job], ..FileConfig::default() };
    Loaded { settings: settings(config, Vec::new(), reading), notices: Vec::new() }
}

/// Reads and checks the file alone.
pub(crate) fn read(path: &Path, reading: &Reading) -> (FileConfig, Findings) {
    let findings = Findings::new(&path.display().to_string());
    let mut config = FileConfig::default();
    let root = read_bounded(path, reading.file_bytes_max, &findings)
        .and_then(|text| parse(&text, reading.file_bytes_max, &findings));
    if let Some(root) = root {
        let top = Section::open(&root, &FILE, String::new(), &findings);
        let context = Context { reading, findings: &findings };
        config.global = context.global(&top.section("global", &GLOBAL));
        config.rule_files = context.rule_files(&top);
        config.jobs = context.jobs(&top, &config.global);
        config.alertmanagers = context.alertmanagers(&top.section("alerting", &ALERTING));
        config.remote_writes = context.remote_writes(&top);
        context.notice_missing_identity(&top, &config);
    }
    (config, findings)
}

/// The whole file as text, or an error that is recorded.
pub(crate) fn read_bounded(path: &Path, file_bytes_max: u64, findings: &Findings) -> Option<String> {
    let whole = Position::default();
    let mut bytes = Vec::new();
    let result = File::open(path).and_then(|file| file.take(file_bytes_max + 1).read_to_end(&mut bytes));
    if let Err(error) = result {
        findings.error(whole, format!("cannot be read: {error}; check the path and its permissions"));
        return None;
    }
    if bytes.len() as u64 > file_bytes_max {
        findings
            .error(whole, format!("is longer than {} KiB; shorten it or raise --memory.limit", file_bytes_max / 1024));
        return None;
    }
    String::from_utf8(bytes)
        .map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u32;
            let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count() as u32;
            findings.error(Position { line, column }, "is not UTF-8 here; save the file as UTF-8");
        })
        .ok()
}

/// The rule files in the order of their patterns, each once.
pub(crate) fn find_rule_files(
    config: &FileConfig,
    path: &Path,
    file_bytes_max: u64,
    findings: &Findings,
) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut seen = BTreeSet::new();
    let found = config.rule_files.iter().flat_map(|pattern| globs::expand(&folder.join(pattern)).unwrap_or_default());
    let mut paths: Vec<PathBuf> = found.filter(|path| seen.insert(path.clone())).collect();
    let count = paths.len();
    let total_bytes: u64 = paths.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum();
    let total_bytes_max = file_bytes_max.saturating_mul(RULE_FILES_BYTES_FACTOR);
    if count > RULE_FILES_COUNT_MAX {
        let message = format!("rule_files match {count} files, the most is {RULE_FILES_COUNT_MAX}; join some of them");
        findings.error(Position::default(), message);
        paths.clear();
    } else if total_bytes > total_bytes_max {
        let (total, most) = (total_bytes.div_ceil(1024), total_bytes_max / 1024);
        let message =
            format!("the rule files have {total} KiB, the most is {most} KiB; shorten them or raise --memory.limit");
        findings.error(Position::default(), message);
        paths.clear();
    }
    paths
}

fn settings(config: FileConfig, rule_groups: Vec<holdfast_core::rules::GroupSpec>, reading: &Reading) -> Settings {
    let yaml = dump::yaml(&config);
    let FileConfig { global, mut jobs, alertmanagers, remote_writes, .. } = config;
    if !reading.host_job.is_empty() && jobs.iter().all(|job| job.job_name != reading.host_job) {
        let targets = vec![TargetSettings { address: reading.host_name.into(), labels: LabelSet::default() }];
        jobs.push(JobSettings { targets, ..job(reading.host_job, JobKind::Host, &global) });
    }
    let urls = alertmanagers.iter().flat_map(|group| {
        let url = |target| AlertmanagerSettings {
            url: format!("http://{target}{}", group.path_prefix),
            timeout_ms: group.timeout_ms,
        };
        group.targets.iter().map(url)
    });
    Settings {
        scrape: jobs,
        rule_groups,
        alertmanagers: urls.collect(),
        remote_writes,
        external_labels: global.external_labels,
        evaluation_interval_ms: global.evaluation_interval_ms,
        rule_query_offset_ms: i64::try_from(global.rule_query_offset_ms).unwrap_or(i64::MAX),
        yaml,
    }
}

/// A job with everything at its default.
fn job(name: &str, kind: JobKind, global: &Global) -> JobSettings {
    let interval_ms = global.scrape_interval_ms;
    JobSettings {
        sample_limit: global.limits.sample_limit,
        body_size_limit_bytes: global.limits.body_size_limit_bytes,
        label_limit: global.limits.label_limit,
        label_name_length_limit: global.limits.label_name_length_limit,
        label_value_length_limit: global.limits.label_value_length_limit,
        ..JobSettings::new(name, kind, interval_ms, global.scrape_timeout_ms.min(interval_ms))
    }
}

/// 0 and absent both mean the default.
fn or(value: Option<u64>, default: u64) -> u64 {
    value.filter(|value| *value > 0).unwrap_or(default)
}

struct Context<'r> {
    reading: &'r Reading<'r>,
    findings: &'r Findings,
}

impl Context<'_> {
    fn global(&self, section: &Section) -> Global {
        let default = Global::default();
        let scrape_interval_ms = or(section.duration_ms("scrape_interval"), default.scrape_interval_ms);
        let timeout_ms = section.duration_ms("scrape_timeout");
        self.check_timeout(section, timeout_ms, scrape_interval_ms);
        let scrape_timeout_ms = or(timeout_ms, default.scrape_timeout_ms.min(scrape_interval_ms));
        let limits = self.limits(section, Limits::default());
        self.check_protocols(section);
        Global {
            scrape_interval_ms,
            scrape_timeout_ms,
            evaluation_interval_ms: or(section.duration_ms("evaluation_interval"), default.evaluation_interval_ms),
            rule_query_offset_ms: section.duration_ms("rule_query_offset").unwrap_or(0),
            external_labels: self.external_labels(section),
            limits,
        }
    }

    fn external_labels(&self, section: &Section) -> LabelSet {
        let pairs = section.text_pairs("external_labels");
        let mut expanded = Vec::new();
        for TextPair { name, value, position, value_position } in &pairs {
            if name.is_empty() {
                self.findings.error(*position, "an external label has no name; give it one or remove the line");
            }
            let missing = |message: String| self.findings.notice(*value_position, message);
            expanded.push((name.as_str(), expand_environment(value, self.reading.environment, missing)));
        }
        LabelSet::from_pairs(expanded.iter().map(|(name, value)| (*name, value.as_str())))
    }

    /// One star part, and only in the last part of the path, as in Prometheus.
    fn rule_files(&self, top: &Section) -> Vec<String> {
        let mut patterns = Vec::new();
        for (pattern, at) in top.texts("rule_files") {
            let folder = Path::new(self.findings.file()).parent().unwrap_or(Path::new(""));
            let stars = pattern.matches('*').count();
            let after_star = pattern.split_once('*').map_or("", |(_, after)| after);
            if pattern.is_empty() {
                self.findings.error(at, "an entry of rule_files is empty; fill it in or remove it");
            } else if stars > 1 || after_star.contains('/') {
                let message =
                    format!("{pattern:?}: one `*` may stand in the last part of a rule file's path; list the others");
                self.findings.error(at, message);
            } else {
                match globs::expand(&folder.join(&pattern)) {
                    Err(()) => {
                        let message =
                            format!("{pattern:?} is not a pattern: `[` needs `]`, and `\\` a character after it");
                        self.findings.error(at, message);
                    }
                    Ok(found) if !found.is_empty() => patterns.push(pattern),
                    Ok(_) if globs::is_pattern(&pattern) => {
                        self.findings.notice(at, format!("{pattern:?} matches no file; no rules come from it"));
                        patterns.push(pattern);
                    }
                    Ok(_) => {
                        let message =
                            format!("the rule file {pattern:?} does not exist; create it or remove the entry");
                        self.findings.error(at, message);
                    }
                }
            }
        }
        patterns
    }

    fn jobs(&self, top: &Section, global: &Global) -> Vec<JobSettings> {
        let (mut jobs, mut lines) = (Vec::new(), BTreeMap::new());
        for section in top.sections("scrape_configs", &SCRAPE) {
            let Some(job) = self.job(&section, global) else { continue };
            let at = section.position_of("job_name");
            if let Some(line) = lines.insert(job.job_name.clone(), at.line) {
                let message =
                    format!("the job name {:?} is used again, first on line {line}; rename one of them", job.job_name);
                self.findings.error(at, message);
            }
            if job.job_name == self.reading.host_job {
                let message = format!(
                    "a job {:?} is configured here, so the built-in host metrics are off; name them otherwise with --host.job",
                    job.job_name
                );
                self.findings.notice(at, message);
            }
            jobs.push(job);
        }
        jobs
    }

    fn job(&self, section: &Section, global: &Global) -> Option<JobSettings> {
        let job_name = section.text("job_name").unwrap_or_default();
        if job_name.is_empty() && section.is_clean() {
            let message = format!(
                "{} has no job_name; give it a unique one",
                section.path_of("job_name").trim_end_matches(".job_name")
            );
            self.findings.error(section.position_of("job_name"), message);
        }
        let interval_ms = or(section.duration_ms("scrape_interval"), global.scrape_interval_ms);
        let timeout_ms = section.duration_ms("scrape_timeout");
        self.check_timeout(section, timeout_ms, interval_ms);
        let limits = self.limits(section, global.limits);
        self.check_protocols(section);
        // Without effect, but a wrong value is still a mistake.
        section.unsigned("keep_dropped_targets");
        section.boolean("enable_compression");
        section.boolean("enable_http2");
        let metrics_path = section.text("metrics_path").map_or("/metrics".into(), |path| url_path(&path));
        self.bounded_url(section, "metrics_path", &metrics_path);
        let read = JobSettings {
            job_name: job_name.clone(),
            kind: JobKind::Http,
            scrape_interval_ms: interval_ms,
            scrape_timeout_ms: or(timeout_ms, global.scrape_timeout_ms.min(interval_ms)),
            metrics_path,
            scheme: Scheme::Http,
            params: self.params(section),
            honor_labels: section.boolean("honor_labels").unwrap_or(false),
            honor_timestamps: section.boolean("honor_timestamps").unwrap_or(true),
            sample_limit: limits.sample_limit,
            body_size_limit_bytes: limits.body_size_limit_bytes,
            label_limit: limits.label_limit,
            label_name_length_limit: limits.label_name_length_limit,
            label_value_length_limit: limits.label_value_length_limit,
            targets: self.targets(section),
        };
        (!job_name.is_empty()).then_some(read)
    }

    fn check_timeout(&self, section: &Section, timeout_ms: Option<u64>, interval_ms: u64) {
        if section.is_clean() && timeout_ms.is_some_and(|timeout_ms| timeout_ms > interval_ms) {
            let message = format!(
                "{} is longer than the scrape interval of {}; shorten it or lengthen the interval",
                section.path_of("scrape_timeout"),
                super::units::format_duration(interval_ms)
            );
            self.findings.error(section.position_of("scrape_timeout"), message);
        }
    }

    fn check_protocols(&self, section: &Section) {
        const KNOWN: [&str; 5] =
            ["OpenMetricsText0.0.1", "OpenMetricsText1.0.0", "PrometheusProto", "PrometheusText1.0.0", SCRAPE_PROTOCOL];
        let protocols = section.texts("scrape_protocols");
        let mut seen = BTreeSet::new();
        for (protocol, at) in &protocols {
            if !KNOWN.contains(&protocol.as_str()) {
                let message = format!("{protocol:?} is not a scrape protocol; the known ones are {}", KNOWN.join(", "));
                self.findings.error(*at, message);
            } else if !seen.insert(protocol.as_str()) {
                self.findings.error(*at, format!("the scrape protocol {protocol} is given again; keep one of them"));
            }
        }
        if section.is_clean() && !protocols.is_empty() && !seen.contains(SCRAPE_PROTOCOL) {
            let message =
                format!("no other scrape protocol than {SCRAPE_PROTOCOL} is supported yet; add it to the list");
            self.findings.error(section.position_of("scrape_protocols"), message);
        }
    }

    fn limits(&self, section: &Section, default: Limits) -> Limits {
        Limits {
            sample_limit: or(section.unsigned("sample_limit"), default.sample_limit),
            body_size_limit_bytes: or(section.bytes("body_size_limit"), default.body_size_limit_bytes),
            label_limit: or(section.unsigned("label_limit"), default.label_limit),
            label_name_length_limit: or(section.unsigned("label_name_length_limit"), default.label_name_length_limit),
            label_value_length_limit: or(
                section.unsigned("label_value_length_limit"),
                default.label_value_length_limit,
            ),
        }
    }

    /// The core has room for so much of a URL beside what it sends.
    fn bounded_url(&self, section: &Section, key: &str, text: &str) {
        if text.len() > URL_BYTES_MAX {
            let (path, bytes) = (section.path_of(key), text.len());
            let message = format!("{path} has {bytes} bytes; shorten it to {URL_BYTES_MAX}");
            self.findings.error(section.position_of(key), message);
        }
    }

    fn params(&self, section: &Section) -> Vec<(String, Vec<String>)> {
        let mut params: Vec<(String, Vec<String>)> = Vec::new();
        for entry in section.pairs("params") {
            let path = format!("{}.{}", section.path_of("params"), entry.key);
            let values = match &entry.node.value {
                Value::Sequence(items) => texts(items, &path, self.findings),
                _ if entry.node.is_null() => Vec::new(),
                _ => {
                    let message = format!("{path} must be a list, even of one value: [value]");
                    self.findings.error(entry.node.position, message);
                    Vec::new()
                }
            };
            params.push((entry.key.clone(), values.into_iter().map(|(value, _)| value).collect()));
        }
        let parameters = params.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        let bytes: usize = parameters.map(|(name, value)| name.len() + value.len()).sum();
        if bytes > PARAMS_BYTES_MAX {
            let path = section.path_of("params");
            let message = format!("{path} has {bytes} bytes; a URL takes at most {PARAMS_BYTES_MAX}, so give fewer");
            self.findings.error(section.position_of("params"), message);
        }
        // Go writes query parameters in order of name.
        params.sort();
        params
    }

    /// The targets of `static_configs`; one with the same address and labels as an earlier one is the same target.
    fn targets(&self, section: &Section) -> Vec<TargetSettings> {
        let (mut targets, mut seen) = (Vec::new(), BTreeSet::new());
        for group in section.sections("static_configs", &STATIC_CONFIG) {
            let labels = self.target_labels(&group);
            for (address, at) in group.texts("targets") {
                self.check_address(&address, at);
                if seen.insert((address.clone(), labels.clone())) {
                    targets.push(TargetSettings { address, labels: labels.clone() });
                } else {
                    self.findings.notice(
                        at,
                        format!("the target {address:?} is listed twice with the same labels; once counts"),
                    );
                }
            }
        }
        targets
    }

    fn target_labels(&self, group: &Section) -> LabelSet {
        const STEERING: [&str; 4] = ["__metrics_path__", "__scheme__", "__scrape_interval__", "__scrape_timeout__"];
        let pairs = group.text_pairs("labels");
        for pair in &pairs {
            let TextPair { name, position, .. } = pair;
            if name.is_empty() {
                self.findings.error(*position, "a label has no name; give it one or remove the line");
            } else if STEERING.contains(&name.as_str()) || name.starts_with("__param_") {
                let message = format!("the label {name} is not supported yet; make a job of its own for these targets");
                self.findings.error(*position, message);
            } else if name.starts_with("__") {
                self.findings
                    .notice(*position, format!("the label {name} has no effect: names with `__` are for relabelling"));
            }
        }
        let kept = pairs.iter().filter(|pair| !pair.name.starts_with("__"));
        LabelSet::from_pairs(kept.map(|pair| (pair.name.as_str(), pair.value.as_str())))
    }

    /// Errors where Prometheus has one, notices where its scrapes would fail for ever.
    fn check_address(&self, address: &str, at: Position) {
        if address.is_empty() {
            self.findings.error(at, "a target is empty; write host:port");
        } else if address.contains('/') {
            let message = format!("{address:?} is not host:port; move scheme and path to scheme and metrics_path");
            self.findings.error(at, message);
        } else if !is_host_port(address) {
            self.findings.notice(at, format!("{address:?} is not host:port, so it can never be reached; correct it"));
        }
    }

    fn alertmanagers(&self, section: &Section) -> Vec<AlertmanagerGroup> {
        let mut groups = Vec::new();
        for section in section.sections("alertmanagers", &ALERTMANAGER) {
            let version = section.text("api_version").unwrap_or_default();
            if !matches!(version.as_str(), "" | "v2") {
                let message =
                    format!("the Alertmanager API {version:?} does not exist any more; write v2 or remove the line");
                self.findings.error(section.position_of("api_version"), message);
            }
            let prefix = section.text("path_prefix").unwrap_or_default();
            self.bounded_url(&section, "path_prefix", &prefix);
            let prefix = prefix.trim_matches('/');
            let targets = self.targets(&section).into_iter().map(|target| target.address).collect();
            groups.push(AlertmanagerGroup {
                path_prefix: if prefix.is_empty() { String::new() } else { url_path(prefix) },
                timeout_ms: or(section.duration_ms("timeout"), 10_000),
                targets,
            });
        }
        groups
    }

    fn remote_writes(&self, top: &Section) -> Vec<RemoteWriteSettings> {
        let (mut writes, mut lines) = (Vec::new(), BTreeMap::new());
        for section in top.sections("remote_write", &REMOTE_WRITE) {
            let Some(write) = self.remote_write(&section) else { continue };
            let at = if section.has("name") { section.position_of("name") } else { section.position };
            if let Some(line) = lines.insert(write.name.clone(), at.line) {
                let message = format!(
                    "the remote_write {:?} is given again, first on line {line}; give each its own name",
                    write.name
                );
                self.findings.error(at, message);
            }
            writes.push(write);
        }
        writes
    }

    fn remote_write(&self, section: &Section) -> Option<RemoteWriteSettings> {
        let url = section.text("url").unwrap_or_default();
        let checked = check_url(&url).map_err(|message| {
            self.findings.error(section.position_of("url"), format!("{} {message}", section.path_of("url")));
        });
        let given = section.text("name").unwrap_or_default();
        let queue = section.section("queue_config", &QUEUE);
        let samples_per_send_max = queue.unsigned("max_samples_per_send").unwrap_or(2_000);
        let batch_deadline_ms = queue.duration_ms("batch_send_deadline").unwrap_or(5_000);
        let backoff_ms_min = or(queue.duration_ms("min_backoff"), 30);
        let backoff_ms_max = or(queue.duration_ms("max_backoff"), 5_000);
        // Without effect, but a wrong value is still a mistake.
        for key in ["capacity", "max_shards", "min_shards"] {
            queue.unsigned(key);
        }
        section.boolean("enable_http2");
        if queue.is_clean() {
            let must = |holds: bool, key: &str, message: &str| {
                if !holds {
                    self.findings.error(queue.position_of(key), format!("{} {message}", queue.path_of(key)));
                }
            };
            must(samples_per_send_max > 0, "max_samples_per_send", "must be at least 1; remove it for 2000");
            must(batch_deadline_ms > 0, "batch_send_deadline", "must be longer than 0s; remove it for 5s");
            must(backoff_ms_min <= backoff_ms_max, "min_backoff", "is longer than max_backoff; shorten it");
        }
        let name = if given.is_empty() { checked.clone().unwrap_or_default() } else { given };
        Some(RemoteWriteSettings {
            name,
            // One spelling of the scheme, and no fragment, for whoever takes the URL apart.
            url: checked
                .ok()
                .and_then(|_| url.split_once("://"))
                .map(|(_, rest)| format!("http://{}", rest.split('#').next().unwrap_or_default()))?,
            timeout_ms: or(section.duration_ms("remote_timeout"), 30_000),
            samples_per_send_max,
            batch_deadline_ms,
            backoff_ms_min,
            backoff_ms_max,
            retry_on_429: queue.boolean("retry_on_http_429").unwrap_or(false),
        })
    }

    /// Without a label that tells the hosts apart, what several of them send collides upstream.
    fn notice_missing_identity(&self, top: &Section, config: &FileConfig) {
        if !config.remote_writes.is_empty() && config.global.external_labels.as_ref().is_empty() {
            let message = "remote_write without global.external_labels: the series of several hosts would collide upstream; \
                add a label whose value differs by host, like `instance_host: ${HOSTNAME}`";
            self.findings.notice(top.position_of("remote_write"), message);
        }
    }
}

/// `$NAME`, `${NAME}` and `$$`, as Go's `os.Expand` reads them, which Prometheus uses.
fn expand_environment(text: &str, variable: &dyn Fn(&str) -> Option<String>, notice: impl Fn(String)) -> String {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        expanded += before;
        let (name, used_bytes) = shell_name(after);
        rest = &after[used_bytes..];
        match name {
            "" if used_bytes == 0 => expanded.push('$'),
            "" => notice(format!(
                "{text:?} has a `${{` without name or `}}`, which is left out; write $$ for a dollar sign"
            )),
            "$" => expanded.push('$'),
            name => match variable(name).filter(|value| !value.is_empty()) {
                Some(value) => expanded += &value,
                None => {
                    notice(format!("the environment variable {name} is empty; set it where the process is started"))
                }
            },
        }
    }
    expanded + rest
}

/// The name after a dollar sign, and how many bytes it takes with its braces. An empty name that takes bytes is a mistake.
fn shell_name(text: &str) -> (&str, usize) {
    let special = |byte: u8| b"*#$@!?-0123456789".contains(&byte);
    match text.as_bytes() {
        [b'{', one, b'}', ..] if special(*one) => (&text[1..2], 3),
        [b'{', ..] => match text.find('}') {
            Some(1) => ("", 2),
            Some(end) => (&text[1..end], end + 1),
            None => ("", 1),
        },
        [one, ..] if special(*one) => (&text[..1], 1),
        bytes => {
            let length = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
            (&text[..length], length)
        }
    }
}

/// `host`, `host:port` or `[v6]:port`.
pub(crate) fn is_host_port(address: &str) -> bool {
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
            (host, rest.strip_prefix(':').or((!rest.is_empty()).then_some("")))
        }
        Some(_) => return false,
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = |host: &str| {
        !host.is_empty()
            && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#@[]\"<>\\^`{|}%".contains(c))
    };
    is_host(host) && port.is_none_or(is_port)
}

/// Checks an upstream's URL; gives the name that stands for it: host, port and path.
fn check_url(url: &str) -> Result<String, String> {
    if url.is_empty() {
        return Err("is missing; give the upstream's address, like http://host:9090/api/v1/write".into());
    }
    if url.len() > URL_BYTES_MAX {
        return Err(format!("has {} bytes; shorten it to {URL_BYTES_MAX}", url.len()));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        // Shown as far as it cannot hold a password.
        let url = url.split(['@', '?']).next().unwrap_or_default();
        return Err(format!("has no scheme: {url:?}; write it as http://host:port/path"));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => return Err("starts with https, which is not supported yet; reach the upstream over http, for example through a local proxy".into()),
        _ => return Err(format!("starts with {scheme:?}, not http; write it as http://host:port/path")),
    }
    if url.contains(|c: char| !c.is_ascii() || c.is_ascii_control() || c == ' ') {
        return Err("contains a space or a character outside ASCII; percent-encode it".into());
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err("has a user or password, which is not supported yet; have a local proxy add them".into());
    }
    if !is_host_port(authority) {
        // Not repeated here: what was meant as a password may stand in it.
        return Err("has no valid host and port; write it as http://host:port/path".into());
    }
    let path_end = path.find(['?', '#']).unwrap_or(path.len());
    Ok(format!("{authority}{}", &path[..path_end]))
}

/// A path as it goes into a URL: with a leading slash, and percent-encoded as Go does.
fn url_path(path: &str) -> String {
    let mut encoded = String::from(if path.starts_with('/') { "" } else { "/" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            byte if b"-_.~$&+,/:;=@".contains(&byte) => encoded.push(char::from(byte)),
            byte => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
#[path = "file_tests.rs"]
pub(crate) mod tests;
