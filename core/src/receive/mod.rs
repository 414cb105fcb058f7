//! Remote write 1.0, from the other side: what a pushed request holds, read in bounded memory.
//!
//! A body's way: [`check_head`] (is it a request of ours at all) -> [`Inflater`] (snappy, a window of it at a time) ->
//! [`Reader`] (protobuf, an item at a time) -> [`Batch`] (samples by pusher and instant, as rows want them) -> the store,
//! which is the daemon's part. [`Tally`] counts what became of the samples and words the answer.

mod batch;
mod head;
mod snappy;
mod tally;
#[cfg(test)]
pub mod testing;
mod wire;

pub use {
    batch::{Batch, BatchSample, Pusher, Room},
    head::{HeadRefused, check_head},
    snappy::{InflateError, Inflater},
    tally::{Cause, Tally},
    wire::{Item, ReadError, Reader},
};
