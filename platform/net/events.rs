//! The queue between the tasks that own sockets and the one loop.
//!
//! Bodies wait for room, so that a fast exporter is slowed down by TCP instead of filling memory. Everything else is
//! bounded by the number of fetches, posts and requests in flight and never waits.

use bytes::Bytes;
use holdfast_core::daemon::input::{FetchId, Input, Method, PostId, RequestId};
use std::{cell::RefCell, collections::VecDeque, rc::Rc};
use tokio::sync::Notify;

/// Body bytes of fetches that may wait in the queue. One piece is let in however large it is.
pub const FETCHED_BYTES_MAX: usize = 64 * 1024;

/// Something that happened on a socket: an [`Input`] that owns its bytes.
#[derive(Debug)]
pub enum Event {
    FetchHead {
        fetch: FetchId,
        status: u16,
        content_type: String,
    },
    FetchBody {
        fetch: FetchId,
        bytes: Bytes,
    },
    FetchEnd {
        fetch: FetchId,
    },
    FetchFailed {
        fetch: FetchId,
        error: String,
    },
    Request {
        request: RequestId,
        method: Method,
        path: String,
        query: String,
        content_type: String,
        content_encoding: String,
        body: Vec<u8>,
    },
    RequestReady {
        request: RequestId,
    },
    RequestGone {
        request: RequestId,
    },
    PostAnswered {
        post: PostId,
        status: u16,
        retry_after_ms: Option<u64>,
        body: String,
    },
    PostFailed {
        post: PostId,
        error: String,
    },
}

impl Event {
    /// The same for the core, which a request's body is given to.
    pub fn input(&mut self) -> Input<'_> {
        match self {
            Self::FetchHead { fetch, status, content_type } => {
                Input::FetchHead { fetch: *fetch, status: *status, content_type }
            }
            Self::FetchBody { fetch, bytes } => Input::FetchBody { fetch: *fetch, bytes },
            Self::FetchEnd { fetch } => Input::FetchEnd { fetch: *fetch },
            Self::FetchFailed { fetch, error } => Input::FetchFailed { fetch: *fetch, error },
            Self::Request { request, method, path, query, content_type, content_encoding, body } => {
                let (request, method, body) = (*request, *method, std::mem::take(body));
                Input::Request { request, method, path, query, content_type, content_encoding, body }
            }
            Self::RequestReady { request } => Input::RequestReady { request: *request },
            Self::RequestGone { request } => Input::RequestGone { request: *request },
            Self::PostAnswered { post, status, retry_after_ms, body } => {
                Input::PostAnswered { post: *post, status: *status, retry_after_ms: *retry_after_ms, body }
            }
            Self::PostFailed { post, error } => Input::PostFailed { post: *post, error },
        }
    }

    fn fetched_bytes(&self) -> usize {
        match self {
            Self::FetchBody { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    fn fetch(&self) -> Option<FetchId> {
        match self {
            Self::FetchHead { fetch, .. }
            | Self::FetchBody { fetch, .. }
            | Self::FetchEnd { fetch }
            | Self::FetchFailed { fetch, .. } => Some(*fetch),
            _ => None,
        }
    }
}

/// One handle to the queue; clones share it.
#[derive(Clone, Default)]
pub struct Events {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: RefCell<VecDeque<Event>>,
    arrived: Notify,
    room: Notify,
}

impl Events {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&self, event: Event) {
        self.shared.queue.borrow_mut().push_back(event);
        self.shared.arrived.notify_one();
    }

    /// For pieces of a fetch's body: waits until there is room. Dropping the future gives the place up.
    pub async fn push_fetched(&self, event: Event) {
        let bytes = event.fetched_bytes();
        while self.fetched_bytes() > FETCHED_BYTES_MAX.saturating_sub(bytes) && self.fetched_bytes() > 0 {
            self.shared.room.notified().await;
        }
        self.push(event);
        // Whoever else was woken for the same room looks again.
        self.shared.room.notify_one();
    }

    pub fn pop(&self) -> Option<Event> {
        let event = self.shared.queue.borrow_mut().pop_front()?;
        if event.fetched_bytes() > 0 {
            self.shared.room.notify_one();
        }
        Some(event)
    }

    /// Ends when the queue holds something. Safe to drop and to call again.
    pub async fn arrived(&self) {
        while self.shared.queue.borrow().is_empty() {
            self.shared.arrived.notified().await;
        }
    }

    /// Takes back what is still queued of a fetch that was given up.
    pub fn forget_fetch(&self, fetch: FetchId) {
        self.shared.queue.borrow_mut().retain(|event| event.fetch() != Some(fetch));
        self.shared.room.notify_one();
    }

    fn fetched_bytes(&self) -> usize {
        self.shared.queue.borrow().iter().map(Event::fetched_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    fn piece(fetch: u64, length: usize) -> Event {
        Event::FetchBody { fetch: FetchId(fetch), bytes: Bytes::from(vec![b'x'; length]) }
    }

    #[test]
    fn a_piece_of_body_waits_for_room_and_gets_in_when_another_is_taken() {
        let events = Events::new();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(events.push_fetched(piece(1, FETCHED_BYTES_MAX))).poll(&mut context).is_ready());
        let mut second = pin!(events.push_fetched(piece(2, 1)));
        assert_eq!(second.as_mut().poll(&mut context), Poll::Pending);
        events.push(Event::FetchEnd { fetch: FetchId(3) });
        assert_eq!(second.as_mut().poll(&mut context), Poll::Pending);
        assert!(events.pop().is_some());
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(()));
    }

    #[test]
    fn a_piece_larger_than_the_queue_passes_alone() {
        let events = Events::new();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(events.push_fetched(piece(1, FETCHED_BYTES_MAX * 2))).poll(&mut context).is_ready());
        assert!(pin!(events.push_fetched(piece(2, 1))).poll(&mut context).is_pending());
    }

    #[test]
    fn giving_a_fetch_up_takes_its_events_back_and_makes_room() {
        let events = Events::new();
        events.push(piece(1, FETCHED_BYTES_MAX));
        events.push(Event::FetchEnd { fetch: FetchId(2) });
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = pin!(events.push_fetched(piece(2, 5)));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        events.forget_fetch(FetchId(1));
        assert!(waiting.as_mut().poll(&mut context).is_ready());
        assert!(matches!(events.pop(), Some(Event::FetchEnd { fetch: FetchId(2) })));
        assert!(matches!(events.pop(), Some(Event::FetchBody { fetch: FetchId(2), .. })));
        assert!(events.pop().is_none());
    }
}
