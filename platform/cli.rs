//! The command line: Prometheus' flag names with one spelling, our own in the same style, and the subcommands.
//!
//! Every flag is one row of [`flags::FLAGS`]; the parser, `docs/CONFIG.md` and `/api/v1/status/flags` are made from it.

pub mod analyze;
pub mod budget;
pub mod flags;
pub mod query;

use crate::config::{holdfast, parse_bytes, parse_duration_ms};
use crate::log::LogFormat;
use clap::{Arg, ArgAction, ArgMatches, error::ErrorKind, parser::ValueSource};
use flags::{Effect, FLAGS, Flag, Kind, Origin};
use holdfast_core::daemon::output::Level;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What the process is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// No subcommand: run the daemon.
    Run(Box<Flags>),
    /// Print the memory table for these flags, and what it holds.
    Budget(budget::Question),
    CheckConfig {
        file: PathBuf,
    },
    /// At least one file.
    CheckRules {
        files: Vec<PathBuf>,
    },
    Query(query::Query),
    Analyze(analyze::Analyze),
    Version,
}

/// The command line does not lead to a [`Command`]: print `text` and end with `code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0 for `--help` and `--version`, which go to standard output; 2 for mistakes, which go to standard error.
    pub code: u8,
    pub text: String,
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
    /// `host:port` each, or `:port` for all of this host's; at least one.
    pub listen_addresses: Vec<String>,
    pub enable_lifecycle: bool,
    pub enable_remote_write_receiver: bool,
    /// As given, without a trailing slash; see [`Flags::external_url_or`].
    pub external_url: Option<String>,
    /// Empty or `/something`.
    pub route_prefix: String,
    pub page_title: String,
    pub connection_count_max: u32,
    /// `None`: as the budget has it.
    pub body_bytes_max: Option<u64>,
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

impl Flags {
    /// The URL for links: the one given, or `http://` with the host's name and the first listen address' port.
    pub fn external_url_or(&self, host_name: &str) -> String {
        let port = self.listen_addresses[0].rsplit(':').next().unwrap_or_default();
        self.external_url.clone().unwrap_or_else(|| format!("http://{host_name}:{port}"))
    }

    /// `host:port` at which this process reaches itself.
    pub fn own_address(&self) -> String {
        let (host, port) = self.listen_addresses[0].rsplit_once(':').unwrap_or_default();
        let host = match host {
            "" | "0.0.0.0" => "127.0.0.1",
            "[::]" => "[::1]",
            host => host,
        };
        format!("{host}:{port}")
    }

    /// Addresses that others than this host may reach. Without authentication each is worth a warning.
    pub fn open_addresses(&self) -> impl Iterator<Item = &str> {
        self.listen_addresses.iter().map(String::as_str).filter(|address| {
            let host = address.rsplit_once(':').map_or("", |(host, _)| host);
            let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
            host != "localhost" && !ip.is_ok_and(|ip| ip.is_loopback())
        })
    }
}

/// Reads the command line (with the program's name first) and the file of `--holdfast.config.file`. `version` is what
/// `--version` prints.
pub fn parse<I, T>(arguments: I, version: &str) -> Result<Command, Exit>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let matches = parser().try_get_matches_from(arguments).map_err(|error| Exit {
        code: if matches!(error.kind(), ErrorKind::DisplayHelp) { 0 } else { 2 },
        text: error.to_string().trim_end().to_owned(),
    })?;
    if matches.get_flag("version") {
        return Err(Exit { code: 0, text: version.into() });
    }
    let text = |matches: &ArgMatches, name: &str| matches.get_one::<String>(name).cloned();
    let required = |matches: &ArgMatches, name: &str| text(matches, name).unwrap_or_default();
    match matches.subcommand() {
        None => flags_of(&matches).map(|flags| Command::Run(Box::new(flags))),
        Some(("budget", matches)) => budget::question(matches, flags_of(matches)?).map(Command::Budget),
        Some(("check", matches)) => match matches.subcommand() {
            Some(("config", matches)) => Ok(Command::CheckConfig { file: required(matches, "FILE").into() }),
            Some((_, matches)) => {
                let files = matches.get_many::<String>("FILE").unwrap_or_default().map(PathBuf::from).collect();
                Ok(Command::CheckRules { files })
            }
            None => Err(Exit { code: 2, text: "check what? config or rules".into() }),
        },
        Some(("query", matches)) => {
            let Some((kind, matches)) = matches.subcommand() else {
                return Err(Exit { code: 2, text: "query what? instant or range".into() });
            };
            let when = match kind {
                "instant" => query::When::Instant { time: text(matches, "time") },
                _ => query::When::Range {
                    start: text(matches, "start"),
                    end: text(matches, "end"),
                    step: text(matches, "step"),
                },
            };
            Ok(Command::Query(query::Query {
                url: required(matches, "URL"),
                expression: required(matches, "EXPR"),
                when,
            }))
        }
        Some(("tsdb", matches)) => {
            let Some((_, matches)) = matches.subcommand() else {
                return Err(Exit { code: 2, text: "tsdb what? analyze".into() });
            };
            let wrong = |text: String| Exit { code: 2, text };
            let quota_bytes = match text(matches, "storage.tsdb.retention.size") {
                Some(size) => Some(parse_bytes(&size).map_err(|error| wrong(format!("{size:?}: {error}")))?),
                None => None,
            };
            let is_json = match required(matches, "format").as_str() {
                "text" => false,
                "json" => true,
                other => return Err(wrong(format!("--format {other:?}: write text or json"))),
            };
            Ok(Command::Analyze(analyze::Analyze {
                directory: required(matches, "DIR").into(),
                url: required(matches, "url"),
                quota_bytes,
                is_json,
            }))
        }
        Some(_) => Ok(Command::Version),
    }
}

