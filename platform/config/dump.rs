//! The configuration as YAML for `/api/v1/status/config`: defaults filled in, secrets as `<secret>`.
//!
//! Without secrets it reads back as the same configuration, here and in Prometheus.

use super::{
    file::{FileConfig, Limits},
    units::{format_bytes, format_duration},
};
use holdfast_core::{
    daemon::settings::{JobSettings, RemoteWriteSettings, TargetSettings},
    labels::LabelSet,
};
use std::fmt::Display;

/// The only exposition format spoken so far, by Prometheus' name.
pub(crate) const SCRAPE_PROTOCOL: &str = "PrometheusText0.0.4";

const SECRET: &str = "<secret>";

pub(crate) fn yaml(config: &FileConfig) -> String {
    let mut out = Writer::default();
    let global = &config.global;
    out.line(0, "global:");
    out.pair(1, "scrape_interval", format_duration(global.scrape_interval_ms));
    out.pair(1, "scrape_timeout", format_duration(global.scrape_timeout_ms));
    out.line(1, "scrape_protocols:");
    out.line(1, &format!("- {SCRAPE_PROTOCOL}"));
    out.pair(1, "evaluation_interval", format_duration(global.evaluation_interval_ms));
    if global.rule_query_offset_ms > 0 {
        out.pair(1, "rule_query_offset", format_duration(global.rule_query_offset_ms));
    }
    out.labels(1, "external_labels", &escaped(&global.external_labels));
    out.limits(1, global.limits);
    if !config.alertmanagers.is_empty() {
        out.line(0, "alerting:");
        out.line(1, "alertmanagers:");
        for group in &config.alertmanagers {
            out.line(1, "- scheme: http");
            if !group.path_prefix.is_empty() {
                out.pair(2, "path_prefix", text(&decoded(&group.path_prefix)));
            }
            out.pair(2, "timeout", format_duration(group.timeout_ms));
            out.pair(2, "api_version", "v2");
            out.targets(2, &group.targets, &LabelSet::default());
        }
    }
    out.texts(0, "rule_files", &config.rule_files);
    if !config.jobs.is_empty() {
        out.line(0, "scrape_configs:");
        config.jobs.iter().for_each(|job| out.job(job));
    }
    if !config.remote_writes.is_empty() {
        out.line(0, "remote_write:");
        config.remote_writes.iter().for_each(|write| out.remote_write(write));
    }
    out.text
}

