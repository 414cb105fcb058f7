//! From a command line to a running daemon: what can be wrong is found before anything is touched, in this order:
//! configuration, budget, port, data directory, slab. Exit status 2: what was written is wrong; 1: the host does not
//! let us.

use crate::{
    cli::{Command, Flags},
    clock::Clock,
    config::{self, Loaded, Reading},
    disk::{Disk, DiskSettings, flash::Flash, for_start::ForStart},
    host::{HostMetrics, HostPaths},
    log,
    memory::{self, Place, Slab},
    net::serve::{PageFile, ServeSettings},
    run::{Machine, Net, NetSettings, Surroundings},
    systemd::ServiceManager,
    ui,
};
use holdfast_core::{
    daemon::{
        Daemon, HOLDFAST_VERSION, Input, Options, Output, PROMETHEUS_VERSION, output::Level, settings::Opened, start,
    },
    memory::{Budget, Overrides},
    prng, promql,
    rules::template::Template,
    spill::SpillOptions,
    store::stored::Stored,
    time::Now,
};
use std::{fmt::Display, path::Path, process::ExitCode, time::Instant};

/// Share of the data directory's file system, and the most of it, that is used unless
/// `--storage.tsdb.retention.size` says otherwise.
const DISK_SHARE: u64 = 10;
const DISK_BYTES_DEFAULT: u64 = 512 << 20;
/// Connections kept between scrapes, and to upstreams and Alertmanagers.
const KEPT_TARGETS_MAX: usize = 32;
const KEPT_PEERS_MAX: usize = 4;

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

    /// Tells why on standard error.
    fn code_told(self) -> ExitCode {
        eprintln!("{}", self.lines.trim_end());
        ExitCode::from(self.code)
    }
}

pub fn version() -> String {
    format!("holdfast {HOLDFAST_VERSION} (serves the behaviour of Prometheus {PROMETHEUS_VERSION})")
}

pub fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Run(flags) => daemon(&flags),
        Command::Budget(question) => {
            budget(&question.flags).and_then(|budget| tell(&format!("{budget}\n{}", question.answer(&budget))))
        }
        Command::Version => tell(&format!("{}\n", version())),
        Command::CheckConfig { file } => return checked(|reading| config::check::check_config(&file, reading)),
        Command::CheckRules { files } => return checked(|reading| config::check::check_rules(&files, reading)),
        Command::Analyze(analyze) => {
            let default = |path: &Path| default_quota_bytes(file_system_bytes(path), 0);
            crate::cli::analyze::run(&analyze, default).map_err(Refusal::host).and_then(|text| tell(&text))
        }
        Command::Query(query) => match crate::cli::query::run(&query) {
            Ok(answer) => {
                answer.warnings.iter().for_each(|warning| eprintln!("{warning}"));
                tell(&answer.output)
            }
            Err(error) => Err(Refusal::host(error)),
        },
    };
    result.map_or_else(Refusal::code_told, |()| ExitCode::SUCCESS)
}

/// Writes to standard output.
fn tell(text: &str) -> Result<(), Refusal> {
    let told = crate::cli::tell(&mut std::io::stdout().lock(), text);
    told.map_err(|error| Refusal::host(format!("standard output cannot be written: {error}")))
}

fn checked(check: impl FnOnce(&Reading<'_>) -> config::check::Report) -> ExitCode {
    let report = check(&reading("127.0.0.1:9090", "", "node", "localhost", memory_limit_default()));
    let told = tell(&report.output);
    eprint!("{}", report.errors);
    told.map_or_else(Refusal::code_told, |()| ExitCode::from(report.code))
}

fn memory_limit_default() -> u64 {
    16 << 20
}

fn budget(flags: &Flags) -> Result<Budget, Refusal> {
    let connections_count = Some(u64::from(flags.connection_count_max));
    let overrides = Overrides {
        connections_count,
        body_bytes: flags.body_bytes_max,
        receives: flags.enable_remote_write_receiver,
        ..Overrides::default()
    };
    Budget::for_limit(flags.memory_limit_bytes, overrides).map_err(Refusal::written)
}

fn reading<'a>(
    own_address: &'a str,
    route_prefix: &'a str,
    host_job: &'a str,
    host_name: &'a str,
    memory_limit_bytes: u64,
) -> Reading<'a> {
    Reading {
        own_address,
        route_prefix,
        host_job,
        host_name,
        file_bytes_max: config::file_bytes_max(memory_limit_bytes),
        check_expression: &|text| {
            promql::parse(text).map(drop).map_err(|error| (error.span.start, error.message.clone()))
        },
        check_template: &|text| Template::parse("", text).map(drop).map_err(|error| error.to_string()),
        environment: &|name| std::env::var(name).ok(),
    }
}

