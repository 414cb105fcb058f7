use super::reader::FILE_BYTES_MAX;
use super::system::{Space, System, Uname};
use super::{COLLECTORS, HostMetrics, HostPaths};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// A host whose clock advances a quarter of a second each time it is looked at, and whose `/gone` has an error.
struct FakeSystem {
    quarters: Cell<u32>,
}

impl System for FakeSystem {
    fn wall_s(&self) -> f64 {
        1_764_000_123.5
    }

    fn mono_s(&self) -> f64 {
        self.quarters.set(self.quarters.get() + 1);
        f64::from(self.quarters.get()) / 4.0
    }

    fn uname(&self) -> Uname {
        Uname {
            sysname: "Linux".into(),
            release: "6.1.0-board".into(),
            version: "#1 SMP".into(),
            machine: "armv7l".into(),
            nodename: "pump-7".into(),
            domainname: "(none)".into(),
        }
    }

    fn space(&self, mount_point: &Path) -> io::Result<Space> {
        if mount_point.ends_with("gone") {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(Space { size_bytes: 1 << 34, free_bytes: 1 << 33, avail_bytes: 1 << 32, files: 1000, files_free: 900 })
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/host")
}

fn fake_host(root: &Path) -> HostMetrics {
    let paths = HostPaths { procfs: root.join("proc"), sysfs: root.join("sys"), rootfs: root.join("root") };
    HostMetrics::with_system(paths, Box::new(FakeSystem { quarters: Cell::new(0) }))
}

fn rendered(host: &mut HostMetrics) -> String {
    let mut out = String::new();
    host.render(&mut out);
    out
}

/// A copy of the fixture that a test may spoil.
fn copied_fixture() -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    copy(&fixture(), directory.path());
    directory
}

/// Spoils one file of the fixture; gives the exposition and the failures as `collector: error`.
fn with_file(name: &str, content: &[u8]) -> (String, Vec<String>) {
    let directory = copied_fixture();
    let path = directory.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    let mut host = fake_host(directory.path());
    let out = rendered(&mut host);
    let root = directory.path().display().to_string();
    let failures =
        host.failures().iter().map(|failure| format!("{}: {}", failure.collector, failure.error.replace(&root, "")));
    (out, failures.collect())
}

#[track_caller]
fn assert_line(out: &str, line: &str) {
    assert!(out.lines().any(|candidate| candidate == line), "no line {line:?} in\n{out}");
}

#[track_caller]
fn assert_no_line(out: &str, start: &str) {
    let found = out.lines().find(|line| line.starts_with(start));
    assert_eq!(found, None, "nothing should start with {start:?}");
}

#[test]
fn the_board_of_the_fixture_gives_exactly_the_expected_exposition() {
    let root = fixture();
    let mut host = fake_host(&root);
    let out = rendered(&mut host);
    assert_eq!(host.failures(), []);
    let expected_path = root.join("expected.prom");
    let expected = std::fs::read_to_string(expected_path).unwrap();
    for (index, (line, expected_line)) in out.lines().zip(expected.lines()).enumerate() {
        assert_eq!(line, expected_line, "line {}", index + 1);
    }
    assert_eq!(out.lines().count(), expected.lines().count());
}

#[test]
fn every_family_is_written_once_with_help_and_type_before_its_samples_and_no_series_twice() {
    let out = rendered(&mut fake_host(&fixture()));
    let mut families = BTreeMap::new();
    let mut series = BTreeMap::new();
    let mut current = "";
    for line in out.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            current = rest.split(' ').next().unwrap();
            assert_eq!(families.insert(current, ()), None, "family {current} twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest.split(' ').next(), Some(current));
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next(), Some(current));
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert_eq!(series.insert(name, ()), None, "series {name} twice");
        }
    }
    assert!(families.len() > 60, "{}", families.len());
}

#[test]
fn an_empty_host_is_no_failure_and_gives_what_needs_no_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = fake_host(directory.path());
    let out = rendered(&mut host);
    assert_eq!(host.failures(), []);
    assert_line(&out, "node_time_seconds 1764000123.5");
    assert_line(&out, "node_scrape_collector_success{collector=\"uname\"} 1");
    for collector in COLLECTORS.iter().map(|row| row.name).filter(|name| !["time", "uname"].contains(name)) {
        assert_no_line(&out, &format!("node_scrape_collector_success{{collector=\"{collector}\"}}"));
    }
}

