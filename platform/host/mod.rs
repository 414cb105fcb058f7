//! The host's own metrics, under node_exporter's names, in the text format 0.0.4.
//!
//! One file per collector, one row per collector in `COLLECTORS`. A collector whose files do not exist is off: a board
//! without thermal zones is no error. One that meets something it cannot read gives nothing but
//! `node_scrape_collector_success 0`, and the reason in [`HostMetrics::failures`].
//!
//! Everything is read in the one thread, so nothing here may hang: only proc, sys, udev's data and os-release are opened
//! (regular or virtual files of the kernel, each read up to [`FILE_BYTES_MAX`]), and no network file system is asked for
//! its size (see `filesystem`).

mod cpu;
mod diskstats;
mod filesystem;
mod loadavg;
mod meminfo;
mod netclass;
mod netdev;
mod os_release;
mod reader;
mod stat;
mod system;
mod thermal;
mod time;
mod uname;
mod vmstat;
mod writer;

use reader::{CollectError, Reader};
use std::path::PathBuf;
use system::{RealSystem, System};
use writer::{Kind, Writer};

pub use reader::FILE_BYTES_MAX;

/// Where the host's files are: in a container often `/host/proc`, `/host/sys` and `/host/root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPaths {
    pub procfs: PathBuf,
    pub sysfs: PathBuf,
    /// Prefix of mount points, of `etc/os-release` and of `run/udev/data`.
    pub rootfs: PathBuf,
}

impl Default for HostPaths {
    fn default() -> Self {
        Self { procfs: "/proc".into(), sysfs: "/sys".into(), rootfs: "/".into() }
    }
}

/// Why a collector gave nothing in the last [`HostMetrics::render`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFailure {
    pub collector: &'static str,
    pub error: String,
}

/// Reads the host; keeps its buffers, and what counters must not fall below, from scrape to scrape.
pub struct HostMetrics {
    reader: Reader,
    system: Box<dyn System>,
    cpu: cpu::CpuState,
    failures: Vec<HostFailure>,
}

/// One row per collector: its name in `node_scrape_collector_success` and the function that writes its families.
struct Collector {
    name: &'static str,
    collect: fn(&mut HostMetrics, &mut Writer) -> Result<(), CollectError>,
}

const COLLECTORS: &[Collector] = &[
    Collector { name: "cpu", collect: |host, writer| cpu::collect(&mut host.reader, &mut host.cpu, writer) },
    Collector { name: "diskstats", collect: |host, writer| diskstats::collect(&mut host.reader, writer) },
    Collector {
        name: "filesystem",
        collect: |host, writer| filesystem::collect(&mut host.reader, &*host.system, writer),
    },
    Collector { name: "loadavg", collect: |host, writer| loadavg::collect(&mut host.reader, writer) },
    Collector { name: "meminfo", collect: |host, writer| meminfo::collect(&mut host.reader, writer) },
    Collector { name: "netclass", collect: |host, writer| netclass::collect(&mut host.reader, writer) },
    Collector { name: "netdev", collect: |host, writer| netdev::collect(&mut host.reader, writer) },
    Collector { name: "os", collect: |host, writer| os_release::collect(&mut host.reader, writer) },
    Collector { name: "stat", collect: |host, writer| stat::collect(&mut host.reader, writer) },
    Collector { name: "thermal_zone", collect: |host, writer| thermal::collect(&mut host.reader, writer) },
    Collector { name: "time", collect: |host, writer| time::collect(&*host.system, writer) },
    Collector { name: "uname", collect: |host, writer| uname::collect(&*host.system, writer) },
    Collector { name: "vmstat", collect: |host, writer| vmstat::collect(&mut host.reader, writer) },
];

impl HostMetrics {
    pub fn new(paths: HostPaths) -> Self {
        Self::with_system(paths, Box::new(RealSystem::new()))
    }

    fn with_system(paths: HostPaths, system: Box<dyn System>) -> Self {
        Self { reader: Reader::new(paths), system, cpu: cpu::CpuState::default(), failures: Vec::new() }
    }

    /// Appends one whole exposition to `out`. Never fails as a whole: see [`HostMetrics::failures`].
    pub fn render(&mut self, out: &mut String) {
        self.failures.clear();
        // Per collector: seconds taken, and whether it succeeded. None: off on this host.
        let mut outcomes = [None; COLLECTORS.len()];
        let mut writer = Writer::new(out);
        for (outcome, collector) in outcomes.iter_mut().zip(COLLECTORS) {
            let mark = writer.mark();
            let started_s = self.system.mono_s();
            let result = (collector.collect)(self, &mut writer);
            let duration_s = self.system.mono_s() - started_s;
            match result {
                Ok(()) => *outcome = Some((duration_s, true)),
                Err(CollectError::Missing) => writer.rewind(mark),
                Err(error) => {
                    writer.rewind(mark);
                    *outcome = Some((duration_s, false));
                    self.failures.push(HostFailure { collector: collector.name, error: error.to_string() });
                }
            }
        }
        let name = "node_scrape_collector_duration_seconds";
        writer.family(name, Kind::Gauge, "Time this collector took.");
        for (outcome, collector) in outcomes.iter().zip(COLLECTORS) {
            if let Some((duration_s, _)) = outcome {
                writer.sample(name, &[("collector", collector.name)], *duration_s);
            }
        }
        let name = "node_scrape_collector_success";
        writer.family(name, Kind::Gauge, "1 if this collector could read everything it needs, else 0.");
        for (outcome, collector) in outcomes.iter().zip(COLLECTORS) {
            if let Some((_, success)) = outcome {
                writer.sample(name, &[("collector", collector.name)], f64::from(u8::from(*success)));
            }
        }
    }

    /// The collectors that failed in the last `render`, for the log. Empty when all is well.
    pub fn failures(&self) -> &[HostFailure] {
        &self.failures
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
