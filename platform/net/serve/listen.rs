//! Binds the addresses to listen on, before anything else of the daemon is started.

use crate::net::{dns::Resolver, io::words, url::split_authority};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("--web.listen-address {address:?} is no host:port")]
    NotAnAddress { address: String },
    #[error("--web.listen-address {address:?}: the host is neither an address nor in the hosts file")]
    UnknownHost { address: String },
    #[error("listen tcp {address}: bind: {}; {}", words(.source), advice(.source))]
    Bind { address: SocketAddr, source: io::Error },
}

/// Binds every address (`host:port`, `:port` for all interfaces), in order.
pub fn bind(addresses: &[String]) -> Result<Vec<TcpListener>, ServeError> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(bind_one(address)?);
    }
    Ok(listeners)
}

fn bind_one(address: &str) -> Result<TcpListener, ServeError> {
    let not_an_address = || ServeError::NotAnAddress { address: address.to_owned() };
    if let Some(port) = address.strip_prefix(':') {
        let port = port.parse().map_err(|_| not_an_address())?;
        // One socket for both families, as Go has it; hosts without IPv6 get the other.
        return bind_to((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| match &error {
            ServeError::Bind { source, .. } if is_family_missing(source) => {
                bind_to((Ipv4Addr::UNSPECIFIED, port).into())
            }
            _ => Err(error),
        });
    }
    let behind_host = address.rfind(']').unwrap_or(0);
    if !address[behind_host..].contains(':') {
        return Err(not_an_address());
    }
    let (host, port) = split_authority(address, 0).ok_or_else(not_an_address)?;
    let mut found = Resolver::system().resolve_locally(host);
    found.sort_by_key(IpAddr::is_ipv6);
    let host = found.first().ok_or_else(|| ServeError::UnknownHost { address: address.to_owned() })?;
    bind_to((*host, port).into())
}

fn bind_to(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).map_err(|source| ServeError::Bind { address, source })
}

fn is_family_missing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop the program that has this port, or choose another with --web.listen-address",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; choose another with --web.listen-address"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; change --web.listen-address",
        _ => "change --web.listen-address",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(address: &str) -> Result<SocketAddr, ServeError> {
        let listeners = bind(&[address.to_owned()])?;
        Ok(listeners[0].local_addr().expect("bound"))
    }

    #[test]
    fn addresses_are_written_as_for_prometheus() {
        assert!(listen("127.0.0.1:0").expect("bound").ip().is_loopback());
        assert!(listen("localhost:0").expect("bound").ip().is_loopback());
        assert!(listen(":0").expect("bound").ip().is_unspecified());
        for nonsense in ["", "9090", "127.0.0.1", "[::1]", "127.0.0.1:http", ":", ":99999", "::1:9090"] {
            assert!(matches!(listen(nonsense), Err(ServeError::NotAnAddress { .. })), "{nonsense:?}");
        }
        assert!(matches!(listen("no-such-host.invalid:0"), Err(ServeError::UnknownHost { .. })));
    }

    #[test]
    fn a_taken_port_is_named_with_advice() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = holder.local_addr().expect("bound").to_string();
        let words = listen(&address).expect_err("taken").to_string();
        assert_eq!(
            words,
            format!(
                "listen tcp {address}: bind: address already in use; stop the program that has this port, or choose \
                 another with --web.listen-address"
            )
        );
    }
}