#[test]
fn a_broken_line_silences_its_collector_alone_and_is_named() {
    let check = |file: &str, content: &str, collector: &str, error_start: &str| {
        let (out, failures) = with_file(file, content.as_bytes());
        assert_line(&out, &format!("node_scrape_collector_success{{collector=\"{collector}\"}} 0"));
        assert_line(&out, "node_scrape_collector_success{collector=\"time\"} 1");
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].starts_with(error_start), "{failures:?}");
    };
    check("proc/loadavg", "0.1 0.2\n", "loadavg", "loadavg: /proc/loadavg line 1 ");
    check("proc/loadavg", "0.1 0.2 nan 1/2 3\n", "loadavg", "loadavg: /proc/loadavg line 1 ");
    check("proc/meminfo", "MemTotal: 1 kB\nMemFree 2 kB\n", "meminfo", "meminfo: /proc/meminfo line 2 ");
    check("proc/meminfo", "Mem Total: 1 kB\n", "meminfo", "meminfo: /proc/meminfo line 1 ");
    check("proc/meminfo", "MemTotal: 1 MB\n", "meminfo", "meminfo: /proc/meminfo line 1 ");
    check("proc/meminfo", "MemTotal: -1 kB\n", "meminfo", "meminfo: /proc/meminfo line 1 ");
    check("proc/net/dev", "a\nb\neth0: 1 2 3\n", "netdev", "netdev: /proc/net/dev line 3 ");
    check("proc/diskstats", "8 0 sda 1 2 3\n", "diskstats", "diskstats: /proc/diskstats line 1 ");
    check("proc/diskstats", "8 x sda 1 2 3 4 5 6 7 8 9 10 11\n", "diskstats", "diskstats: /proc/diskstats line 1 ");
    check("proc/1/mountinfo", "1 2 3:4 / /\n", "filesystem", "filesystem: /proc/1/mountinfo line 1 ");
    check("proc/vmstat", "pgfault\n", "vmstat", "vmstat: /proc/vmstat line 1 ");
}

#[test]
fn a_broken_cpu_line_takes_back_what_the_collector_had_written() {
    let (out, failures) = with_file("proc/stat", b"cpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 1 2 x 4\nbtime 5\n");
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].starts_with("cpu: /proc/stat line 2 "), "{failures:?}");
    assert_no_line(&out, "node_cpu");
    assert_no_line(&out, "# HELP node_cpu");
    assert_line(&out, "node_boot_time_seconds 5");
}

#[test]
fn three_times_of_a_cpu_are_too_few_and_four_of_an_old_kernel_are_enough() {
    let (out, failures) = with_file("proc/stat", b"cpu0 1 2 3\n");
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_no_line(&out, "node_cpu");
    let (out, failures) = with_file("proc/stat", b"cpu0 1 2 3 4\n");
    assert!(failures.is_empty(), "{failures:?}");
    assert_line(&out, "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 0.04");
    assert_line(&out, "node_cpu_seconds_total{cpu=\"0\",mode=\"steal\"} 0");
}

#[test]
fn foreign_bytes_fail_a_collector_and_never_the_daemon() {
    for file in ["proc/stat", "proc/loadavg", "proc/meminfo", "proc/diskstats", "proc/1/mountinfo", "proc/vmstat"] {
        let (out, _) = with_file(file, b"\xff\xfe\x00 cpu0: \\\n\n{\"} 9e99 -\xf0\n");
        assert_line(&out, "node_time_seconds 1764000123.5");
        assert!(!out.contains('\0'), "{file}");
    }
}

#[test]
fn a_file_at_the_bound_is_read_and_one_byte_more_is_refused_by_name() {
    let mut content = b"0.1 0.2 0.3 ".to_vec();
    content.resize(FILE_BYTES_MAX, b' ');
    let (out, failures) = with_file("proc/loadavg", &content);
    assert!(failures.is_empty(), "{failures:?}");
    assert_line(&out, "node_load15 0.3");
    content.push(b' ');
    let (out, failures) = with_file("proc/loadavg", &content);
    assert_eq!(failures.len(), 1);
    assert!(failures[0].starts_with("loadavg: /proc/loadavg is longer than 524288 bytes"), "{failures:?}");
    assert_no_line(&out, "node_load");
}

