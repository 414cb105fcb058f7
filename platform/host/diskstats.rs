//! Disks and what they do, from proc's `diskstats`: `node_disk_*`, in the units of the kernel's iostats document.

use super::reader::{CollectError, Reader, numbers};
use super::writer::{Kind, Writer};

/// Sectors are of 512 bytes here, whatever the disk's are.
const SECTOR_BYTES: u64 = 512;

/// Numbers behind the name: 11 always, 15 since Linux 4.18 (discards), 17 since 5.5 (flushes).
const FIELD_COUNT_MIN: usize = 11;
const FIELD_COUNT_MAX: usize = 17;

enum Unit {
    Count,
    Sectors,
    Milliseconds,
}

/// Field of the line (from zero), family, kind, unit. Sorted by family.
const FIELDS: [(usize, &str, Kind, Unit, &str); FIELD_COUNT_MAX] = [
    (14, "node_disk_discard_time_seconds_total", Kind::Counter, Unit::Milliseconds, "Time spent by discards."),
    (13, "node_disk_discarded_sectors_total", Kind::Counter, Unit::Count, "Sectors discarded."),
    (11, "node_disk_discards_completed_total", Kind::Counter, Unit::Count, "Discards completed."),
    (12, "node_disk_discards_merged_total", Kind::Counter, Unit::Count, "Discards merged with others."),
    (16, "node_disk_flush_requests_time_seconds_total", Kind::Counter, Unit::Milliseconds, "Time spent by flushes."),
    (15, "node_disk_flush_requests_total", Kind::Counter, Unit::Count, "Flushes completed."),
    (8, "node_disk_io_now", Kind::Gauge, Unit::Count, "Requests under way."),
    (
        9,
        "node_disk_io_time_seconds_total",
        Kind::Counter,
        Unit::Milliseconds,
        "Time with at least one request under way.",
    ),
    (
        10,
        "node_disk_io_time_weighted_seconds_total",
        Kind::Counter,
        Unit::Milliseconds,
        "Time times requests under way.",
    ),
    (2, "node_disk_read_bytes_total", Kind::Counter, Unit::Sectors, "Bytes read."),
    (3, "node_disk_read_time_seconds_total", Kind::Counter, Unit::Milliseconds, "Time spent by reads."),
    (0, "node_disk_reads_completed_total", Kind::Counter, Unit::Count, "Reads completed."),
    (1, "node_disk_reads_merged_total", Kind::Counter, Unit::Count, "Reads merged with others."),
    (7, "node_disk_write_time_seconds_total", Kind::Counter, Unit::Milliseconds, "Time spent by writes."),
    (4, "node_disk_writes_completed_total", Kind::Counter, Unit::Count, "Writes completed."),
    (5, "node_disk_writes_merged_total", Kind::Counter, Unit::Count, "Writes merged with others."),
    (6, "node_disk_written_bytes_total", Kind::Counter, Unit::Sectors, "Bytes written."),
];

struct Disk {
    major: String,
    minor: String,
    device: String,
    fields: [u64; FIELD_COUNT_MAX],
    field_count: usize,
}

pub fn collect(reader: &mut Reader, writer: &mut Writer) -> Result<(), CollectError> {
    let disks = read_disks(reader)?;
    for (field, name, kind, unit, help) in &FIELDS {
        if disks.iter().all(|disk| *field >= disk.field_count) {
            continue;
        }
        writer.family(name, *kind, help);
        for disk in disks.iter().filter(|disk| *field < disk.field_count) {
            let labels = [("device", &*disk.device)];
            let value = disk.fields[*field];
            match unit {
                Unit::Count => writer.sample(name, &labels, value),
                Unit::Sectors => writer.sample(name, &labels, value.saturating_mul(SECTOR_BYTES)),
                Unit::Milliseconds => writer.sample(name, &labels, value as f64 / 1000.0),
            }
        }
    }
    let name = "node_disk_info";
    writer.family(name, Kind::Gauge, "Always 1; what a disk is stands in the labels.");
    for disk in &disks {
        write_info(reader, disk, writer, name);
    }
    Ok(())
}

fn read_disks(reader: &mut Reader) -> Result<Vec<Disk>, CollectError> {
    let text = reader.procfs("diskstats")?;
    let mut disks = Vec::new();
    for (line_number, line) in text.lines() {
        let broken = || text.broken(line_number, "expected major, minor, a device and at least 11 numbers");
        let mut words = line.split_ascii_whitespace();
        let (Some(major), Some(minor), Some(device)) = (words.next(), words.next(), words.next()) else {
            return Err(broken());
        };
        if major.parse::<u32>().is_err() || minor.parse::<u32>().is_err() {
            return Err(broken());
        }
        let mut fields = [0; FIELD_COUNT_MAX];
        let field_count = numbers(words, &mut fields).filter(|count| *count >= FIELD_COUNT_MIN).ok_or_else(broken)?;
        if !is_ignored(device) {
            let [major, minor, device] = [major, minor, device].map(str::to_owned);
            disks.push(Disk { major, minor, device, fields, field_count });
        }
    }
    disks.sort_unstable_by(|a, b| a.device.cmp(&b.device));
    Ok(disks)
}

/// node_exporter's default: RAM disks, loop devices, floppies, and the partitions of disks that are there as a whole.
/// Partitions of SD cards (`mmcblk0p1`) stay, as there.
fn is_ignored(device: &str) -> bool {
    let stem = device.trim_end_matches(|character: char| character.is_ascii_digit());
    if stem.len() == device.len() {
        return false;
    }
    if matches!(stem, "ram" | "zram" | "loop" | "fd") {
        return true;
    }
    let disk_of = |prefix| {
        stem.strip_prefix(prefix).is_some_and(|rest: &str| rest.len() == 1 && rest.as_bytes()[0].is_ascii_lowercase())
    };
    if ["hd", "sd", "vd", "xvd"].into_iter().any(disk_of) {
        return true;
    }
    // nvme0n1p1
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    stem.strip_prefix("nvme")
        .and_then(|rest| rest.strip_suffix('p'))
        .and_then(|rest| rest.split_once('n'))
        .is_some_and(|(controller, namespace)| is_number(controller) && is_number(namespace))
}

/// What udev found out about a disk, where there is an udev; boards with mdev have empty labels.
fn write_info(reader: &mut Reader, disk: &Disk, writer: &mut Writer, name: &str) {
    let sys = reader.paths.sysfs.join("block").join(disk.device.replace('/', "!"));
    let rotational = reader.attribute(&sys, "queue/rotational").unwrap_or_default();
    let mut labels = [
        ("device", disk.device.clone()),
        ("major", disk.major.clone()),
        ("minor", disk.minor.clone()),
        ("model", String::new()),
        ("path", String::new()),
        ("revision", String::new()),
        ("rotational", rotational),
        ("serial", String::new()),
        ("wwn", String::new()),
    ];
    if let Ok(text) = reader.rootfs(&format!("run/udev/data/b{}:{}", disk.major, disk.minor)) {
        for (_, line) in text.lines() {
            let Some((key, value)) = line.strip_prefix("E:").and_then(|rest| rest.split_once('=')) else { continue };
            let label = match key {
                "ID_MODEL" => "model",
                "ID_PATH" => "path",
                "ID_REVISION" => "revision",
                "ID_SERIAL_SHORT" => "serial",
                "ID_WWN" => "wwn",
                _ => continue,
            };
            if let Some((_, text)) = labels.iter_mut().find(|(name, _)| *name == label) {
                value.clone_into(text);
            }
        }
    }
    writer.sample(name, &labels.each_ref().map(|(label, text)| (*label, &**text)), 1);
}
