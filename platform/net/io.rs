//! Hyper's view of a tokio socket and of tokio's timers.

use hyper::rt::{Read, ReadBufCursor, Sleep, Timer, Write};
use std::{
    cell::Cell,
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// One read's piece on the stack, copied into hyper's buffer, which is as large: the price of no `unsafe` here.
const PIECE_BYTES: usize = super::connect::BUFFER_BYTES_MAX;

/// What a socket has been doing.
#[derive(Debug, Default)]
pub struct Activity {
    pub received_bytes: Cell<u64>,
    /// The peer has not taken anything since, though we have something for it.
    pub write_blocked_since: Cell<Option<Instant>>,
}

pub struct SocketIo {
    stream: TcpStream,
    activity: Rc<Activity>,
}

impl SocketIo {
    pub fn new(stream: TcpStream) -> (Self, Rc<Activity>) {
        let activity = Rc::new(Activity::default());
        (Self { stream, activity: Rc::clone(&activity) }, activity)
    }

    /// One read, counted.
    pub fn poll_receive(&mut self, context: &mut Context<'_>, piece: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = piece.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, piece))?;
        let received = &self.activity.received_bytes;
        received.set(received.get() + (piece.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }

    fn note_written<T>(&self, result: &Poll<T>) {
        let since = &self.activity.write_blocked_since;
        match result {
            Poll::Pending if since.get().is_none() => since.set(Some(Instant::now())),
            Poll::Pending => {}
            Poll::Ready(_) => since.set(None),
        }
    }
}

impl Read for SocketIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut space = [const { MaybeUninit::uninit() }; PIECE_BYTES];
        let room = buf.remaining().min(PIECE_BYTES);
        let mut piece = ReadBuf::uninit(&mut space[..room]);
        ready!(self.poll_receive(context, &mut piece))?;
        buf.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for SocketIo {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_written(&result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.note_written(&result);
        result
    }
}

/// Tokio's clock for hyper's time-outs.
pub struct TokioTimer;

struct TokioSleep(Pin<Box<tokio::time::Sleep>>);

impl Timer for TokioTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(TokioSleep(Box::pin(tokio::time::sleep(duration))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(TokioSleep(Box::pin(tokio::time::sleep_until(deadline.into()))))
    }
}

impl Future for TokioSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl Sleep for TokioSleep {}

/// The kernel's word for an error as Go prints it, without Rust's "(os error 111)".
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_gos_do() {
        assert_eq!(words(&io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(words(&io::Error::from_raw_os_error(113)), "no route to host");
        assert_eq!(words(&io::Error::other("Odd")), "odd");
    }
}