/// The kernel's idle time slips back now and then. A counter that follows counts as reset: rate() then shows days of
/// idle time in one interval. What holds now: it stays, and a CPU that was away and counts anew does start over.
#[test]
fn cpu_times_never_slip_back_but_a_replugged_cpu_starts_over() {
    let directory = copied_fixture();
    let mut host = fake_host(directory.path());
    let mut idle_after = |line: &str| {
        std::fs::write(directory.path().join("proc/stat"), line).unwrap();
        let out = rendered(&mut host);
        let prefix = "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} ";
        out.lines().find_map(|line| line.strip_prefix(prefix)).unwrap().to_owned()
    };
    assert_eq!(idle_after("cpu0 100 0 0 1000 0 0 0 0 0 0\n"), "10");
    assert_eq!(idle_after("cpu0 100 0 0 999 0 0 0 0 0 0\n"), "10");
    assert_eq!(idle_after("cpu0 100 0 0 700 0 0 0 0 0 0\n"), "10");
    assert_eq!(idle_after("cpu0 101 0 0 1001 0 0 0 0 0 0\n"), "10.01");
    assert_eq!(idle_after("cpu0 1 0 0 700 0 0 0 0 0 0\n"), "7");
    assert_eq!(idle_after("cpu0 2 0 0 701 0 0 0 0 0 0\n"), "7.01");
}

#[test]
fn a_cpu_that_is_gone_has_no_series_any_more() {
    let directory = copied_fixture();
    let mut host = fake_host(directory.path());
    assert!(rendered(&mut host).contains("node_cpu_seconds_total{cpu=\"10\""));
    std::fs::write(directory.path().join("proc/stat"), "cpu0 1 2 3 4\n").unwrap();
    let out = rendered(&mut host);
    assert!(out.contains("node_cpu_seconds_total{cpu=\"0\""));
    assert!(!out.contains("cpu=\"10\""));
}

#[test]
fn without_the_hosts_own_mounts_ours_are_shown() {
    let directory = copied_fixture();
    std::fs::remove_file(directory.path().join("proc/1/mountinfo")).unwrap();
    std::fs::create_dir_all(directory.path().join("proc/self")).unwrap();
    std::fs::write(directory.path().join("proc/self/mountinfo"), "1 1 8:9 / / rw - ext4 /dev/own rw\n").unwrap();
    let out = rendered(&mut fake_host(directory.path()));
    assert_line(
        &out,
        "node_filesystem_size_bytes{device=\"/dev/own\",device_error=\"\",fstype=\"ext4\",mountpoint=\"/\"} 17179869184",
    );
}

#[test]
fn mount_points_below_rootfs_lose_its_prefix() {
    let directory = copied_fixture();
    let root = directory.path().join("root").display().to_string();
    let mounts = format!("1 1 8:9 / {root} rw - ext4 /dev/a rw\n2 1 8:8 / {root}/srv rw - xfs /dev/b rw\n");
    std::fs::write(directory.path().join("proc/1/mountinfo"), mounts).unwrap();
    let out = rendered(&mut fake_host(directory.path()));
    assert!(out.contains("fstype=\"ext4\",mountpoint=\"/\"}"), "{out}");
    assert!(out.contains("fstype=\"xfs\",mountpoint=\"/srv\"}"), "{out}");
}

#[test]
fn label_values_are_escaped() {
    let (out, _) = with_file("proc/1/mountinfo", b"1 1 8:9 / /a\\042b\\134c\\012d rw - ext4 /dev/x rw\n");
    assert!(out.contains("mountpoint=\"/a\\\"b\\\\c\\nd\"}"), "{out}");
}

#[test]
fn a_pipe_in_place_of_a_file_does_not_stop_the_daemon() {
    let directory = copied_fixture();
    let path = directory.path().join("root/etc/os-release");
    std::fs::remove_file(&path).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let out = rendered(&mut fake_host(directory.path()));
    assert_line(&out, "node_time_seconds 1764000123.5");
}

#[test]
fn text_is_appended_and_what_was_there_stays() {
    let mut out = String::from("before 1\n");
    fake_host(&fixture()).render(&mut out);
    assert!(out.starts_with("before 1\n# HELP node_cpu_guest_seconds_total "));
}

#[test]
fn this_very_machine_is_read_without_failure() {
    let mut host = HostMetrics::new(HostPaths::default());
    let out = rendered(&mut host);
    assert_eq!(host.failures(), []);
    for start in ["node_cpu_seconds_total{", "node_memory_MemTotal_bytes ", "node_load1 ", "node_uname_info{"] {
        assert!(out.lines().any(|line| line.starts_with(start)), "{start}\n{out}");
    }
}
