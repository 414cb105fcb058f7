//! The node's side of one leaf's line: takes rows in order, each once, and says how far it is.

use super::{
    frame::{Deframer, FrameError, WIRE_BYTES_MAX, write_frame},
    message::{Cells, Message},
};
use crate::labels::LabelsRef;
use heapless::Deque;

/// Answers waiting for the line; a further one is given when the leaf repeats.
const REPLY_COUNT_MAX: usize = 4;

/// Takes what leaves send.
pub trait LinkSink {
    /// How many columns the layout has, once all of them are known.
    fn layout_column_count(&self, leaf: u64, layout: u32) -> Option<u16>;
    /// One column of a layout; may come again.
    fn layout_column(&mut self, leaf: u64, layout: u32, column: u16, column_count: u16, labels: LabelsRef<'_>);
    /// A row taken `age_ms` ago. It is acknowledged when this is `Ok`, and comes again otherwise.
    fn row(&mut self, leaf: u64, layout: u32, age_ms: u64, cells: Cells<'_>) -> Result<(), NotTaken>;
    /// Rows the leaf had to give up before they were acknowledged.
    fn lost(&mut self, leaf: u64, row_count: u32);
}

/// There is no room for the row now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTaken;

/// How far one leaf is; to be kept over a restart, so that nothing is taken twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverPlace {
    pub leaf: u64,
    pub session: u32,
    /// Sequence of the next row.
    pub next: u32,
}

/// One line with one leaf behind it.
#[derive(Default)]
pub struct LinkReceiver {
    place: Option<ReceiverPlace>,
    replies: Deque<Reply, REPLY_COUNT_MAX>,
    deframer: Deframer,
    /// Rows that came again after they were taken.
    pub rows_repeated: u32,
    /// Rows whose cells did not fit their layout.
    pub rows_broken: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reply {
    Acknowledge(ReceiverPlace),
    LayoutWanted { leaf: u64, layout: u32 },
}

impl LinkReceiver {
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on where [`LinkReceiver::place`] was.
    pub fn resume(place: ReceiverPlace) -> Self {
        Self { place: Some(place), ..Self::default() }
    }

    pub fn place(&self) -> Option<ReceiverPlace> {
        self.place
    }

    pub fn frames_damaged(&self) -> u32 {
        self.deframer.damaged_count
    }

    /// Takes bytes that came over the line.
    pub fn received(&mut self, bytes: &[u8], sink: &mut dyn LinkSink) {
        let Self { place, replies, deframer, rows_repeated, rows_broken } = self;
        deframer.feed(bytes, &mut |message| match message {
            Message::Layout { leaf, layout, column, column_count, labels } => {
                if let Ok(labels) = LabelsRef::decode(labels)
                    && column < column_count
                {
                    sink.layout_column(leaf, layout, column, column_count, labels);
                }
            }
            Message::Row { leaf, session, sequence, oldest, layout, age_ms, cells } => {
                let here = place.filter(|place| (place.leaf, place.session) == (leaf, session));
                let mut here = here.unwrap_or(ReceiverPlace { leaf, session, next: oldest });
                // Rows between ours and the leaf's oldest are gone for good.
                let gone_count = oldest.wrapping_sub(here.next);
                if gone_count != 0 && gone_count < u32::MAX / 2 {
                    sink.lost(leaf, gone_count);
                    here.next = oldest;
                }
                if sequence == here.next {
                    match take(leaf, layout, age_ms, cells, sink) {
                        Taken::Yes => here.next = here.next.wrapping_add(1),
                        Taken::Broken => {
                            *rows_broken += 1;
                            here.next = here.next.wrapping_add(1);
                            sink.lost(leaf, 1);
                        }
                        Taken::LayoutUnknown => reply(replies, Reply::LayoutWanted { leaf, layout }),
                        Taken::NoRoom => {}
                    }
                } else if here.next.wrapping_sub(sequence) < u32::MAX / 2 {
                    *rows_repeated += 1;
                }
                *place = Some(here);
                replies.retain_not_acknowledge();
                reply(replies, Reply::Acknowledge(here));
            }
            Message::Acknowledge { .. } | Message::LayoutWanted { .. } => {}
        });
    }

    /// The next frame for the leaf, if there is something to say.
    pub fn next_frame<'b>(&mut self, out: &'b mut [u8; WIRE_BYTES_MAX]) -> Result<Option<&'b [u8]>, FrameError> {
        let Some(reply) = self.replies.pop_front() else { return Ok(None) };
        let message = match reply {
            Reply::Acknowledge(ReceiverPlace { leaf, session, next }) => Message::Acknowledge { leaf, session, next },
            Reply::LayoutWanted { leaf, layout } => Message::LayoutWanted { leaf, layout },
        };
        write_frame(&message, out).map(Some)
    }
}

enum Taken {
    Yes,
    /// The cells do not fit the layout: the row will never be readable.
    Broken,
    LayoutUnknown,
    NoRoom,
}

fn take(leaf: u64, layout: u32, age_ms: u64, cells: &[u8], sink: &mut dyn LinkSink) -> Taken {
    let Some(column_count) = sink.layout_column_count(leaf, layout) else { return Taken::LayoutUnknown };
    let Ok(cells) = Cells::read(cells, column_count) else { return Taken::Broken };
    match sink.row(leaf, layout, age_ms, cells) {
        Ok(()) => Taken::Yes,
        Err(NotTaken) => Taken::NoRoom,
    }
}

fn reply(replies: &mut Deque<Reply, REPLY_COUNT_MAX>, reply: Reply) {
    if !replies.iter().any(|waiting| *waiting == reply) {
        // Without room the leaf repeats, and is answered then.
        let _ = replies.push_back(reply);
    }
}

trait RetainNotAcknowledge {
    fn retain_not_acknowledge(&mut self);
}

impl RetainNotAcknowledge for Deque<Reply, REPLY_COUNT_MAX> {
    /// The newest acknowledgement says all that older ones say.
    fn retain_not_acknowledge(&mut self) {
        for _ in 0..self.len() {
            if let Some(waiting @ Reply::LayoutWanted { .. }) = self.pop_front() {
                let _ = self.push_back(waiting);
            }
        }
    }
}
