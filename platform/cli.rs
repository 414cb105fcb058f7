//! The command line: Prometheus' flag names with one spelling, our own in the same style, and the subcommands.
//!
//! Every flag is one row of [`flags::FLAGS`]; the parser, `docs/CONFIG.md` and `/api/v1/status/flags` are made from it.




use holdfast_core::daemon::output::Level;
use std::path::PathBuf;

/// What the process is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// No subcommand: run the daemon.
    Run(Box<Flags>),
    /// Print the memory table for these flags.
    Budget(Box<Flags>),
    CheckConfig { file: PathBuf },
    /// At least one file.
    CheckRules { files: Vec<PathBuf> },
    QueryInstant { url: String, expression: String, time: Option<String> },
    /// Instants as RFC 3339 or seconds since 1970, `step` as a duration or seconds: sent as they are.
    QueryRange { url: String, expression: String, start: String, end: String, step: String },
    Version,
}

/// The command line does not lead to a [`Command`]: print `text` and end with `code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0 for `--help` and `--version`, which go to standard output; 2 for mistakes, which go to standard error.
    pub code: u8,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Logfmt,
    Json,
}

/// The flags of a daemon: command line first, then `--holdfast.config.file`, then defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Flags {
    /// `None`: the built-in configuration.
    pub config_file: Option<PathBuf>,
    pub storage_path: PathBuf,
    /// `None`: not by time.
    pub retention_ms: Option<u64>,
    /// `None`: the default of the store.
    pub retention_bytes: Option<u64>,
    /// `host:port` each; at least one.
    pub listen_addresses: Vec<String>,
    pub enable_lifecycle: bool,
    /// As given, without a trailing slash; see [`Flags::external_url_or`].
    pub external_url: Option<String>,
    /// Empty or `/something`.
    pub route_prefix: String,
    pub page_title: String,
    pub connection_count_max: u32,
    pub read_timeout_ms: u64,
    pub log_level: Level,
    pub log_format: LogFormat,
    pub lookback_delta_ms: i64,
    pub query_timeout_ms: u64,
    pub query_samples_max: u64,
    pub query_count_max: u32,
    pub for_outage_tolerance_ms: u64,
    pub for_grace_period_ms: u64,
    pub resend_delay_ms: u64,
    pub memory_limit_bytes: u64,
    /// `None`: `/run/holdfast`, `$XDG_RUNTIME_DIR` or `/dev/shm`, the first that works.
    pub hot_path: Option<PathBuf>,
    pub flush_interval_ms: u64,
    /// Empty: no built-in host metrics.
    pub host_job: String,
    /// `None`: the kernel's host name.
    pub host_name: Option<String>,
    pub procfs: PathBuf,
    pub sysfs: PathBuf,
    pub rootfs: PathBuf,
    /// Every flag's name and value, as `/api/v1/status/flags` shows them, in order of name.
    pub values: Vec<(String, String)>,
    /// Flags given that have no effect here, a line each for the log.
    pub notices: Vec<String>,
}
