//! What one target is, worked out from its job: labels, URL, limits, and the name of its timeline.

use crate::{
    daemon::settings::{JobKind, JobSettings, Scheme, TargetSettings},
    labels::{LabelSet, LabelsBuilder},
    percent::push_query_escaped,
    prng,
    store::TimelineKey,
    time::DurationText,
};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleLimits {
    pub sample_count_max: u64,
    pub body_bytes_max: u64,
    pub label_count_max: u64,
    pub label_name_bytes_max: u64,
    pub label_value_bytes_max: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TargetSpec {
    pub job_name: String,
    pub kind: JobKind,
    /// `http://address/path?params`; empty for the host.
    pub url: String,
    /// What every sample of the target carries: `job`, `instance` and the group's labels.
    pub labels: LabelSet,
    /// What `/api/v1/targets` gives as `discoveredLabels`.
    pub discovered_labels: LabelSet,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub limits: SampleLimits,
    pub interval_ms: u64,
    pub timeout_ms: u64,
}

impl TargetSpec {
    /// As Prometheus without relabelling: a label `__metrics_path__` or `__param_…` of the group overrides the job, labels that
    /// begin with `__` stay inside, `instance` is the address unless set.
    pub fn new(job: &JobSettings, target: &TargetSettings) -> Self {
        let scheme = match job.scheme {
            Scheme::Http => "http",
        };
        let mut discovered = LabelsBuilder::default();
        discovered.set("job", &job.job_name);
        discovered.set("__address__", &target.address);
        discovered.set("__scheme__", scheme);
        discovered.set("__metrics_path__", &job.metrics_path);
        discovered.set("__scrape_interval__", &DurationText(job.scrape_interval_ms).to_string());
        discovered.set("__scrape_timeout__", &DurationText(job.scrape_timeout_ms).to_string());
        for (name, values) in &job.params {
            discovered.set(&format!("__param_{name}"), values.first().map_or("", String::as_str));
        }
        for (name, value) in target.labels.iter() {
            discovered.set(name, value);
        }
        let discovered = discovered.build();
        let mut labels = LabelsBuilder::from_labels(discovered.as_ref());
        labels.retain(|name, _| !name.starts_with("__"));
        if labels.get("instance").is_none() {
            labels.set("instance", &target.address);
        }
        Self {
            job_name: job.job_name.clone(),
            kind: job.kind,
            url: match job.kind {
                JobKind::Http => url(scheme, &discovered, &job.params),
                JobKind::Host => String::new(),
            },
            labels: labels.build(),
            discovered_labels: discovered,
            honor_labels: job.honor_labels,
            honor_timestamps: job.honor_timestamps,
            limits: SampleLimits {
                sample_count_max: job.sample_limit,
                body_bytes_max: job.body_size_limit_bytes,
                label_count_max: job.label_limit,
                label_name_bytes_max: job.label_name_length_limit,
                label_value_bytes_max: job.label_value_length_limit,
            },
            interval_ms: job.scrape_interval_ms,
            timeout_ms: job.scrape_timeout_ms,
        }
    }

    /// The same for the same job, labels and URL, on every start.
    pub fn timeline_key(&self) -> TimelineKey {
        let parts = [self.job_name.as_bytes(), self.url.as_bytes(), self.labels.as_ref().as_bytes()];
        TimelineKey(parts.iter().fold(0, |hash, part| prng::mix(hash ^ prng::stable_hash(part))))
    }
}

fn url(scheme: &str, discovered: &LabelSet, params: &[(String, Vec<String>)]) -> String {
    let get = |name: &str| discovered.get(name).unwrap_or("");
    let mut url = format!("{scheme}://{}{}", get("__address__"), get("__metrics_path__"));
    let mut separator = if url.contains('?') { '&' } else { '?' };
    let mut add = |name: &str, value: &str| {
        url.push(separator);
        separator = '&';
        push_query_escaped(&mut url, name);
        url.push('=');
        push_query_escaped(&mut url, value);
    };
    for (label, first) in discovered.iter() {
        let Some(name) = label.strip_prefix("__param_") else { continue };
        add(name, first);
        let more = params.iter().find(|(given, _)| given == name).map_or(&[][..], |(_, values)| values);
        for value in more.iter().skip(1) {
            add(name, value);
        }
    }
    url
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn job() -> JobSettings {
        JobSettings::new("node", JobKind::Http, 15_000, 10_000)
    }

    pub fn target(labels: &[(&str, &str)]) -> TargetSettings {
        TargetSettings { address: "h:9100".into(), labels: LabelSet::from_pairs(labels.iter().copied()) }
    }

    #[test]
    fn instance_is_the_address_unless_the_group_names_it() {
        let plain = TargetSpec::new(&job(), &target(&[("rack", "7")]));
        assert_eq!(plain.labels, LabelSet::from_pairs([("job", "node"), ("instance", "h:9100"), ("rack", "7")]));
        assert_eq!(plain.url, "http://h:9100/metrics");
        let named = TargetSpec::new(&job(), &target(&[("instance", "box"), ("job", "other")]));
        assert_eq!(named.labels, LabelSet::from_pairs([("job", "other"), ("instance", "box")]));
        assert_ne!(plain.timeline_key(), named.timeline_key());
        assert_eq!(plain.timeline_key(), TargetSpec::new(&job(), &target(&[("rack", "7")])).timeline_key());
    }

    #[test]
    fn the_groups_own_path_and_parameters_win_and_stay_inside() {
        let mut job = job();
        job.params = [("match[]".into(), ["up", "{a=\"b c\"}"].map(String::from).into())].into();
        let spec = TargetSpec::new(&job, &target(&[("__metrics_path__", "/federate"), ("__param_x", "ä")]));
        assert_eq!(spec.url, "http://h:9100/federate?match%5B%5D=up&match%5B%5D=%7Ba%3D%22b+c%22%7D&x=%C3%A4");
        assert_eq!(spec.labels.as_ref().len(), 2);
        assert_eq!(spec.discovered_labels.get("__scrape_interval__"), Some("15s"));
    }
}
