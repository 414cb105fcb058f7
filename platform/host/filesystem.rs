//! Sizes of mounted file systems: `node_filesystem_*`.
//!
//! Mounts come from proc's `1/mountinfo` (the host's view, also from within a container), or `self/mountinfo` where that
//! cannot be read. statvfs(2) on a file system whose server is away blocks for minutes and cannot be interrupted, and we
//! are one thread; therefore file systems behind a network or a FUSE process are never asked, and each such mount is
//! counted in `holdfast_host_filesystem_skipped`. Where their fill matters, run node_exporter and scrape it.

use super::reader::{CollectError, Reader, Text};
use super::system::{Space, System};
use super::writer::{Kind, Writer};
use std::io;
use std::path::Path;

/// Kinds that hold no data of their own: node_exporter's default.
const IGNORED_TYPES: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "erofs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// Mount points, with all below, that are not the host's data: node_exporter's default.
const IGNORED_MOUNT_POINTS: &[&str] = &["/dev", "/proc", "/sys"];
/// Folders whose every entry, with all below, is ignored.
const IGNORED_FOLDERS: &[&str] = &["/run/credentials/", "/var/lib/docker/", "/var/lib/containers/storage/"];

/// Kinds whose answer depends on another machine, or on a process (every `fuse` but `fuseblk`, see `may_hang`).
const NETWORK_TYPES: &[&str] = &[
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "smb3",
    "smbfs",
];

struct Mount {
    device: String,
    fstype: String,
    mount_point: String,
    major: String,
    minor: String,
    read_only: bool,
    space: io::Result<Space>,
}

pub fn collect(reader: &mut Reader, system: &dyn System, writer: &mut Writer) -> Result<(), CollectError> {
    let rootfs = reader.paths.rootfs.clone();
    let Parsed { mut mounts, skipped } = match reader.procfs("1/mountinfo") {
        Ok(text) => parse(&text, &rootfs)?,
        // Hidden (hidepid, another user), or no process 1 in sight.
        Err(CollectError::Missing | CollectError::Unreadable { .. }) => {
            parse(&reader.procfs("self/mountinfo")?, &rootfs)?
        }
        Err(error) => return Err(error),
    };
    for mount in &mut mounts {
        mount.space = system.space(&rootfs.join(mount.mount_point.trim_start_matches('/')));
    }
    write_mounts(&mounts, writer);
    write_skipped(&skipped, writer);
    Ok(())
}

struct Parsed {
    /// Sorted by mount point; `space` not yet asked for.
    mounts: Vec<Mount>,
    /// Kind and number of mounts that were left alone.
    skipped: Vec<(String, u32)>,
}

fn parse(text: &Text, rootfs: &Path) -> Result<Parsed, CollectError> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut skipped: Vec<(String, u32)> = Vec::new();
    for (line_number, line) in text.lines() {
        let line = Line::parse(line).ok_or_else(|| {
            text.broken(line_number, "expected the ten or more words of a mount with a lone hyphen among them")
        })?;
        let Some(mount_point) = below_root(unescaped(line.mount_point), rootfs) else { continue };
        if IGNORED_TYPES.contains(&line.fstype) || is_ignored_mount_point(&mount_point) {
            continue;
        }
        if may_hang(line.fstype) {
            match skipped.iter_mut().find(|(fstype, _)| fstype == line.fstype) {
                Some((_, count)) => *count += 1,
                None => skipped.push((line.fstype.to_owned(), 1)),
            }
            continue;
        }
        let device = unescaped(line.device);
        let is_same =
            |mount: &Mount| mount.mount_point == mount_point && mount.device == device && mount.fstype == line.fstype;
        // The same thing mounted over itself would give the same series twice.
        if mounts.iter().any(is_same) {
            continue;
        }
        mounts.push(Mount {
            device,
            fstype: line.fstype.to_owned(),
            mount_point,
            major: line.major.to_owned(),
            minor: line.minor.to_owned(),
            read_only: line.read_only,
            space: Err(io::ErrorKind::NotFound.into()),
        });
    }
    mounts.sort_unstable_by(|a, b| a.mount_point.cmp(&b.mount_point));
    skipped.sort_unstable();
    Ok(Parsed { mounts, skipped })
}

/// proc_pid_mountinfo(5): `28 22 179:1 / /boot rw,relatime shared:3 - vfat /dev/mmcblk0p1 rw,utf8`.
struct Line<'t> {
    major: &'t str,
    minor: &'t str,
    mount_point: &'t str,
    fstype: &'t str,
    device: &'t str,
    read_only: bool,
}