/// What `$` expands to is shown; it must not be expanded once more when the dump is read.
fn escaped(labels: &LabelSet) -> LabelSet {
    let pairs: Vec<_> = labels.iter().map(|(name, value)| (name, value.replace('$', "$$"))).collect();
    LabelSet::from_pairs(pairs.iter().map(|(name, value)| (*name, value.as_str())))
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn line(&mut self, depth: usize, line: &str) {
        self.text += &format!("{:width$}{line}\n", "", width = 2 * depth);
    }

    fn pair(&mut self, depth: usize, key: &str, value: impl Display) {
        self.line(depth, &format!("{key}: {value}"));
    }

    fn texts(&mut self, depth: usize, key: &str, items: &[String]) {
        if !items.is_empty() {
            self.line(depth, &format!("{key}:"));
            items.iter().for_each(|item| self.line(depth, &format!("- {}", text(item))));
        }
    }

    fn labels(&mut self, depth: usize, key: &str, labels: &LabelSet) {
        if !labels.as_ref().is_empty() {
            self.line(depth, &format!("{key}:"));
            labels.iter().for_each(|(name, value)| self.pair(depth + 1, &text(name), text(value)));
        }
    }

    fn limits(&mut self, depth: usize, limits: Limits) {
        for (key, limit) in [
            ("sample_limit", limits.sample_limit),
            ("label_limit", limits.label_limit),
            ("label_name_length_limit", limits.label_name_length_limit),
            ("label_value_length_limit", limits.label_value_length_limit),
        ] {
            if limit > 0 {
                self.pair(depth, key, limit);
            }
        }
        if limits.body_size_limit_bytes > 0 {
            self.pair(depth, "body_size_limit", format_bytes(limits.body_size_limit_bytes));
        }
    }

    fn targets(&mut self, depth: usize, addresses: &[String], labels: &LabelSet) {
        if !addresses.is_empty() {
            self.line(depth, "static_configs:");
            self.target_group(depth, addresses, labels);
        }
    }

    fn target_group(&mut self, depth: usize, addresses: &[String], labels: &LabelSet) {
        self.line(depth, "- targets:");
        addresses.iter().for_each(|address| self.line(depth + 1, &format!("- {}", text(address))));
        self.labels(depth + 1, "labels", labels);
    }

    fn job(&mut self, job: &JobSettings) {
        self.line(0, &format!("- job_name: {}", text(&job.job_name)));
        self.pair(1, "honor_labels", job.honor_labels);
        self.pair(1, "honor_timestamps", job.honor_timestamps);
        if !job.params.is_empty() {
            self.line(1, "params:");
            for (name, values) in &job.params {
                let values: Vec<_> =
                    values.iter().map(|value| if is_secret(name) { SECRET.into() } else { text(value) }).collect();
                self.pair(2, &text(name), format!("[{}]", values.join(", ")));
            }
        }
        self.pair(1, "scrape_interval", format_duration(job.scrape_interval_ms));
        self.pair(1, "scrape_timeout", format_duration(job.scrape_timeout_ms));
        self.pair(1, "metrics_path", text(&decoded(&job.metrics_path)));
        self.pair(1, "scheme", "http");
        self.limits(
            1,
            Limits {
                sample_limit: job.sample_limit,
                body_size_limit_bytes: job.body_size_limit_bytes,
                label_limit: job.label_limit,
                label_name_length_limit: job.label_name_length_limit,
                label_value_length_limit: job.label_value_length_limit,
            },
        );
        if !job.targets.is_empty() {
            self.line(1, "static_configs:");
        }
        for group in job.targets.chunk_by(|a: &TargetSettings, b| a.labels == b.labels) {
            let addresses: Vec<_> = group.iter().map(|target| target.address.clone()).collect();
            self.target_group(1, &addresses, &group[0].labels);
        }
    }

    fn remote_write(&mut self, write: &RemoteWriteSettings) {
        self.line(0, &format!("- url: {}", text(&redacted_url(&write.url))));
        self.pair(1, "name", text(&write.name));
        self.pair(1, "remote_timeout", format_duration(write.timeout_ms));
        self.line(1, "queue_config:");
        self.pair(2, "max_samples_per_send", write.samples_per_send_max);
        self.pair(2, "batch_send_deadline", format_duration(write.batch_deadline_ms));
        self.pair(2, "min_backoff", format_duration(write.backoff_ms_min));
        self.pair(2, "max_backoff", format_duration(write.backoff_ms_max));
        self.pair(2, "retry_on_http_429", write.retry_on_429);
    }
}

/// A query parameter's name that tells of a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "password", "passwd", "secret", "apikey", "api_key", "api-key", "authkey", "auth_key", "credential"]
        .iter()
        .any(|word| name.contains(word))
}

/// The URL with the values of secret query parameters replaced.
fn redacted_url(url: &str) -> String {
    let Some((base, query)) = url.split_once('?') else { return url.into() };
    let redact = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={SECRET}"),
        _ => pair.to_owned(),
    };
    format!("{base}?{}", query.split('&').map(redact).collect::<Vec<_>>().join("&"))
}

/// The reverse of the percent-encoding done on reading.
fn decoded(path: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        let encoded = tail
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match encoded.filter(|_| byte == b'%') {
            Some(value) => (bytes.push(value), rest = &tail[2..]).1,
            None => (bytes.push(byte), rest = tail).1,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A scalar that every YAML reader takes for this text: plain when it is a harmless word, else in double quotes.
fn text(text: &str) -> String {
    let first_is_letter = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/');
    let harmless = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
    );
    if first_is_letter && harmless && !word {
        return text.into();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted += &format!("\\u{:04x}", u32::from(c))
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_when_yaml_would_read_something_else() {
        for (plain, written) in [
            ("node", "node"),
            ("/metrics", "/metrics"),
            ("", r#""""#),
            ("yes", r#""yes""#),
            ("12", r#""12""#),
            ("a: b", r#""a: b""#),
            ("a#b", r#""a#b""#),
            ("a\"\\\n\u{1}", r#""a\"\\\n\u0001""#),
        ] {
            assert_eq!(text(plain), written);
        }
    }

    #[test]
    fn secrets_in_queries_do_not_show() {
        assert_eq!(redacted_url("http://a/b?x=1&Token=abc&y=2"), "http://a/b?x=1&Token=<secret>&y=2");
        assert_eq!(redacted_url("http://a/b"), "http://a/b");
        assert!(is_secret("apiKey") && is_secret("AuthKey") && !is_secret("module"));
    }

    #[test]
    fn a_path_is_shown_as_it_was_written() {
        assert_eq!(decoded("/a%20b%25%C3%BC"), "/a b%ü");
        assert_eq!(decoded("/%"), "/%");
    }
}
