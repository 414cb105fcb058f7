//! Reads what people write: `prometheus.yml`, its rule files, and `holdfast.yml`.
//!
//! Everything wrong is reported at once, each with file, line, column and what to do. What is read is never partly
//! used: either a whole [`Loaded`] comes out, or a [`Refused`].

pub mod check;
mod dump;
mod errors;
pub mod file;
mod globs;
pub mod holdfast;
pub mod keys;
pub mod rules;
mod units;
mod yaml;

pub use errors::{Finding, Refused};
pub(crate) use file::is_host_port;
pub use units::{UnitError, parse_bytes, parse_duration_ms};

use holdfast_core::daemon::Settings;
use std::path::Path;

/// Checks one PromQL expression: the byte offset of the mistake, and what is wrong in words.
pub type CheckExpression<'a> = &'a dyn Fn(&str) -> Result<(), (usize, String)>;

/// Checks one template (a label's or annotation's value of an alerting rule): what is wrong, in words.
pub type CheckTemplate<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// [`Reading::file_bytes_max`] for a memory limit.
pub const fn file_bytes_max(memory_limit_bytes: u64) -> u64 {
    let share = memory_limit_bytes / 64;
    match share {
        0..0x1_0000 => 0x1_0000,
        0x10_0001.. => 0x10_0000,
        share => share,
    }
}

/// What a configuration is read with.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// `host:port` under which the built-in configuration scrapes this process itself.
    pub own_address: &'a str,
    /// The path of `--web.external-url` or `--web.route-prefix`; empty or `/something`. Only the built-in
    /// configuration uses it.
    pub route_prefix: &'a str,
    /// `--host.job`: the job of the host's own metrics; empty: none.
    pub host_job: &'a str,
    /// The `instance` of the host's own metrics.
    pub host_name: &'a str,
    /// Longest file read; all rule files together may be twice as long. A file may have one value per 16 bytes of this. While a
    /// file is read it takes about 20 times its length of heap at worst (measured: 245 KB of external labels, 5 MB).
    pub file_bytes_max: u64,
    pub check_expression: CheckExpression<'a>,
    pub check_template: CheckTemplate<'a>,
    /// Value of an environment variable; for `external_labels`.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// A configuration that holds.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// What is accepted but should be known: a line each in the log, at start and at reload.
    pub notices: Vec<Finding>,
}

/// Reads the file of `--config.file` and the rule files it names.
pub fn load(path: &Path, reading: &Reading) -> Result<Loaded, Refused> {
    file::load(path, reading)
}

/// The configuration without `--config.file`: this process and its host, every 15 s.
pub fn built_in(reading: &Reading) -> Loaded {
    file::built_in(reading)
}

#[cfg(test)]
mod document_tests;
