//! Binds the addresses to listen on, before anything else of the daemon is started.

use crate::net::{dns::Resolver, io::words, url::split_authority};
use rustix::{
    io::Errno,
    net::{self, AddressFamily, SocketFlags, SocketType, sockopt},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener},
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

/// Connections that the kernel holds until they are accepted; more wait for their client's next attempt. As in std.
const BACKLOG_COUNT: i32 = 128;

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
        return bind_everywhere(port, bind_both_families);
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

/// One socket for both families, as Go has it; hosts without IPv6 get the other.
fn bind_everywhere(
    port: u16,
    both: impl FnOnce(SocketAddrV6) -> io::Result<TcpListener>,
) -> Result<TcpListener, ServeError> {
    let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    match both(address) {
        Err(source) if is_family_missing(&source) => bind_to((Ipv4Addr::UNSPECIFIED, port).into()),
        result => result.map_err(|source| ServeError::Bind { address: address.into(), source }),
    }
}

/// As std binds, but for both families also where the host's `net.ipv6.bindv6only` is set.
fn bind_both_families(address: SocketAddrV6) -> io::Result<TcpListener> {
    let socket = net::socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    // After a restart the old connections' remains must not be in the way.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG_COUNT)?;
    Ok(socket.into())
}

fn bind_to(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let bound = match address {
        SocketAddr::V6(all) if all.ip().is_unspecified() => bind_both_families(all),
        one => TcpListener::bind(one),
    };
    bound.map_err(|source| ServeError::Bind { address, source })
}

fn is_family_missing(error: &io::Error) -> bool {
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
    use std::net::TcpStream;

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

    /// As Prometheus with `:9090`; a peer that resolves this host's name to its IPv6 address once found nobody there.
    #[test]
    fn no_host_means_both_families_on_one_socket() {
        let listener = bind(&[":0".to_owned()]).expect("bound").remove(0);
        let address = listener.local_addr().expect("bound");
        let clients = if address.is_ipv6() { &["127.0.0.1", "::1"][..] } else { &["127.0.0.1"] };
        for client in clients {
            let ip: IpAddr = client.parse().expect("an address");
            TcpStream::connect((ip, address.port())).expect(client);
            listener.accept().expect("accepted");
        }
    }

    #[test]
    fn a_host_without_ipv6_serves_ipv4_and_another_failure_is_told() {
        let failing = |errno: Errno| move |_: SocketAddrV6| Err(io::Error::from(errno));
        for missing in [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL] {
            let listener = bind_everywhere(0, failing(missing)).expect("bound");
            assert_eq!(listener.local_addr().expect("bound").ip(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        }
        let words = bind_everywhere(80, failing(Errno::ACCESS)).expect_err("refused").to_string();
        assert!(words.starts_with("listen tcp [::]:80: bind: permission denied"), "{words}");
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