fn parser() -> clap::Command {
    let positional = |name: &'static str, help: &'static str| Arg::new(name).required(true).help(help);
    let option = |name: &'static str, help: &'static str| Arg::new(name).long(name).value_name(name).help(help);
    let files = Arg::new("FILE").required(true).num_args(1..).help("rule files");
    let check = clap::Command::new("check")
        .about("Check files as the daemon reads them, without running")
        .subcommand_required(true)
        .subcommand(
            clap::Command::new("config")
                .about("Check a prometheus.yml and its rule files")
                .arg(positional("FILE", "the file")),
        )
        .subcommand(clap::Command::new("rules").about("Check rule files").arg(files));
    let asked = [positional("URL", "http://host:port of a Prometheus or Holdfast"), positional("EXPR", "PromQL")];
    let query = clap::Command::new("query")
        .about("Ask a running process")
        .subcommand_required(true)
        .subcommand(
            clap::Command::new("instant")
                .about("Ask for one instant")
                .args(asked.clone())
                .arg(option("time", "RFC 3339, or seconds since 1970; by default now")),
        )
        .subcommand(
            clap::Command::new("range")
                .about("Ask for a range of time")
                .args(asked)
                .arg(option("start", "RFC 3339, or seconds since 1970; by default 5 minutes before the end"))
                .arg(option("end", "RFC 3339, or seconds since 1970; by default now"))
                .arg(option("step", "a duration like 15s, or seconds; by default a 250th of the range, at least 1s")),
        );
    let tsdb = clap::Command::new("tsdb").about("Look into a data directory").subcommand_required(true).subcommand(
        clap::Command::new("analyze")
            .about("Print what each target costs on the disk, what is damaged, and how many days are left")
            .arg(positional("DIR", "the directory of --storage.tsdb.path"))
            .arg(
                option("url", "the daemon that has the directory, if one has [default: http://127.0.0.1:9090]")
                    .default_value("http://127.0.0.1:9090"),
            )
            .arg(option("format", "text or json").default_value("text"))
            .arg(option(
                "storage.tsdb.retention.size",
                "the quota, where no daemon tells it; by default as the daemon's",
            )),
    );
    let budget = clap::Command::new("budget")
        .about("Print where the memory goes with these flags, and what it holds")
        .args(budget::arguments())
        .args(arguments());
    clap::Command::new("holdfast")
        .about("The whole Prometheus stack for one edge node, in one thread and one fixed memory budget")
        .disable_version_flag(true)
        .args_conflicts_with_subcommands(true)
        .args(arguments())
        .arg(Arg::new("version").long("version").action(ArgAction::SetTrue).help("print the version and end"))
        .subcommands([check, budget, query, tsdb, clap::Command::new("version").about("Print the version")])
}

/// One argument per row of the table, a switch's `--no-` form besides. Help shows what is honoured.
fn arguments() -> Vec<Arg> {
    let mut arguments = Vec::new();
    for flag in FLAGS.iter().filter(|flag| !matches!(flag.name, "help" | "version")) {
        let argument = Arg::new(flag.name).long(flag.name).hide(flag.effect != Effect::Honoured);
        let argument = match flag.default {
            "" | "false" => argument.help(flag.help),
            default => argument.help(format!("{} [default: {default}]", flag.help)),
        };
        match flag.kind {
            Kind::Value => arguments.push(argument.value_name("value")),
            Kind::List => arguments.push(argument.value_name("value").action(ArgAction::Append)),
            Kind::Switch(negated) => arguments.extend([
                argument.action(ArgAction::SetTrue).overrides_with(negated),
                Arg::new(negated).long(negated).action(ArgAction::SetTrue).overrides_with(flag.name).hide(true),
            ]),
        }
    }
    arguments
}