/// Reads the configuration, at start and at each reload.
fn read_config(flags: &Flags, host_name: &str) -> Result<Loaded, String> {
    let own_address = flags.own_address();
    let reading = reading(&own_address, &flags.route_prefix, &flags.host_job, host_name, flags.memory_limit_bytes);
    match &flags.config_file {
        Some(path) => config::load(path, &reading).map_err(|refused| refused.to_string()),
        None => Ok(config::built_in(&reading)),
    }
}

/// What this thread has had of the processor.
fn thread_cpu_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1_000
}

fn daemon(flags: &Flags) -> Result<(), Refusal> {
    let clock = Clock::start();
    log::install(flags.log_level, flags.log_format);
    let host_name = flags.host_name.clone().unwrap_or_else(memory::hostname);
    let loaded = read_config(flags, &host_name).map_err(Refusal::written)?;
    let budget = budget(flags)?;
    memory::ALLOCATOR.set_limit(heap_bytes_max(&budget));

    let net = Net::listen(net_settings(flags, &budget)).map_err(Refusal::host)?;
    let mut disk_settings = DiskSettings {
        path: flags.storage_path.clone(),
        quota_bytes: 0,
        log_bytes: SpillOptions::log_bytes(&budget.plan()),
        heap_bytes_max: budget.region("sqlite").map_or(1 << 20, |region| region.total_bytes),
    };
    let quota_bytes = flags.retention_bytes.unwrap_or_else(|| {
        default_quota_bytes(file_system_bytes(&flags.storage_path), disk_settings.quota_bytes_min())
    });
    disk_settings.quota_bytes = quota_bytes;
    let mut disk = Flash::open(&disk_settings).map_err(Refusal::host)?;
    let boot_id =
        memory::boot_id().map_err(|error| Refusal::host(format!("the kernel's boot id cannot be read: {error}")))?;
    let (now, store_uuid) = (clock.now(), disk.store_uuid());
    let mut retired = None;
    let mut retire = |old: &mut [u8]| {
        retired = Some(start::retire_slab(old, store_uuid, boot_id, &mut ForStart(&mut disk), now));
    };
    let mut slab = Slab::open(flags.hot_path.as_deref(), &flags.storage_path, budget.plan().slab_bytes(), &mut retire)
        .map_err(Refusal::host)?;

    slab.blame_for_panics();
    log::line(Level::Info, 0, &format!("starting {}", version()));
    for notice in flags.notices.iter().cloned().chain(loaded.notices.iter().map(ToString::to_string)) {
        warn(&notice);
    }
    if let Place::Anonymous { notice } = &slab.place {
        warn(notice);
    }
    for address in flags.open_addresses() {
        warn(&format!(
            "listening on {address} without authentication: whoever reaches it can read everything; listen on \
             127.0.0.1, or put a proxy with authentication in front"
        ));
    }

    let opening = (Instant::now(), thread_cpu_us());
    let start::Opened { store, spill, start: how, notices } = start::open_store(
        start::SlabGiven { bytes: slab.bytes, is_predecessors: slab.is_predecessors, retired },
        &budget.plan(),
        store_uuid,
        boot_id,
        &mut ForStart(&mut disk),
        &loaded.settings,
        now,
    )
    .map_err(Refusal::host)?;
    let took_us = u64::try_from(opening.0.elapsed().as_micros()).unwrap_or(u64::MAX);
    let cpu_us = thread_cpu_us().saturating_sub(opening.1);
    log::line(Level::Info, 0, &format!("{how} ({}.{:03} ms)", took_us / 1000, took_us % 1000));
    for notice in &notices {
        warn(notice);
    }
    let opened = match how {
        start::Start::Attached(_) => Opened::Attached { took_us, cpu_us },
        start::Start::Recovered { .. } => Opened::Recovered { took_us },
    };
    let options = options(flags, &budget, &host_name, quota_bytes, store_uuid, now, opened);
    let daemon = Daemon::new(options, loaded.settings, store, spill, now, disk.stored());
    let daemon = daemon
        .map_err(|errors| Refusal::written(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;

    let mut host = HostMetrics::new(HostPaths {
        procfs: flags.procfs.clone(),
        sysfs: flags.sysfs.clone(),
        rootfs: flags.rootfs.clone(),
    });
    let manager = ServiceManager::from_environment()
        .map_err(|error| Refusal::host(format!("the service manager's socket ($NOTIFY_SOCKET): {error}")))?;
    let surroundings = Surroundings {
        clock,
        disk: &mut disk,
        host: &mut |text| host.render(text),
        reread: &mut || {
            let loaded = read_config(flags, &host_name)?;
            loaded.notices.iter().for_each(|notice| warn(&notice.to_string()));
            Ok(loaded.settings)
        },
        manager,
    };
    log::line(Level::Info, 0, &format!("listening on {}", flags.listen_addresses.join(", ")));
    net.run(&mut Running(daemon), surroundings).map_err(Refusal::host)?;
    Ok(())
}

fn warn(notice: &str) {
    log::line(Level::Warn, prng::stable_hash(notice.as_bytes()), notice);
}

/// What the allocator gives at most: everything of the budget that is neither slab nor program nor SQLite's own heap.
fn heap_bytes_max(budget: &Budget) -> usize {
    let heap = budget.regions().iter().filter(|region| !region.in_slab && !matches!(region.name, "program" | "sqlite"));
    usize::try_from(heap.map(|region| region.total_bytes).sum::<u64>()).unwrap_or(usize::MAX)
}

fn net_settings(flags: &Flags, budget: &Budget) -> NetSettings {
    let bodies = budget.region("bodies").map(|bodies| (bodies.bytes_each as usize, bodies.total_bytes as usize));
    let (body_bytes_max, bodies_bytes_max) = bodies.unwrap_or_default();
    NetSettings {
        listen: flags.listen_addresses.clone(),
        serve: ServeSettings {
            connection_count_max: flags.connection_count_max as usize,
            body_bytes_max,
            bodies_bytes_max,
            read_timeout_ms: flags.read_timeout_ms,
            ..ServeSettings::default()
        },
        pages: |path| {
            let ui::PageFile { gzip, content_type, etag, immutable } = ui::page(path)?;
            Some(PageFile { gzip, content_type, etag, immutable })
        },
        kept_targets_max: KEPT_TARGETS_MAX,
        kept_peers_max: KEPT_PEERS_MAX,
    }
}

fn options(
    flags: &Flags,
    budget: &Budget,
    host_name: &str,
    quota_bytes: u64,
    store_uuid: [u8; 16],
    now: Now,
    opened: Opened,
) -> Options {
    Options {
        lookback_delta_ms: flags.lookback_delta_ms,
        query_timeout_ms: flags.query_timeout_ms,
        query_samples_max: flags.query_samples_max,
        query_count_max: flags.query_count_max as usize,
        query_bytes_max: budget.queries_bytes(),
        external_url: flags.external_url_or(host_name),
        route_prefix: flags.route_prefix.clone(),
        enable_lifecycle: flags.enable_lifecycle,
        enable_remote_write_receiver: flags.enable_remote_write_receiver,
        flush_interval_ms: flags.flush_interval_ms,
        retention_ms: flags.retention_ms,
        retention_bytes: Some(quota_bytes),
        resend_delay_ms: flags.resend_delay_ms,
        for_outage_tolerance_ms: flags.for_outage_tolerance_ms,
        for_grace_period_ms: flags.for_grace_period_ms,
        hostname: host_name.to_owned(),
        page_title: flags.page_title.clone(),
        flags: flags.values.clone(),
        storage_path: flags.storage_path.display().to_string(),
        memory_limit_bytes: budget.limit_bytes(),
        seed: prng::stable_hash(&store_uuid),
        started_wall_ms: now.wall_ms,
        opened,
    }
}

/// The smaller of 512 MiB and a tenth of the file system, and never less than a store needs: a small disk is no reason
/// not to start. One without a size (proc, say) is not complained of here; what is wrong with it is found when the
/// directory is made.
fn default_quota_bytes(file_system_bytes: u64, quota_bytes_min: u64) -> u64 {
    match file_system_bytes {
        0 => DISK_BYTES_DEFAULT,
        bytes => (bytes / DISK_SHARE).clamp(quota_bytes_min, DISK_BYTES_DEFAULT),
    }
}

/// Size of the file system that has the path, or will have it.
fn file_system_bytes(path: &Path) -> u64 {
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("."));
    rustix::fs::statvfs(existing).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// The core's daemon as the loop drives it.
struct Running(Daemon<'static>);

impl Machine for Running {
    fn handle(&mut self, now: Now, input: Input<'_>, stored: &mut dyn Stored) {
        self.0.handle(now, input, stored);
    }

    fn poll_output<'b>(&mut self, now: Now, buf: &'b mut [u8], stored: &mut dyn Stored) -> Output<'b> {
        self.0.poll_output(now, buf, stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a data partition of 64 MiB, a tenth was less than the store's least quota, and the default configuration
    /// did not start.
    #[test]
    fn the_default_quota_is_a_tenth_between_the_least_and_512_mib() {
        const MIN: u64 = 10 << 20;
        for (file_system_bytes, quota_bytes) in [
            (0, DISK_BYTES_DEFAULT),
            (1, MIN),
            (64 << 20, MIN),
            (MIN * 10 + 9, MIN),
            (MIN * 10 + 10, MIN + 1),
            (DISK_BYTES_DEFAULT * 10 - 1, DISK_BYTES_DEFAULT - 1),
            (DISK_BYTES_DEFAULT * 10, DISK_BYTES_DEFAULT),
            (u64::MAX, DISK_BYTES_DEFAULT),
        ] {
            assert_eq!(default_quota_bytes(file_system_bytes, MIN), quota_bytes, "{file_system_bytes}");
        }
    }
}
