//! Reads the kernel's small files into one kept buffer, never more than a bound.

use super::HostPaths;
use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Longest file we read: `mountinfo` of a crowded Kubernetes node, or `stat` of a machine with hundreds of cores, has
/// room several times over. A longer one fails its collector by name, and is not cut.
pub const FILE_BYTES_MAX: usize = 512 * 1024;

/// Most entries of one directory (network interfaces, thermal zones) that are looked at. More fail the collector.
pub const DIRECTORY_ENTRY_COUNT_MAX: usize = 4096;

#[derive(Debug, Error)]
pub enum CollectError {
    /// The file that this collector lives from does not exist: it is off on this host.
    #[error("not on this host")]
    Missing,
    #[error("cannot read {}: {error}; check the file's permissions and --path.procfs, --path.sysfs, --path.rootfs", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{} is longer than {FILE_BYTES_MAX} bytes; if it is what it should be, please report its size", path.display())]
    TooLong { path: PathBuf },
    #[error("{} has more than {DIRECTORY_ENTRY_COUNT_MAX} entries", path.display())]
    TooManyEntries { path: PathBuf },
    #[error("{} line {line_number} is not as the kernel writes it: {what}; check --path.procfs and --path.sysfs", path.display())]
    Broken { path: PathBuf, line_number: usize, what: &'static str },
}

/// The three roots and the buffer.
pub struct Reader {
    pub paths: HostPaths,
    buffer: Vec<u8>,
}

impl Reader {
    pub fn new(paths: HostPaths) -> Self {
        Self { paths, buffer: Vec::new() }
    }

    /// A file of procfs; `name` is relative.
    pub fn procfs(&mut self, name: &str) -> Result<Text<'_>, CollectError> {
        self.read(self.paths.procfs.join(name))
    }

    /// A file of the host's root; `name` is relative.
    pub fn rootfs(&mut self, name: &str) -> Result<Text<'_>, CollectError> {
        self.read(self.paths.rootfs.join(name))
    }

    /// One value of sysfs, trimmed. None when there is no such file or the driver refuses to tell (a link that is down has
    /// no carrier, a sensor that sleeps has no temperature): one silent device must not silence the others.
    pub fn attribute(&mut self, path: &Path, name: &str) -> Option<String> {
        let text = self.read(path.join(name)).ok()?;
        Some(text.content.trim().to_owned())
    }

    /// Names in a directory of sysfs that start with `prefix`, sorted.
    pub fn entries(&self, name: &str, prefix: &str) -> Result<Vec<String>, CollectError> {
        let path = self.paths.sysfs.join(name);
        let unreadable = |error: io::Error| CollectError::Unreadable { path: path.clone(), error };
        let directory = match std::fs::read_dir(&path) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CollectError::Missing),
            Err(error) => return Err(unreadable(error)),
        };
        let mut names = Vec::new();
        for (index, entry) in directory.enumerate() {
            if index == DIRECTORY_ENTRY_COUNT_MAX {
                return Err(CollectError::TooManyEntries { path });
            }
            // A name that is no UTF-8 is none the kernel gives.
            if let Ok(name) = entry.map_err(unreadable)?.file_name().into_string()
                && name.starts_with(prefix)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read(&mut self, path: PathBuf) -> Result<Text<'_>, CollectError> {
        self.buffer.clear();
        match read_bounded(&path, &mut self.buffer) {
            Ok(()) if self.buffer.len() > FILE_BYTES_MAX => Err(CollectError::TooLong { path }),
            Ok(()) => Ok(Text { path, content: String::from_utf8_lossy(&self.buffer) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CollectError::Missing),
            Err(error) => Err(CollectError::Unreadable { path, error }),
        }
    }
}

fn read_bounded(path: &Path, buffer: &mut Vec<u8>) -> io::Result<()> {
    // Should a pipe lie where a file was expected, opening it must not wait for a writer.
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // One more than allowed, so that the caller sees a longer file.
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(buffer)?;
    Ok(())
}

/// The content of a file; what is no UTF-8 (a mount point may have such bytes) is replaced.
pub struct Text<'r> {
    path: PathBuf,
    pub content: Cow<'r, str>,
}

impl Text<'_> {
    /// Lines with their numbers, counted from one.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.content.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The error of a line that is not as the kernel writes it; `what` says what was expected.
    pub fn broken(&self, line_number: usize, what: &'static str) -> CollectError {
        CollectError::Broken { path: self.path.clone(), line_number, what }
    }
}

/// Fills `fields` with the decimal numbers of a line; returns how many there were. None at the first word that is no
/// number; numbers past the end of `fields` (a newer kernel's) are not looked at.
pub fn numbers<'a>(words: impl Iterator<Item = &'a str>, fields: &mut [u64]) -> Option<usize> {
    let mut count = 0;
    for (field, word) in fields.iter_mut().zip(words) {
        *field = word.parse().ok()?;
        count += 1;
    }
    Some(count)
}