/// Values by flag, and where each came from.
#[derive(Default)]
struct Values {
    given: BTreeMap<&'static str, (Vec<String>, Source)>,
    errors: Vec<String>,
}

enum Source {
    CommandLine,
    File(holdfast::FlagValue),
}

fn flags_of(matches: &ArgMatches) -> Result<Flags, Exit> {
    let mut values = Values::default();
    for flag in FLAGS.iter().filter(|flag| !matches!(flag.name, "help" | "version")) {
        let texts: Vec<String> = match flag.kind {
            Kind::Switch(negated) => [(flag.name, "true"), (negated, "false")]
                .iter()
                .filter(|(name, _)| {
                    matches.value_source(name) == Some(ValueSource::CommandLine) && matches.get_flag(name)
                })
                .map(|(_, value)| (*value).into())
                .collect(),
            _ => matches.get_many::<String>(flag.name).unwrap_or_default().cloned().collect(),
        };
        if !texts.is_empty() {
            values.given.insert(flag.name, (texts, Source::CommandLine));
        }
    }
    if let Some(path) = values.optional("holdfast.config.file") {
        match holdfast::load(Path::new(&path)) {
            Ok(from_file) => {
                for value in from_file {
                    let name = value.flag.name;
                    values.given.entry(name).or_insert_with(|| (vec![value.value.clone()], Source::File(value)));
                }
            }
            Err(refused) => values.errors.push(refused.to_string()),
        }
    }
    let flags = values.flags();
    match values.errors.is_empty() {
        true => Ok(flags),
        false => Err(Exit { code: 2, text: values.errors.join("\n") }),
    }
}

impl Values {
    /// Records what is wrong and goes on with the default, so that all errors come at once.
    fn flags(&mut self) -> Flags {
        let notices = self.check_effects();
        let external_url = self.optional("web.external-url").map(|url| url.trim_end_matches('/').to_owned());
        let url_path = external_url.as_deref().map_or("", |url| {
            let authority = url.split_once("://").map_or("", |(_, rest)| rest);
            authority.find('/').map_or("", |at| &authority[at..])
        });
        if external_url.as_deref().is_some_and(|url| !is_external_url(url)) {
            self.wrong("web.external-url", "is not a URL; write it as http://host:port/path, without quotes or query");
        }
        let prefix = self.optional("web.route-prefix").unwrap_or_else(|| url_path.into());
        let prefix = prefix.trim_matches('/');
        if prefix.contains(|c: char| c.is_whitespace() || c.is_control() || "?#%\"".contains(c)) {
            self.wrong("web.route-prefix", "must be a plain path like /prometheus");
        }
        Flags {
            config_file: self.path("config.file"),
            storage_path: self.text("storage.tsdb.path").into(),
            retention_ms: self.optional_read("storage.tsdb.retention.time", duration_ms).filter(|ms| *ms > 0),
            retention_bytes: self.optional_read("storage.tsdb.retention.size", bytes).filter(|bytes| *bytes > 0),
            listen_addresses: self.listen_addresses(),
            enable_lifecycle: self.switch("web.enable-lifecycle"),
            enable_remote_write_receiver: self.switch("web.enable-remote-write-receiver"),
            external_url: external_url.clone(),
            route_prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") },
            page_title: self.text("web.page-title"),
            connection_count_max: self.read("web.max-connections", count) as u32,
            body_bytes_max: self.optional_read("web.max-body-size", bytes).filter(|bytes| *bytes > 0),
            read_timeout_ms: self.read("web.read-timeout", positive_duration_ms),
            log_level: match self.choice("log.level", &["info", "debug", "warn", "error"]) {
                "debug" => Level::Debug,
                "warn" => Level::Warn,
                "error" => Level::Error,
                _ => Level::Info,
            },
            log_format: match self.choice("log.format", &["logfmt", "json"]) {
                "json" => LogFormat::Json,
                _ => LogFormat::Logfmt,
            },
            lookback_delta_ms: self.read("query.lookback-delta", positive_duration_ms).cast_signed(),
            query_timeout_ms: self.read("query.timeout", positive_duration_ms),
            query_samples_max: self.read("query.max-samples", count),
            query_count_max: self.read("query.max-concurrency", count) as u32,
            for_outage_tolerance_ms: self.read("rules.alert.for-outage-tolerance", duration_ms),
            for_grace_period_ms: self.read("rules.alert.for-grace-period", duration_ms),
            resend_delay_ms: self.read("rules.alert.resend-delay", positive_duration_ms),
            memory_limit_bytes: self.read("memory.limit", bytes),
            hot_path: self.path("storage.hot-path"),
            flush_interval_ms: self.read("storage.flush-interval", positive_duration_ms),
            host_job: self.text("host.job"),
            host_name: self.optional("host.name"),
            procfs: self.text("path.procfs").into(),
            sysfs: self.text("path.sysfs").into(),
            rootfs: self.text("path.rootfs").into(),
            values: self.shown(),
            notices,
        }
    }

