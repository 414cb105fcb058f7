//! From a command line to a running daemon: what can be wrong is found before anything is touched, in this order:
//! configuration, budget, port, data directory, slab. Exit status 2: what was written is wrong; 1: the host does not
//! let us.

use crate::{
    clock::Clock,
    cli::{Command, Flags},
    config::{self, Loaded, Reading},
    disk::{Disk, DiskSettings, flash::Flash},
    host::{HostMetrics, HostPaths},
    log,
    memory::{self, Slab},
    run::{self, Machine},
    systemd::ServiceManager,
};
use holdfast_core::{
    daemon::{Daemon, HOLDFAST_VERSION, Input, Options, Output, PROMETHEUS_VERSION, Settings, output::Level},
    memory::{Budget, Overrides},
    prng, promql, rules,
    spill::{ClockEpoch, FRAME_BYTES_MAX, Recovery, Replay, RowsStored, SPILL_STATE_KEY, Spill, SpillOptions, SpillState},
    store::{Identity, Store, TimelineKey, stored::Stored},
    time::Now,
};
use std::{fmt::Display, path::Path, process::ExitCode};

/// Share of the data directory's file system, and the most of it, that is used unless
/// `--storage.tsdb.retention.size` says otherwise.
const DISK_SHARE: u64 = 10;
const DISK_BYTES_DEFAULT: u64 = 512 << 20;
/// Space reserved for each of the two tail logs.
const TAIL_LOG_BYTES: u64 = 4 << 20;

/// A start that failed.
struct Refusal {
    code: u8,
    lines: String,
}

impl Refusal {
    fn written(lines: impl Display) -> Self {
        Self { code: 2, lines: lines.to_string() }
    }

    fn host(lines: impl Display) -> Self {
        Self { code: 1, lines: lines.to_string() }
    }
}

pub fn version() -> String {
    format!("holdfast {HOLDFAST_VERSION} (serves the behaviour of Prometheus {PROMETHEUS_VERSION})")
}

pub fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Run(flags) => daemon(&flags),
        Command::Budget(flags) => budget(&flags).map(|budget| print!("{budget}")),
        Command::Version => {
            println!("{}", version());
            Ok(())
        }
        Command::CheckConfig { file } => return checked(config::check::config(&file, &check_expression, &check_template)),
        Command::CheckRules { files } => return checked(config::check::rules(&files, &check_expression, &check_template)),
        Command::Query(query) => match query.run() {
            Ok(answer) => {
                print!("{answer}");
                Ok(())
            }
            Err(error) => Err(Refusal::host(error)),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            eprintln!("{}", refusal.lines.trim_end());
            ExitCode::from(refusal.code)
        }
    }
}

fn budget(flags: &Flags) -> Result<Budget, Refusal> {
    Budget::for_limit(flags.memory_limit_bytes, Overrides::default()).map_err(Refusal::written)
}

fn check_expression(text: &str) -> Result<(), (usize, String)> {
    promql::parse(text).map(drop).map_err(|error| (error.offset(), error.to_string()))
}

fn check_template(text: &str) -> Result<(), String> {
    rules::template::check(text).map_err(|error| error.to_string())
}

/// Reads the configuration, at start and at each reload.
fn read_config(flags: &Flags, hostname: &str) -> Result<Loaded, String> {
    let own_address = flags.own_address();
    let reading = Reading {
        own_address: &own_address,
        route_prefix: &flags.route_prefix,
        host_job: &flags.host_job,
        host_name: hostname,
        check_expression: &check_expression,
        check_template: &check_template,
        environment: &|name| std::env::var(name).ok(),
    };
    match &flags.config_file {
        Some(path) => config::load(path, &reading).map_err(|refused| refused.to_string()),
        None => Ok(config::built_in(&reading)),
    }
}

