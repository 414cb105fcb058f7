//! What the host is asked by system call rather than by file, behind a seam so that tests have a world of their own.

use std::io;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Sizes of one file system, as statvfs(3) gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub size_bytes: u64,
    pub free_bytes: u64,
    /// What is left for processes without privileges.
    pub avail_bytes: u64,
    pub files: u64,
    pub files_free: u64,
}

/// uname(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uname {
    pub sysname: String,
    pub release: String,
    pub version: String,
    pub machine: String,
    pub nodename: String,
    pub domainname: String,
}

pub trait System {
    /// Seconds since 1970 by the wall clock.
    fn wall_s(&self) -> f64;
    /// Seconds since an arbitrary instant, never going back.
    fn mono_s(&self) -> f64;
    fn uname(&self) -> Uname;
    fn space(&self, mount_point: &Path) -> io::Result<Space>;
}

pub struct RealSystem {
    started: Instant,
}

impl RealSystem {
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl System for RealSystem {
    fn wall_s(&self) -> f64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_secs_f64(),
            Err(before) => -before.duration().as_secs_f64(),
        }
    }

    fn mono_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn uname(&self) -> Uname {
        let uname = rustix::system::uname();
        let text = |field: &core::ffi::CStr| field.to_string_lossy().into_owned();
        Uname {
            sysname: text(uname.sysname()),
            release: text(uname.release()),
            version: text(uname.version()),
            machine: text(uname.machine()),
            nodename: text(uname.nodename()),
            domainname: text(uname.domainname()),
        }
    }

    fn space(&self, mount_point: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(mount_point)?;
        // Counts are in fragments (f_frsize), as df shows them; where a FUSE file system sets another f_bsize,
        // multiplying by that would be wrong.
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space {
            size_bytes: bytes(stat.f_blocks),
            free_bytes: bytes(stat.f_bfree),
            avail_bytes: bytes(stat.f_bavail),
            files: stat.f_files,
            files_free: stat.f_ffree,
        })
    }
}
