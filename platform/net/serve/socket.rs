//! A client's connection as hyper serves it: what hyper alone would not take or say as Go's server does is settled here.
//!
//! - Requests' targets may hold raw bytes (see [`Targets`]).
//! - Hyper refuses a bad head with a status and an empty body; the client is told what was wrong.
//! - The connection is closed only when the client has stopped sending or a moment has passed: the kernel answers unread
//!   bytes with a reset, in which the client would lose the answer that says why its request was refused.

use super::targets::{GROWTH, Targets};
use crate::net::{connect::BUFFER_BYTES_MAX, io::SocketIo};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::{
    cell::Cell,
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{io::ReadBuf, time::Sleep};

/// One read's piece on the stack, copied into hyper's buffer: the price of no `unsafe` here.
const PIECE_BYTES: usize = BUFFER_BYTES_MAX;
/// How long and how much is taken of a client that still sends when its connection is closed. Go waits as long.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES_MAX: usize = 1 << 20;

pub struct RequestSocket {
    socket: SocketIo,
    targets: Targets,
    /// Grown beyond the room there was; for the next read.
    held: Vec<u8>,
    /// A refusal with its reason that the socket has not taken yet.
    owed: Vec<u8>,
    refused_count: Rc<Cell<u64>>,
    linger: Option<Linger>,
}

struct Linger {
    until: Pin<Box<Sleep>>,
    taken_bytes: usize,
}

impl RequestSocket {
    /// `refused_count` counts the heads that hyper refuses.
    pub fn new(socket: SocketIo, refused_count: Rc<Cell<u64>>) -> Self {
        Self { socket, targets: Targets::new(), held: Vec::new(), owed: Vec::new(), refused_count, linger: None }
    }

    /// Whether `bytes` was a refusal of hyper's, which then goes out with its reason.
    fn take_refusal(&mut self, bytes: &[u8]) -> bool {
        let Some(explained) = explained(bytes) else { return false };
        self.refused_count.set(self.refused_count.get() + 1);
        self.owed = explained;
        true
    }

    fn poll_owed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.owed.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, &self.owed))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.owed.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the client has stopped sending, or has had its time.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let linger =
            self.linger.get_or_insert_with(|| Linger { until: Box::pin(tokio::time::sleep(LINGER)), taken_bytes: 0 });
        while linger.taken_bytes < LINGER_BYTES_MAX && linger.until.as_mut().poll(context).is_pending() {
            let mut space = [const { MaybeUninit::uninit() }; PIECE_BYTES];
            let mut piece = ReadBuf::uninit(&mut space);
            match ready!(self.socket.poll_receive(context, &mut piece)) {
                Ok(()) if !piece.filled().is_empty() => linger.taken_bytes += piece.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl Read for RequestSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.held.is_empty() {
            let mut space = [const { MaybeUninit::uninit() }; PIECE_BYTES];
            let wanted = this.targets.read_bytes_max(buf.remaining()).min(PIECE_BYTES);
            let mut piece = ReadBuf::uninit(&mut space[..wanted]);
            ready!(this.socket.poll_receive(context, &mut piece))?;
            let held = &mut this.held;
            this.targets.pass(piece.filled(), |bytes| {
                let (fits, rest) = bytes.split_at(bytes.len().min(buf.remaining()));
                buf.put_slice(fits);
                held.extend_from_slice(rest);
            });
            assert!(held.len() <= GROWTH, "{} bytes read have grown beyond the room for them", piece.filled().len());
        } else {
            let length = this.held.len().min(buf.remaining());
            buf.put_slice(&this.held[..length]);
            this.held.drain(..length);
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for RequestSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_owed(context))?;
        if self.take_refusal(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_owed(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(self.poll_owed(context))?;
            ready!(Pin::new(&mut self.socket).poll_shutdown(context))?;
        }
        self.poll_linger(context).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_owed(context))?;
        if let [piece] = pieces
            && self.take_refusal(piece)
        {
            return Poll::Ready(Ok(piece.len()));
        }
        Pin::new(&mut self.socket).poll_write_vectored(context, pieces)
    }
}

/// Hyper's own refusal of a head with the reason as its body; `None` for anything else. Hyper has no hook for them, but
/// they are the only messages with these three lines and no others: every answer of ours to a wrong request has a body.
fn explained(message: &[u8]) -> Option<Vec<u8>> {
    let lines = std::str::from_utf8(message).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = lines.split("\r\n");
    let status = lines.next()?.split_once(' ')?.1;
    let mut date = None;
    let (mut is_empty, mut is_last) = (false, false);
    for line in lines {
        match line.split_once(": ")? {
            ("content-length", "0") => is_empty = true,
            ("connection", "close") => is_last = true,
            ("date", value) => date = Some(value),
            _ => return None,
        }
    }
    let reason = match status.split_once(' ')?.0 {
        "400" => {
            "not a valid HTTP/1.1 request; spaces and control characters in a URL must be percent-encoded".to_owned()
        }
        "414" => "the URL is too long; send a long query as a form, with POST".to_owned(),
        "431" => format!(
            "the request line and the headers are larger than {BUFFER_BYTES_MAX} bytes or more than 100; send a long \
             query as a form, with POST"
        ),
        _ => return None,
    };
    if !(is_empty && is_last) {
        return None;
    }
    let body = format!("{status}: {reason}\n");
    let date = date.map(|date| format!("date: {date}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\
         {date}\r\n",
        body.len()
    );
    Some([head, body].concat().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypers_refusals_are_explained_and_nothing_else_is_touched() {
        let refusal = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: D\r\n\r\n";
        let text = String::from_utf8(explained(refusal).expect("a refusal")).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.ends_with("connection: close\r\ndate: D"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        assert!(body.starts_with("400 Bad Request: not a valid"), "{body}");
        for other in [
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx",
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\nx: y\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r",
            "400\r\n\r\n",
            "",
        ] {
            assert_eq!(explained(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(explained(b"\xff\r\n\r\n"), None);
    }
}