fn daemon(flags: &Flags) -> Result<(), Refusal> {
    let clock = Clock::start();
    log::install(flags.log_level);
    let hostname = flags.host_name.clone().unwrap_or_else(memory::hostname);
    let loaded = read_config(flags, &hostname).map_err(Refusal::written)?;
    let budget = budget(flags)?;
    memory::set_heap_limit(&budget);

    let net = run::Net::listen(flags, &budget).map_err(Refusal::host)?;
    let quota_bytes = flags.retention_bytes.unwrap_or_else(|| default_quota_bytes(&flags.storage_path));
    let disk_settings = DiskSettings {
        path: flags.storage_path.clone(),
        quota_bytes,
        log_bytes: TAIL_LOG_BYTES,
        heap_bytes_max: budget.region("sqlite").map_or(1 << 20, |region| region.total_bytes),
    };
    let mut disk = Flash::open(&disk_settings).map_err(Refusal::host)?;
    let slab = Slab::open(flags.hot_path.as_deref(), &flags.storage_path, budget.plan().slab_bytes()).map_err(Refusal::host)?;
    if let memory::Place::Anonymous { notice } = &slab.place {
        log::line(Level::Warn, 0, notice);
    }

    log::line(Level::Info, 0, &format!("starting {}", version()));
    for notice in flags.notices.iter().cloned().chain(loaded.notices.iter().map(ToString::to_string)) {
        log::line(Level::Warn, prng::stable_hash(notice.as_bytes()), &notice);
    }
    for address in flags.open_addresses() {
        log::line(
            Level::Warn,
            prng::stable_hash(address.as_bytes()),
            &format!("listening on {address} without authentication: everybody who reaches it can read everything; listen on 127.0.0.1 or put a proxy with authentication in front"),
        );
    }

    let boot_id = memory::boot_id().map_err(|error| Refusal::host(format!("the kernel's boot id cannot be read: {error}")))?;
    let now = clock.now();
    let (store, spill) = open_store(slab, &budget, &mut disk, boot_id, &loaded.settings, now).map_err(Refusal::host)?;
    let options = options(flags, &budget, &hostname, quota_bytes, &disk, now);
    let daemon = Daemon::new(options, loaded.settings, store, spill, now).map_err(|errors| {
        Refusal::written(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;

    let host = HostMetrics::new(HostPaths {
        procfs: flags.procfs.clone(),
        sysfs: flags.sysfs.clone(),
        rootfs: flags.rootfs.clone(),
    });
    let manager = ServiceManager::from_environment()
        .map_err(|error| Refusal::host(format!("the service manager's socket ($NOTIFY_SOCKET): {error}")))?;
    let reread = || read_config(flags, &hostname);
    net.run(daemon, disk, host, clock, manager, &reread).map_err(Refusal::host)
}

fn options(flags: &Flags, budget: &Budget, hostname: &str, quota_bytes: u64, disk: &Flash, now: Now) -> Options {
    Options {
        lookback_delta_ms: flags.lookback_delta_ms,
        query_timeout_ms: flags.query_timeout_ms,
        query_samples_max: flags.query_samples_max,
        query_bytes_max: budget.queries_bytes(),
        external_url: flags.external_url_or(hostname),
        route_prefix: flags.route_prefix.clone(),
        enable_lifecycle: flags.enable_lifecycle,
        flush_interval_ms: flags.flush_interval_ms,
        retention_ms: flags.retention_ms,
        retention_bytes: Some(quota_bytes),
        resend_delay_ms: flags.resend_delay_ms,
        for_outage_tolerance_ms: flags.for_outage_tolerance_ms,
        for_grace_period_ms: flags.for_grace_period_ms,
        hostname: hostname.to_owned(),
        flags: flags.values.clone(),
        storage_path: flags.storage_path.display().to_string(),
        memory_limit_bytes: budget.limit_bytes(),
        seed: prng::stable_hash(&disk.store_uuid()),
        started_wall_ms: now.wall_ms,
    }
}

/// The smaller of 512 MiB and a tenth of the file system.
fn default_quota_bytes(path: &Path) -> u64 {
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    rustix::fs::statvfs(existing)
        .map_or(DISK_BYTES_DEFAULT, |stat| (stat.f_blocks * stat.f_frsize / DISK_SHARE).min(DISK_BYTES_DEFAULT))
}

/// Goes on with the predecessor's slab, or recovers from the data directory into a fresh one.
fn open_store(
    slab: Slab,
    budget: &Budget,
    disk: &mut Flash,
    boot_id: [u8; 16],
    settings: &Settings,
    now: Now,
) -> Result<(Store<'static>, Spill), String> {
    let state = match disk.state(SPILL_STATE_KEY).map_err(|error| error.to_string())? {
        Some(bytes) => SpillState::decode(&bytes).map_err(|error| format!("holdfast.db: {error}"))?,
        None => SpillState::default(),
    };
    let identity = Identity { store_uuid: disk.store_uuid(), boot_id, log_generation: state.log_generation };
    let plan = budget.plan();
    let epoch = ClockEpoch::new(boot_id, now);
    let options = SpillOptions::new(disk.store_uuid());
    let bytes = if slab.is_predecessors {
        match Store::attach(slab.bytes, &plan, &identity) {
            Ok((store, report)) => {
                log::line(
                    Level::Info,
                    0,
                    &format!("attached to the store of the process before: {} series, {} rows", report.series, report.rows),
                );
                let generation_seen = store.log_generation();
                return Ok((store, Spill::new(options, epoch, state, generation_seen)));
            }
            Err((error, bytes)) => {
                log::line(Level::Info, 0, &format!("the store in memory is not gone on with, recovering from disk: {error}"));
                bytes
            }
        }
    } else {
        slab.bytes
    };
    let mut store = Store::create(bytes, &plan, identity).map_err(|error| error.to_string())?;
    for key in holdfast_core::daemon::state_keys(settings) {
        if let Some(bytes) = disk.state(&key).map_err(|error| error.to_string())? {
            store.state_put(&key, &bytes).map_err(|error| format!("{key}: {error}"))?;
        }
    }
    let generation_seen = replay(disk, &mut store, state)?;
    Ok((store, Spill::new(options, epoch, state, generation_seen)))
}

/// Reads the tail log into the store: the generation the database names, then the one after it where it was begun.
fn replay(disk: &mut Flash, store: &mut Store<'_>, state: SpillState) -> Result<u64, String> {
    let mut buf = vec![0; FRAME_BYTES_MAX + 4096];
    let mut newest = state.log_generation;
    let mut replay = Replay::new(1 << 20);
    for file in 0..2 {
        let mut recovery = Recovery::new(&mut buf, None);
        read_log(disk, file, &mut recovery, &mut |_| {}).map_err(|error| error.to_string())?;
        newest = newest.max(recovery.finish().generation.unwrap_or(0));
    }
    for generation in [state.log_generation, state.log_generation + 1] {
        if generation == 0 || generation > newest {
            continue;
        }
        let mut recovery = Recovery::new(&mut buf, Some(generation));
        let mut rows = StoredRows { disk: disk.stored(), ends: Vec::new() };
        rows.load()?;
        let ends = std::mem::take(&mut rows.ends);
        let mut stored = KnownRows { ends: &ends };
        read_log(disk, generation, &mut recovery, &mut |frame| replay.apply(frame, store, &mut stored))
            .map_err(|error| error.to_string())?;
        let report = recovery.finish();
        log::line(Level::Info, 0, &format!("tail log generation {generation}: {report:?}"));
    }
    let report = replay.finish(store);
    log::line(Level::Info, 0, &format!("recovered from the tail log: {report:?}"));
    Ok(newest)
}