    /// Refuses what is refused; gives the notices of what is ignored.
    fn check_effects(&mut self) -> Vec<String> {
        let (mut notices, mut refused) = (Vec::new(), Vec::new());
        for flag in FLAGS {
            let Some((texts, _)) = self.given.get(flag.name) else { continue };
            match flag.effect {
                Effect::Ignored(why) => notices.push(format!("--{} has no effect: {why}", flag.name)),
                Effect::Refused(advice) if texts.iter().any(|text| text != flag.default) => {
                    refused.push((flag.name, advice))
                }
                Effect::Refused(_) | Effect::Honoured => {}
            }
        }
        for (name, advice) in refused {
            self.wrong(name, &format!("is refused: {advice}"));
        }
        notices
    }

    fn listen_addresses(&mut self) -> Vec<String> {
        let texts = match self.given.get("web.listen-address") {
            Some((texts, _)) => texts.clone(),
            None => vec![default("web.listen-address").into()],
        };
        let mut addresses: Vec<String> = Vec::new();
        for address in texts {
            if !is_listen_address(&address) {
                self.wrong(
                    "web.listen-address",
                    &format!("{address:?} is not host:port; write it like 127.0.0.1:9090 or :9090"),
                );
            } else if addresses.contains(&address) {
                self.wrong("web.listen-address", &format!("{address} is given twice; keep one"));
            }
            addresses.push(address);
        }
        addresses
    }

    fn switch(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|(texts, _)| texts.iter().any(|text| text == "true"))
    }

    /// The value given or the default.
    fn text(&self, name: &str) -> String {
        self.given.get(name).map_or_else(|| default(name).into(), |(texts, _)| texts[0].clone())
    }

    /// `None` when empty.
    fn optional(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.optional(name).map(PathBuf::from)
    }

    fn read(&mut self, name: &str, read: fn(&str) -> Result<u64, String>) -> u64 {
        let text = self.text(name);
        read(&text).unwrap_or_else(|message| {
            self.wrong(name, &message);
            read(default(name)).unwrap_or_else(|error| panic!("the default of --{name} is wrong: {error}"))
        })
    }

    fn optional_read(&mut self, name: &str, read: fn(&str) -> Result<u64, String>) -> Option<u64> {
        let text = self.optional(name)?;
        read(&text).map_err(|message| self.wrong(name, &message)).ok()
    }

    fn choice<'c>(&mut self, name: &str, choices: &[&'c str]) -> &'c str {
        let text = self.text(name);
        match choices.iter().find(|choice| **choice == text) {
            Some(choice) => choice,
            None => {
                self.wrong(name, &format!("{text:?} is none of {}", choices.join(", ")));
                choices[0]
            }
        }
    }

    /// Records an error with the place the value came from.
    fn wrong(&mut self, name: &str, message: &str) {
        let error = match self.given.get(name) {
            Some((_, Source::File(value))) => {
                value.finding(&format!("{}: {message}", name.replace('-', "_"))).to_string()
            }
            _ => format!("--{name}: {message}"),
        };
        self.errors.push(error);
    }

    fn shown(&self) -> Vec<(String, String)> {
        let value = |flag: &Flag| match self.given.get(flag.name) {
            Some((texts, _)) => texts.join(","),
            None => flag.default.into(),
        };
        let shown =
            FLAGS.iter().filter(|flag| flag.origin != Origin::PrometheusHidden || self.given.contains_key(flag.name));
        let mut values: Vec<_> = shown.map(|flag| (flag.name.to_owned(), value(flag))).collect();
        values.sort();
        values
    }
}

fn default(name: &str) -> &'static str {
    flags::flag(name).unwrap_or_else(|| panic!("--{name} is read but not in the table")).default
}

fn duration_ms(text: &str) -> Result<u64, String> {
    parse_duration_ms(text).map_err(|error| error.to_string())
}

fn positive_duration_ms(text: &str) -> Result<u64, String> {
    match duration_ms(text)? {
        0 => Err("must be longer than 0s".into()),
        duration_ms => Ok(duration_ms),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).map_err(|error| error.to_string())
}

/// At least 1, and small enough for a `u32`.
fn count(text: &str) -> Result<u64, String> {
    match text.parse::<u32>() {
        Ok(count) if count > 0 => Ok(count.into()),
        _ => Err(format!("{text:?} is not a whole number from 1 to {}", u32::MAX)),
    }
}

fn is_listen_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    is_host && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

fn is_external_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let strange = |c: char| c.is_whitespace() || c.is_control() || "\"'?#<>".contains(c);
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) && !url.contains(strange)
}

/// Gives somebody an answer. One who has read enough, as `head` does, has it.
pub fn tell(to: &mut impl Write, text: &str) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
