//! Tells systemd (or whoever started us with `NOTIFY_SOCKET`) that we are ready, alive and stopping: sd_notify(3).

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// The way to the service manager, or nothing when there is none.
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often the watchdog wants to hear of us: half of its time.
    pub watchdog_interval: Option<Duration>,
}

impl ServiceManager {
    /// From the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_environment() -> io::Result<Self> {
        let watchdog_interval = watchdog_interval(
            std::env::var("WATCHDOG_USEC").ok().as_deref(),
            std::env::var("WATCHDOG_PID").ok().as_deref(),
            std::process::id(),
        );
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(path) if !path.is_empty() => Self::new(&path, watchdog_interval),
            _ => Ok(Self { socket: None, watchdog_interval: None }),
        }
    }

    fn new(path: &OsStr, watchdog_interval: Option<Duration>) -> io::Result<Self> {
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some((socket, address)), watchdog_interval })
    }

    pub fn ready(&self) {
        self.send("READY=1\n");
    }

    pub fn alive(&self) {
        self.send("WATCHDOG=1\n");
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    /// A manager that does not listen is not our failure; its watchdog will act on its own silence.
    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            log::warn!("the service manager's socket does not take {}: {error}", message.trim_end());
        }
    }
}

/// A watchdog meant for another process (`WATCHDOG_PID`) is none of ours.
fn watchdog_interval(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let usec: u64 = usec?.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_ready_alive_and_stopping() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("notify");
        let manager_end = UnixDatagram::bind(&path).expect("bind");
        let manager = ServiceManager::new(path.as_os_str(), None).expect("connect");
        manager.ready();
        manager.alive();
        manager.stopping();
        let mut buffer = [0; 64];
        for expected in ["READY=1\n", "WATCHDOG=1\n", "STOPPING=1\n"] {
            let length = manager_end.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
    }

    #[test]
    fn the_watchdog_is_fed_at_half_its_time_and_only_when_it_is_ours() {
        assert_eq!(watchdog_interval(Some("30000000"), None, 7), Some(Duration::from_secs(15)));
        assert_eq!(watchdog_interval(Some("30000000"), Some("7"), 7), Some(Duration::from_secs(15)));
        assert_eq!(watchdog_interval(Some("30000000"), Some("8"), 7), None);
        assert_eq!(watchdog_interval(Some("0"), None, 7), None);
        assert_eq!(watchdog_interval(Some("soon"), None, 7), None);
        assert_eq!(watchdog_interval(None, None, 7), None);
    }
}
