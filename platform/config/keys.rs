//! Every key of the files we read, one row each: what the readers check against and what `docs/CONFIG.md` lists.

/// What a key does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Honoured,
    /// Accepted without effect; the notice says why.
    Ignored(&'static str),
    /// Only these values; the advice for the others.
    Only(&'static [&'static str], &'static str),
    /// Known to Prometheus; an error with this advice.
    NotYet(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub effect: Effect,
    /// Default and meaning, for the documentation.
    pub help: &'static str,
}

/// The keys of one section.
#[derive(Debug)]
pub struct Table {
    /// As the documentation's heading names it.
    pub section: &'static str,
    pub own: &'static [Key],
    /// Keys that several sections have.
    pub shared: &'static [&'static [Key]],
}

impl Table {
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.own.iter().chain(self.shared.iter().copied().flatten())
    }

    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

const fn honoured(name: &'static str, help: &'static str) -> Key {
    Key { name, effect: Effect::Honoured, help }
}

const fn ignored(name: &'static str, why: &'static str) -> Key {
    Key { name, effect: Effect::Ignored(why), help: "" }
}

const fn only(name: &'static str, values: &'static [&'static str], advice: &'static str) -> Key {
    Key { name, effect: Effect::Only(values, advice), help: "" }
}

const fn not_yet(name: &'static str, advice: &'static str) -> Key {
    Key { name, effect: Effect::NotYet(advice), help: "" }
}

const REMOVE: &str = "remove it";
const STATIC: &str = "list the targets in static_configs";
const RELABEL: &str = "give the labels in static_configs, or relabel upstream";
const PLAIN: &str = "reach the peer over plain HTTP without authentication, for example through a local proxy";
const FALSE: &[&str] = &["false", "no", "off", "False", "FALSE"];

pub static ALL: &[&Table] = &[
    &FILE,
    &GLOBAL,
    &SCRAPE,
    &STATIC_CONFIG,
    &ALERTING,
    &ALERTMANAGER,
    &REMOTE_WRITE,
    &QUEUE,
    &RULE_FILE,
    &RULE_GROUP,
    &RULE,
];

pub static FILE: Table = Table {
    section: "(top)",
    own: &[
        honoured("global", "defaults for the sections below"),
        honoured("rule_files", "rule files; `*` may stand in the last part of a path; relative to this file"),
        honoured("scrape_configs", "what is scraped"),
        honoured("alerting", "where alerts go"),
        honoured("remote_write", "upstreams that samples are sent to"),
        ignored("runtime", "there is no Go runtime to tune"),
        not_yet("scrape_config_files", "put the jobs into scrape_configs"),
        not_yet("storage", "use the --storage.* flags"),
        not_yet("tracing", REMOVE),
        not_yet("remote_read", "query the upstream itself"),
        not_yet("otlp", REMOVE),
    ],
    shared: &[],
};

pub static GLOBAL: Table = Table {
    section: "global",
    own: &[
        honoured("scrape_interval", "`1m`"),
        honoured("scrape_timeout", "`10s`, or the interval if that is shorter"),
        honoured("evaluation_interval", "`1m`"),
        honoured("rule_query_offset", "`0s`: rules are evaluated this far in the past"),
        honoured(
            "external_labels",
            "added to what leaves; `${NAME}` and `$NAME` are environment variables, `$$` is `$`",
        ),
        not_yet("query_log_file", REMOVE),
    ],
    shared: &[SCRAPE_LIMITS, SCRAPE_FORMAT],
};

pub static SCRAPE: Table = Table {
    section: "scrape_configs[]",
    own: &[
        honoured("job_name", "required, unique"),
        honoured("scrape_interval", "the global one"),
        honoured("scrape_timeout", "the global one, or the interval if that is shorter"),
        honoured("metrics_path", "`/metrics`"),
        only("scheme", &["http"], "scrape over http"),
        honoured("params", "query parameters: lists of values by name"),
        honoured("honor_labels", "`false`"),
        honoured("honor_timestamps", "`true`"),
        honoured("static_configs", "targets with their labels"),
        only("track_timestamps_staleness", FALSE, REMOVE),
        only("fallback_scrape_protocol", &["PrometheusText0.0.4", ""], "answers are read as PrometheusText0.0.4"),
        ignored("enable_compression", "how answers are encoded is agreed with the target"),
        not_yet("native_histogram_bucket_limit", REMOVE),
        not_yet("native_histogram_min_bucket_factor", REMOVE),
        not_yet("relabel_configs", RELABEL),
        not_yet("metric_relabel_configs", "drop or rename series at the exporter"),
    ],
    shared: &[SCRAPE_LIMITS, SCRAPE_FORMAT, HTTP_CLIENT, DISCOVERY],
};

const SCRAPE_LIMITS: &[Key] = &[
    honoured("sample_limit", "`0`: none; a scrape with more samples fails"),
    honoured("body_size_limit", "`0`: none; a longer answer fails"),
    honoured("label_limit", "`0`: none; most labels of one series"),
    honoured("label_name_length_limit", "`0`: none; in bytes"),
    honoured("label_value_length_limit", "`0`: none; in bytes"),
    not_yet("target_limit", "targets are listed in the file; list fewer"),
    ignored("keep_dropped_targets", "without relabelling no target is dropped"),
];

const SCRAPE_FORMAT: &[Key] = &[
    honoured("scrape_protocols", "must contain `PrometheusText0.0.4`, the only one spoken so far"),
    only("metric_name_validation_scheme", &["utf8", ""], "use utf8"),
    not_yet("metric_name_escaping_scheme", REMOVE),
    only("always_scrape_classic_histograms", FALSE, REMOVE),
    only("convert_classic_histograms_to_nhcb", FALSE, REMOVE),
    not_yet("scrape_failure_log_file", "the log and /api/v1/targets tell why a scrape failed"),
];

const HTTP_CLIENT: &[Key] = &[
    not_yet("basic_auth", PLAIN),
    not_yet("authorization", PLAIN),
    not_yet("oauth2", PLAIN),
    not_yet("bearer_token", PLAIN),
    not_yet("bearer_token_file", PLAIN),
    not_yet("tls_config", PLAIN),
    only("follow_redirects", FALSE, "redirects are not followed; give the final address"),
    ignored("enable_http2", "HTTP/1.1 is spoken"),
    not_yet("proxy_url", PLAIN),
    not_yet("no_proxy", REMOVE),
    only("proxy_from_environment", FALSE, REMOVE),
    not_yet("proxy_connect_header", REMOVE),
    not_yet("http_headers", REMOVE),
];

const DISCOVERY: &[Key] = &[
    not_yet("azure_sd_configs", STATIC),
    not_yet("consul_sd_configs", STATIC),
    not_yet("digitalocean_sd_configs", STATIC),
    not_yet("dns_sd_configs", STATIC),
    not_yet("docker_sd_configs", STATIC),
    not_yet("dockerswarm_sd_configs", STATIC),
    not_yet("ec2_sd_configs", STATIC),
    not_yet("eureka_sd_configs", STATIC),
    not_yet("file_sd_configs", STATIC),
    not_yet("gce_sd_configs", STATIC),
    not_yet("hetzner_sd_configs", STATIC),
    not_yet("http_sd_configs", STATIC),
    not_yet("ionos_sd_configs", STATIC),
    not_yet("kubernetes_sd_configs", STATIC),
    not_yet("kuma_sd_configs", STATIC),
    not_yet("lightsail_sd_configs", STATIC),
    not_yet("linode_sd_configs", STATIC),
    not_yet("marathon_sd_configs", STATIC),
    not_yet("nerve_sd_configs", STATIC),
    not_yet("nomad_sd_configs", STATIC),
    not_yet("openstack_sd_configs", STATIC),
    not_yet("ovhcloud_sd_configs", STATIC),
    not_yet("puppetdb_sd_configs", STATIC),
    not_yet("scaleway_sd_configs", STATIC),
    not_yet("serverset_sd_configs", STATIC),
    not_yet("stackit_sd_configs", STATIC),
    not_yet("triton_sd_configs", STATIC),
    not_yet("uyuni_sd_configs", STATIC),
    not_yet("vultr_sd_configs", STATIC),
];

pub static STATIC_CONFIG: Table = Table {
    section: "static_configs[]",
    own: &[honoured("targets", "`host:port` each"), honoured("labels", "labels of all these targets")],
    shared: &[],
};

pub static ALERTING: Table = Table {
    section: "alerting",
    own: &[
        honoured("alertmanagers", "each gets every alert"),
        not_yet("alert_relabel_configs", "set labels in the rules or in external_labels"),
    ],
    shared: &[],
};

pub static ALERTMANAGER: Table = Table {
    section: "alerting.alertmanagers[]",
    own: &[
        honoured("static_configs", "`host:port` of each Alertmanager"),
        only("scheme", &["http"], "reach the Alertmanager over http"),
        honoured("path_prefix", "`/`"),
        honoured("timeout", "`10s`"),
        honoured("api_version", "`v2`, the only one"),
        not_yet("relabel_configs", RELABEL),
        not_yet("alert_relabel_configs", "set labels in the rules or in external_labels"),
        not_yet("sigv4", PLAIN),
    ],
    shared: &[HTTP_CLIENT, DISCOVERY],
};

pub static REMOTE_WRITE: Table = Table {
    section: "remote_write[]",
    own: &[
        honoured("url", "required"),
        honoured("name", "made from the URL; names the durable cursor, so keep it"),
        honoured("remote_timeout", "`30s`"),
        honoured("queue_config", "how samples are batched and retried"),
        only("protobuf_message", &["prometheus.WriteRequest"], "prometheus.WriteRequest (remote write 1.0) is sent"),
        only("send_exemplars", FALSE, "exemplars are not stored"),
        only("send_native_histograms", FALSE, REMOVE),
        only("round_robin_dns", FALSE, REMOVE),
        not_yet("headers", PLAIN),
        not_yet("write_relabel_configs", "drop series at the exporter or upstream"),
        not_yet("metadata_config", "remove it; metadata is not sent"),
        not_yet("sigv4", PLAIN),
        not_yet("azuread", PLAIN),
        not_yet("google_iam", PLAIN),
    ],
    shared: &[HTTP_CLIENT],
};

pub static QUEUE: Table = Table {
    section: "remote_write[].queue_config",
    own: &[
        honoured("max_samples_per_send", "`2000`"),
        honoured("batch_send_deadline", "`5s`"),
        honoured("min_backoff", "`30ms`"),
        honoured("max_backoff", "`5s`"),
        honoured("retry_on_http_429", "`false`"),
        ignored("capacity", "the store is the queue"),
        ignored("max_shards", "samples leave in order, in one stream per upstream"),
        ignored("min_shards", "samples leave in order, in one stream per upstream"),
        not_yet("sample_age_limit", "retention decides how long samples wait"),
    ],
    shared: &[],
};

pub static RULE_FILE: Table =
    Table { section: "rule files", own: &[honoured("groups", "groups of rules")], shared: &[] };

pub static RULE_GROUP: Table = Table {
    section: "groups[]",
    own: &[
        honoured("name", "required, unique in the file"),
        honoured("interval", "the global evaluation_interval"),
        honoured("query_offset", "the global rule_query_offset"),
        honoured("limit", "`0`: none; most series or alerts of one rule"),
        honoured("labels", "added to the labels of every rule"),
        honoured("rules", "evaluated in this order"),
    ],
    shared: &[],
};

pub static RULE: Table = Table {
    section: "groups[].rules[]",
    own: &[
        honoured("record", "the new series' metric name; this or alert"),
        honoured("alert", "the alert's name; this or record"),
        honoured("expr", "required: PromQL"),
        honoured("for", "`0s`: an alert is pending this long before it fires"),
        honoured("keep_firing_for", "`0s`: and fires on this long after its condition has gone"),
        honoured("labels", "added or, if empty, removed"),
        honoured("annotations", "alerts only"),
    ],
    shared: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_section_has_a_key_twice() {
        for table in ALL {
            let mut names: Vec<_> = table.keys().map(|key| key.name).collect();
            names.sort_unstable();
            for pair in names.windows(2) {
                assert_ne!(pair[0], pair[1], "{}", table.section);
            }
        }
    }

    #[test]
    fn every_message_is_a_sentence_part_without_final_stop() {
        for key in ALL.iter().flat_map(|table| table.keys()) {
            if let Effect::Ignored(text) | Effect::Only(_, text) | Effect::NotYet(text) = key.effect {
                assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", key.name);
            }
        }
    }
}
