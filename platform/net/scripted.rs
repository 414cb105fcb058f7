//! A peer on a raw socket that does what a test tells it, and the runtime that tests of sockets share.

use super::{Event, Events};
use std::{future::Future, net::SocketAddr, rc::Rc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions},
    time::timeout,
};

/// Longer than any test should take; it only ends those that would hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test as the daemon runs: local tasks on one thread.
pub fn on_one_thread<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime");
    runtime.block_on(async { timeout(PATIENCE, future).await.expect("the test hangs") })
}

pub struct Peer {
    listener: Rc<TcpListener>,
    pub address: SocketAddr,
}

impl Peer {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        Self { listener: Rc::new(listener), address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn accept(&self) -> Wire {
        Wire { stream: self.listener.accept().await.expect("accepted").0, unread: Vec::new() }
    }
}

/// One connection, seen raw.
pub struct Wire {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("connected"), unread: Vec::new() }
    }

    pub async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    /// Everything up to and with `end`; what came behind it waits for the next call.
    pub async fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end) {
                let rest = self.unread.split_off(at + end.len());
                return std::mem::replace(&mut self.unread, rest);
            }
            let mut piece = [0; 4096];
            let length = self.stream.read(&mut piece).await.expect("readable");
            assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&self.unread));
            self.unread.extend_from_slice(&piece[..length]);
        }
    }

    /// A message's head, as text.
    pub async fn read_head(&mut self) -> String {
        String::from_utf8(self.read_until(b"\r\n\r\n").await).expect("text")
    }

    pub async fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            let mut piece = [0; 4096];
            let read = self.stream.read(&mut piece).await.expect("readable");
            assert!(read > 0, "closed after {} of {length} bytes", self.unread.len());
            self.unread.extend_from_slice(&piece[..read]);
        }
        let rest = self.unread.split_off(length);
        std::mem::replace(&mut self.unread, rest)
    }

    /// Whether the other side closes with nothing more, and without a reset.
    pub async fn is_closed_cleanly(&mut self) -> bool {
        self.unread.is_empty() && matches!(self.stream.read(&mut [0; 1]).await, Ok(0))
    }

    /// What is left until the other side closes; a reset counts as closing.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.unread);
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = self.stream.read(&mut piece).await {
            bytes.extend_from_slice(&piece[..length]);
        }
        bytes
    }
}

pub async fn next(events: &Events) -> Event {
    events.arrived().await;
    events.pop().expect("an event has arrived")
}
