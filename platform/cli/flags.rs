//! THE table of flags: parser, help, `docs/CONFIG.md` and `/api/v1/status/flags` read the same rows.

/// Whose flag it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In `prometheus --help` of 3.5.3.
    Prometheus,
    /// Prometheus 3.5.3 knows it and its help does not show it.
    PrometheusHidden,
    /// Ours. May also stand in the file of `--holdfast.config.file`.
    Holdfast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--flag` and, the given name, `--no-flag`.
    Switch(&'static str),
    Value,
    /// May be given more than once.
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Honoured,
    /// Accepted without effect; the notice says why.
    Ignored(&'static str),
    /// An error with this advice, unless the value given is the default.
    Refused(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    /// As shown by `/api/v1/status/flags`. Empty: see `help`.
    pub default: &'static str,
    pub effect: Effect,
    pub origin: Origin,
    pub help: &'static str,
}

pub fn flag(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

macro_rules! switch {
    ($name:literal, $effect:expr, $help:literal) => {
        Flag {
            name: $name,
            kind: Kind::Switch(concat!("no-", $name)),
            default: "false",
            effect: $effect,
            origin: Origin::Prometheus,
            help: $help,
        }
    };
}

const fn value(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind: Kind::Value, default, effect: Effect::Honoured, origin: Origin::Prometheus, help }
}

const fn list(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { kind: Kind::List, ..value(name, default, help) }
}

const fn ignored(name: &'static str, default: &'static str, why: &'static str) -> Flag {
    Flag { effect: Effect::Ignored(why), ..value(name, default, "") }
}

const fn hidden(name: &'static str, why: &'static str) -> Flag {
    Flag { origin: Origin::PrometheusHidden, ..ignored(name, "", why) }
}

const fn refused(name: &'static str, default: &'static str, advice: &'static str) -> Flag {
    Flag { effect: Effect::Refused(advice), ..value(name, default, "") }
}

const fn ours(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { origin: Origin::Holdfast, ..value(name, default, help) }
}

const NO_GO: &str = "there is no Go runtime to tune";
const NO_BLOCKS: &str = "the store has no blocks or write-ahead log of this kind";
const NO_AGENT: &str = "it belongs to the agent mode";
const NO_REMOTE_READ: &str = "remote read is not served";
const NO_CONSOLES: &str = "console templates are not rendered";

pub static FLAGS: &[Flag] = &[
    switch!("help", Effect::Honoured, "print the flags and end"),
    switch!("version", Effect::Honoured, "print the version and end"),
    value("config.file", "", "the prometheus.yml to run; without it this process and its host are scraped"),
    ignored("config.auto-reload-interval", "30s", "a changed file is read after SIGHUP or POST /-/reload"),
    list("web.listen-address", "127.0.0.1:9090", "host:port to serve on; can be repeated"),
    switch!("auto-gomaxprocs", Effect::Ignored(NO_GO), ""),
    switch!("auto-gomemlimit", Effect::Ignored(NO_GO), ""),
    ignored("auto-gomemlimit.ratio", "0.9", NO_GO),
    refused(
        "web.config.file",
        "",
        "TLS and passwords are not supported yet; listen on loopback behind a proxy that has them",
    ),
    value(
        "web.read-timeout",
        "5m",
        "a request must have arrived, and an idle connection be used again, within this time",
    ),
    value("web.max-connections", "32", "most connections at a time; idle ones are evicted for new ones"),
    ignored("web.max-notifications-subscribers", "16", "live notifications are not served"),
    value(
        "web.external-url",
        "",
        "the URL under which others reach this process, for links in alerts; its path prefixes all routes",
    ),
    value("web.route-prefix", "", "prefix of all routes; by default the path of --web.external-url"),
    ignored("web.local-assets", "", "the page is built into the binary"),
    refused("web.user-assets", "", "not supported; serve the files with a web server"),
    switch!("web.enable-lifecycle", Effect::Honoured, "allow a reload over HTTP: POST /-/reload"),
    switch!("web.enable-admin-api", Effect::Refused("the admin API is not supported yet; remove the flag"), ""),
    switch!(
        "web.enable-remote-write-receiver",
        Effect::Honoured,
        "take samples that others push by remote write 1.0: POST /api/v1/write"
    ),
    ignored(
        "web.remote-write-receiver.accepted-protobuf-messages",
        "",
        "remote write 1.0 is received, and nothing else",
    ),
    ignored("web.console.templates", "", NO_CONSOLES),
    ignored("web.console.libraries", "", NO_CONSOLES),
    value("web.page-title", "Holdfast", "title of the page"),
    refused("web.cors.origin", "", "choosing the origins is not supported yet; remove the flag"),
    value("storage.tsdb.path", "./data", "the data directory"),
    value(
        "storage.tsdb.retention.time",
        "",
        "samples this much older than the newest are dropped; without it only size counts",
    ),
    value(
        "storage.tsdb.retention.size",
        "",
        "all files together; by default the smaller of 512MiB and a tenth of the disk",
    ),
    switch!(
        "storage.tsdb.no-lockfile",
        Effect::Refused("the lock keeps a second process from damaging the store; remove the flag"),
        ""
    ),
    ignored("storage.tsdb.head-chunks-write-queue-size", "0", NO_BLOCKS),
    ignored("storage.agent.path", "", NO_AGENT),
    switch!("storage.agent.wal-compression", Effect::Ignored(NO_AGENT), ""),
    ignored("storage.agent.retention.min-time", "", NO_AGENT),
    ignored("storage.agent.retention.max-time", "", NO_AGENT),
    switch!("storage.agent.no-lockfile", Effect::Ignored(NO_AGENT), ""),
    ignored("storage.remote.flush-deadline", "", "what was not sent at the end is sent after the next start"),
    ignored("storage.remote.read-sample-limit", "5e7", NO_REMOTE_READ),
    ignored("storage.remote.read-concurrent-limit", "10", NO_REMOTE_READ),
    ignored("storage.remote.read-max-bytes-in-frame", "1048576", NO_REMOTE_READ),
    value("rules.alert.for-outage-tolerance", "1h", "an alert's `for` state is kept over an outage up to this long"),
    value(
        "rules.alert.for-grace-period",
        "10m",
        "an alert with a longer `for` fires this long after a restart at the earliest",
    ),
    value("rules.alert.resend-delay", "1m", "a firing alert is sent again after this time"),
    ignored("rules.max-concurrent-evals", "4", "rules are evaluated one after another, in bounded bites"),
    ignored("alertmanager.notification-queue-capacity", "10000", "alerts leave through a bounded outbox"),
    ignored("alertmanager.notification-batch-size", "256", "a message to an Alertmanager is bounded by its bytes"),
    switch!(
        "alertmanager.drain-notification-queue-on-shutdown",
        Effect::Ignored("firing alerts are sent again after the next start"),
        ""
    ),
    value("query.lookback-delta", "5m", "an instant value is the newest sample within this time"),
    value("query.timeout", "2m", "a query that takes longer is ended"),
    value("query.max-concurrency", "20", "most queries at a time"),
    value("query.max-samples", "50000000", "most samples one query may load; its memory is bounded besides"),
    Flag { effect: Effect::Ignored("what is supported is always on"), ..list("enable-feature", "", "") },
    switch!(
        "agent",
        Effect::Refused("there is no agent mode: samples are always kept and forwarded; remove the flag"),
        ""
    ),
    value("log.level", "info", "debug, info, warn or error"),
    value("log.format", "logfmt", "logfmt or json"),
    hidden("storage.tsdb.min-block-duration", NO_BLOCKS),
    hidden("storage.tsdb.max-block-duration", NO_BLOCKS),
    hidden("storage.tsdb.max-block-chunk-segment-size", NO_BLOCKS),
    hidden("storage.tsdb.wal-segment-size", NO_BLOCKS),
    Flag {
        origin: Origin::PrometheusHidden,
        ..switch!("storage.tsdb.wal-compression", Effect::Ignored(NO_BLOCKS), "")
    },
    hidden("storage.tsdb.wal-compression-type", NO_BLOCKS),
    hidden("storage.tsdb.samples-per-chunk", NO_BLOCKS),
    hidden("storage.tsdb.delayed-compaction.max-percent", NO_BLOCKS),
    Flag {
        origin: Origin::PrometheusHidden,
        ..switch!("scrape.adjust-timestamps", Effect::Ignored("a scrape's samples share one instant"), "")
    },
    hidden("scrape.timestamp-tolerance", "a scrape's samples share one instant"),
    hidden("scrape.discovery-reload-interval", "targets stand in the file"),
    hidden("storage.agent.wal-segment-size", NO_AGENT),
    hidden("storage.agent.wal-compression-type", NO_AGENT),
    hidden("storage.agent.wal-truncate-frequency", NO_AGENT),
    ours("memory.limit", "16MiB", "bounds the whole process; see `holdfast budget`"),
    ours(
        "storage.hot-path",
        "",
        "directory on a RAM file system for the hot state; by default /run/holdfast, $XDG_RUNTIME_DIR or /dev/shm",
    ),
    ours(
        "web.max-body-size",
        "",
        "longest body of a request; by default 128KiB, or 1MiB with --web.enable-remote-write-receiver",
    ),
    ours("storage.flush-interval", "30s", "a power cut loses at most this much"),
    ours("holdfast.config.file", "", "a file with values of these flags; the command line wins"),
    ours("host.job", "node", "job of the built-in host metrics; empty: none"),
    ours("host.name", "", "instance of the built-in host metrics; by default the kernel's host name"),
    ours("path.procfs", "/proc", "where proc is mounted"),
    ours("path.sysfs", "/sys", "where sys is mounted"),
    ours("path.rootfs", "/", "where the host's root is mounted"),
];
