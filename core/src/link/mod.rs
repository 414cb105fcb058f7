//! Leaf frames: a microcontroller hands its rows to a node over a serial line and keeps them until acknowledged.
//!
//! Without an allocator, without a clock: bytes and times come in, frames go out. On the wire: each message (postcard) is
//! followed by its CRC-32, both are COBS-encoded and closed by a zero byte. A row names its layout by number; the node
//! asks for the layout's labels when it does not know them, so that they travel once per node and not once per row.

mod frame;
mod message;
mod receiver;
mod sender;

pub use frame::{Deframer, FRAME_BYTES_MAX, FrameError, WIRE_BYTES_MAX, crc32, write_frame};
pub use message::{Cells, CellsError, MESSAGE_BYTES_MAX, Message, write_cells};
pub use receiver::{LinkReceiver, LinkSink, NotTaken, ReceiverPlace};
pub use sender::{Layouts, LinkSender, PushError, SenderCounters};

#[cfg(all(test, feature = "alloc"))]
mod link_tests;