impl<'t> Line<'t> {
    fn parse(line: &'t str) -> Option<Self> {
        let mut words = line.split(' ');
        let (major, minor) = words.nth(2)?.split_once(':')?;
        let mount_point = words.nth(1)?;
        let options = words.next()?;
        // Any number of optional fields, ended by a hyphen.
        words.find(|word| *word == "-")?;
        let (fstype, device) = (words.next()?, words.next()?);
        let super_options = words.next().unwrap_or_default();
        let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
        let read_only = is_read_only(options) || is_read_only(super_options);
        Some(Self { major, minor, mount_point, fstype, device, read_only })
    }
}

/// Blanks and backslashes of a path are written as a backslash and three octal digits.
fn unescaped(word: &str) -> String {
    let bytes = word.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        let digits = bytes.get(index + 1..index + 4).and_then(|digits| str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(value) if *byte == b'\\' => {
                out.push(value);
                index += 4;
            }
            _ => {
                out.push(*byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The mount point as the host sees it. None for what lies outside of rootfs: seen from a container, its own mounts.
fn below_root(mount_point: String, rootfs: &Path) -> Option<String> {
    if rootfs == Path::new("/") {
        return Some(mount_point);
    }
    match Path::new(&mount_point).strip_prefix(rootfs) {
        Ok(rest) => Some(format!("/{}", rest.display())),
        // Process 1 of the host lists mount points without our prefix.
        Err(_) => Some(mount_point),
    }
}

fn is_ignored_mount_point(mount_point: &str) -> bool {
    let is_at_or_below =
        |root: &str| mount_point.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    IGNORED_MOUNT_POINTS.iter().any(|root| is_at_or_below(root))
        || IGNORED_FOLDERS.iter().any(|folder| mount_point.strip_prefix(folder).is_some_and(|rest| !rest.is_empty()))
}

fn may_hang(fstype: &str) -> bool {
    NETWORK_TYPES.contains(&fstype) || fstype == "fuse" || fstype.starts_with("fuse.")
}

fn write_mounts(mounts: &[Mount], writer: &mut Writer) {
    type Value = fn(&Space) -> u64;
    const SPACES: [(&str, Value, &str); 5] = [
        ("node_filesystem_avail_bytes", |space| space.avail_bytes, "Bytes left for processes without privileges."),
        ("node_filesystem_files", |space| space.files, "Files there can be."),
        ("node_filesystem_files_free", |space| space.files_free, "Files that can still be made."),
        ("node_filesystem_free_bytes", |space| space.free_bytes, "Bytes left."),
        ("node_filesystem_size_bytes", |space| space.size_bytes, "Size of the file system."),
    ];
    for (name, value, help) in SPACES {
        writer.family(name, Kind::Gauge, help);
        for mount in mounts {
            if let Ok(space) = &mount.space {
                writer.sample(name, &labels(mount, ""), value(space));
            }
        }
    }
    let name = "node_filesystem_device_error";
    writer.family(name, Kind::Gauge, "1 if the file system could not be asked for its size; why stands in the labels.");
    for mount in mounts {
        match &mount.space {
            Ok(_) => writer.sample(name, &labels(mount, ""), 0),
            Err(error) => writer.sample(name, &labels(mount, &reason(error)), 1),
        }
    }
    let name = "node_filesystem_readonly";
    writer.family(name, Kind::Gauge, "1 if mounted for reading only.");
    for mount in mounts {
        let reason = mount.space.as_ref().err().map(reason).unwrap_or_default();
        writer.sample(name, &labels(mount, &reason), u8::from(mount.read_only));
    }
    let name = "node_filesystem_mount_info";
    writer.family(name, Kind::Gauge, "Always 1; the device's numbers stand in the labels.");
    for mount in mounts {
        let Mount { device, major, minor, mount_point, .. } = mount;
        writer.sample(name, &[("device", device), ("major", major), ("minor", minor), ("mountpoint", mount_point)], 1);
    }
}

fn labels<'m>(mount: &'m Mount, device_error: &'m str) -> [(&'static str, &'m str); 4] {
    [
        ("device", &mount.device),
        ("device_error", device_error),
        ("fstype", &mount.fstype),
        ("mountpoint", &mount.mount_point),
    ]
}

/// In words, without the number that Rust appends.
fn reason(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(end) = text.find(" (os error") {
        text.truncate(end);
    }
    text.make_ascii_lowercase();
    text
}

fn write_skipped(skipped: &[(String, u32)], writer: &mut Writer) {
    if skipped.is_empty() {
        return;
    }
    let name = "holdfast_host_filesystem_skipped";
    writer.family(name, Kind::Gauge, "Mounts not asked for their size, because the answer could block the daemon.");
    for (fstype, count) in skipped {
        writer.sample(name, &[("fstype", fstype)], count);
    }
}
