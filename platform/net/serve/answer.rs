//! One answer on its way: pieces come from the loop, hyper takes them when the client has room.
//!
//! ```text
//! respond -> piece -> [taken by hyper, its buffer drained] -> RequestReady -> piece -> ... -> last
//! ```

use super::{Event, Events, Open};
use bytes::Bytes;
use holdfast_core::daemon::input::RequestId;
use hyper::{
    HeaderMap, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{self, HeaderValue},
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Shared by the loop, which fills it, and the connection, which drains it.
pub struct Answer {
    id: RequestId,
    events: Events,
    request_headers: RequestHeaders,
    state: RefCell<State>,
}

/// What of a request's headers decides how a page is sent.
#[derive(Clone, Debug, Default)]
pub struct RequestHeaders {
    pub accept_encoding: Option<HeaderValue>,
    pub if_none_match: Option<HeaderValue>,
}

#[derive(Default)]
struct State {
    head: Option<(StatusCode, HeaderMap)>,
    pieces: VecDeque<Bytes>,
    end: Option<End>,
    /// The next piece has been asked for and has not come.
    is_asked: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Good,
    Broken,
}

/// Whether an answer's first piece is also its last: then its length is known and is sent.
pub enum Whole {
    Yes(Bytes),
    No,
}

/// The core could not finish what it had begun.
#[derive(Debug, thiserror::Error)]
#[error("the answer was broken off")]
pub struct BrokenOff;

impl Answer {
    pub fn new(id: RequestId, events: Events, headers: &HeaderMap) -> Self {
        let request_headers = RequestHeaders {
            accept_encoding: headers.get(header::ACCEPT_ENCODING).cloned(),
            if_none_match: headers.get(header::IF_NONE_MATCH).cloned(),
        };
        Self { id, events, request_headers, state: RefCell::default() }
    }

    pub fn request_headers(&self) -> &RequestHeaders {
        &self.request_headers
    }

    pub fn set_head(&self, status: StatusCode, headers: HeaderMap) {
        self.change(|state| state.head = Some((status, headers)));
    }

    pub fn push(&self, bytes: &[u8]) {
        self.push_bytes(Bytes::copy_from_slice(bytes));
    }

    pub fn push_bytes(&self, bytes: Bytes) {
        self.change(|state| {
            // An empty piece must not stop the answer: what was asked for has come, so more is asked for.
            state.is_asked = false;
            if !bytes.is_empty() {
                state.pieces.push_back(bytes);
            }
        });
    }

    pub fn end(&self, broken: bool) {
        self.change(|state| state.end = Some(if broken { End::Broken } else { End::Good }));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.state.borrow_mut();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends when there is a head and something behind it.
    pub async fn begun(&self) -> (StatusCode, HeaderMap, Whole) {
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            let has_begun = state.head.is_some() && (!state.pieces.is_empty() || state.end.is_some());
            match state.head.take_if(|_| has_begun) {
                Some((status, headers)) => {
                    let is_whole = state.end == Some(End::Good) && state.pieces.len() <= 1;
                    let whole =
                        if is_whole { Whole::Yes(state.pieces.pop_front().unwrap_or_default()) } else { Whole::No };
                    Poll::Ready((status, headers, whole))
                }
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Hyper asks for the next piece only when its own buffer has room again.
    fn poll_piece(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let is_newly_asked = {
            let mut state = self.state.borrow_mut();
            if let Some(piece) = state.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match state.end {
                Some(End::Good) => return Poll::Ready(None),
                Some(End::Broken) => return Poll::Ready(Some(Err(BrokenOff))),
                None => {}
            }
            state.waker = Some(context.waker().clone());
            !std::mem::replace(&mut state.is_asked, true)
        };
        if is_newly_asked {
            self.events.push(Event::RequestReady { request: self.id });
        }
        Poll::Pending
    }
}

/// What hyper sends. Dropping it before its end tells the core that the client has gone.
pub struct AnswerBody {
    source: Source,
    _open: Option<Open>,
}

enum Source {
    Bytes(Bytes),
    Stream(Rc<Answer>),
}

impl AnswerBody {
    pub fn whole(bytes: Bytes, open: Open) -> Self {
        Self { source: Source::Bytes(bytes), _open: Some(open) }
    }

    pub fn streamed(answer: Rc<Answer>, open: Open) -> Self {
        Self { source: Source::Stream(answer), _open: Some(open) }
    }

    /// An answer that the core knows nothing of.
    pub fn text(words: String) -> Self {
        Self { source: Source::Bytes(Bytes::from(words)), _open: None }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.source {
            Source::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Stream(answer) => answer.poll_piece(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Bytes(bytes) => bytes.is_empty(),
            Source::Stream(answer) => {
                let state = answer.state.borrow();
                state.pieces.is_empty() && state.end == Some(End::Good)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Stream(_) => SizeHint::default(),
        }
    }
}
