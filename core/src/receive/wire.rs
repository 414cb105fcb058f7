//! `prometheus.WriteRequest` in protobuf, read an item at a time from a window that slides over it.
//!
//! Source: `prometheus.io/docs/specs/prw/remote_write_spec`. `WriteRequest { repeated TimeSeries timeseries = 1; repeated
//! MetricMetadata metadata = 3 }`, `TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; repeated Exemplar
//! exemplars = 3; repeated Histogram histograms = 4 }`, `Label { string name = 1; string value = 2 }`, `Sample { double
//! value = 1; int64 timestamp = 2 }`. Fields that are not named here are passed over, as protobuf wants it. What a series'
//! items mean depends on its labels, so they must stand first, where every writer puts them.

use crate::limits::LABELS_BYTES_MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the request is no prometheus.WriteRequest: {what}")]
    Malformed { what: &'static str },
    #[error("a series' labels stand behind its samples; send them first, in the order of their field numbers")]
    LabelsLate,
}

const fn malformed(what: &'static str) -> ReadError {
    ReadError::Malformed { what }
}

/// What stands next in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'b> {
    /// A series begins; its labels come next, then its samples.
    Series,
    Label {
        name: &'b [u8],
        value: &'b [u8],
    },
    /// A label longer than a whole label set may be.
    LabelTooLong,
    Sample {
        t_ms: i64,
        bits: u64,
    },
    Exemplar,
    Histogram,
    SeriesEnd,
    Metadata,
    /// Something that means nothing to us.
    Nothing,
    /// The next item reaches beyond the bytes given: more are needed.
    More,
    End,
}

/// Where a reader stands in its request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader {
    /// Bytes of the request, of the open series, and of an item to pass over that are still to come.
    request_left: u64,
    series_left: Option<u64>,
    skip_left: u64,
    /// The open series has had something other than labels.
    labels_done: bool,
}

/// Longest label or sample that is looked into; it must lie in the window whole.
const ITEM_BYTES_MAX: usize = LABELS_BYTES_MAX + 16;
/// A tag and a length.
const HEAD_BYTES_MAX: usize = 20;
const _: () = assert!(ITEM_BYTES_MAX + HEAD_BYTES_MAX <= crate::limits::RECEIVE_WINDOW_BYTES / 4);

const WIRE_VARINT: u64 = 0;
const WIRE_FIXED64: u64 = 1;
const WIRE_BYTES: u64 = 2;
const WIRE_FIXED32: u64 = 5;

impl Reader {
    /// A request of this inflated length.
    pub fn new(request_bytes: u64) -> Self {
        Self { request_left: request_bytes, ..Self::default() }
    }

    /// The next item and how many of `bytes` it takes. `bytes` begin where the item before ended.
    ///
    /// # Errors
    ///
    /// Bytes that are no such request; nothing behind them can be read.
    pub fn next<'b>(&mut self, bytes: &'b [u8]) -> Result<(usize, Item<'b>), ReadError> {
        if self.skip_left > 0 {
            let used = self.skip_left.min(bytes.len() as u64);
            if used == 0 {
                return Ok((0, Item::More));
            }
            self.skip_left -= used;
            self.used(used);
            return Ok((used as usize, Item::Nothing));
        }
        if self.series_left == Some(0) {
            self.series_left = None;
            return Ok((0, Item::SeriesEnd));
        }
        if self.request_left == 0 {
            return Ok((0, Item::End));
        }
        let left = self.series_left.unwrap_or(self.request_left);
        // Within the window as far as the message goes: what reaches beyond the window needs more, beyond the message
        // is malformed.
        let is_all = left <= bytes.len() as u64;
        let inside = if is_all { &bytes[..left as usize] } else { bytes };
        let mut fields = Fields { bytes: inside, at: 0 };
        let head = match fields.head() {
            Ok(head) => head,
            Err(Stop::Malformed(error)) => return Err(error),
            Err(Stop::Ends) if is_all || inside.len() >= HEAD_BYTES_MAX => {
                return Err(malformed("a field is cut short"));
            }
            Err(Stop::Ends) => return Ok((0, Item::More)),
        };
        if head.length > left - fields.at as u64 {
            return Err(malformed("a field is longer than what it stands in"));
        }
        let from = fields.at;
        let content = inside.get(from..from + head.length.min(ITEM_BYTES_MAX as u64 + 1) as usize);
        let is_label = self.series_left.is_some() && (head.number, head.wire) == (1, WIRE_BYTES);
        let is_sample = self.series_left.is_some() && (head.number, head.wire) == (2, WIRE_BYTES);
        let (item, looked_into) = if is_label || is_sample {
            if is_label && self.labels_done {
                return Err(ReadError::LabelsLate);
            }
            let Some(content) = content else { return Ok((0, Item::More)) };
            self.labels_done |= is_sample;
            match content.len() <= ITEM_BYTES_MAX {
                true if is_label => (label(content)?, true),
                true => (sample(content)?, true),
                false if is_label => (Item::LabelTooLong, false),
                false => return Err(malformed("a sample is longer than a sample can be")),
            }
        } else {
            match (self.series_left.is_some(), head.number, head.wire) {
                (false, 1, WIRE_BYTES) => {
                    self.used(from as u64);
                    (self.series_left, self.labels_done) = (Some(head.length), false);
                    return Ok((from, Item::Series));
                }
                (false, 3, WIRE_BYTES) => (Item::Metadata, false),
                (true, 3, WIRE_BYTES) => (Item::Exemplar, false),
                (true, 4, WIRE_BYTES) => (Item::Histogram, false),
                (false, 1 | 3, _) | (true, 1..=4, _) => return Err(malformed("a field has the wrong type")),
                _ => (Item::Nothing, false),
            }
        };
        self.labels_done |= matches!(item, Item::Exemplar | Item::Histogram);
        let used = if looked_into { from + head.length as usize } else { from };
        self.skip_left = if looked_into { 0 } else { head.length };
        self.used(used as u64);
        Ok((used, item))
    }

    fn used(&mut self, bytes: u64) {
        self.request_left -= bytes;
        if let Some(left) = &mut self.series_left {
            *left -= bytes;
        }
    }
}

fn label(bytes: &[u8]) -> Result<Item<'_>, ReadError> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = Fields { bytes, at: 0 };
    while let Some((head, content)) = fields.next()? {
        match (head.number, head.wire) {
            (1, WIRE_BYTES) => name = content,
            (2, WIRE_BYTES) => value = content,
            (1 | 2, _) => return Err(malformed("a label's name or value is no text")),
            _ => {}
        }
    }
    Ok(Item::Label { name, value })
}

fn sample(bytes: &[u8]) -> Result<Item<'static>, ReadError> {
    let (mut t_ms, mut bits) = (0, 0);
    let mut fields = Fields { bytes, at: 0 };
    while let Some((head, content)) = fields.next()? {
        match (head.number, head.wire) {
            (1, WIRE_FIXED64) => {
                let mut array = [0; 8];
                array.copy_from_slice(content);
                bits = u64::from_le_bytes(array);
            }
            (2, WIRE_VARINT) => t_ms = head.varint as i64,
            (1 | 2, _) => return Err(malformed("a sample's value or timestamp is no number")),
            _ => {}
        }
    }
    Ok(Item::Sample { t_ms, bits })
}

/// A field's tag, and how many bytes follow what is read of it; a varint is read with the tag.
struct Head {
    number: u64,
    wire: u64,
    varint: u64,
    length: u64,
}

enum Stop {
    /// The bytes end within the head.
    Ends,
    Malformed(ReadError),
}

struct Fields<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Fields<'b> {
    fn next(&mut self) -> Result<Option<(Head, &'b [u8])>, ReadError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let head = self.head().map_err(|stop| match stop {
            Stop::Ends => malformed("a field is cut short"),
            Stop::Malformed(error) => error,
        })?;
        let rest = &self.bytes[self.at..];
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let content = rest.get(..length).ok_or(malformed("a field is longer than what it stands in"))?;
        self.at += length;
        Ok(Some((head, content)))
    }

    fn head(&mut self) -> Result<Head, Stop> {
        let tag = self.varint()?;
        let (number, wire) = (tag >> 3, tag & 7);
        if number == 0 || number >= 1 << 29 {
            return Err(Stop::Malformed(malformed("a field has an illegal number")));
        }
        let (varint, length) = match wire {
            WIRE_VARINT => (self.varint()?, 0),
            WIRE_FIXED64 => (0, 8),
            WIRE_BYTES => (0, self.varint()?),
            WIRE_FIXED32 => (0, 4),
            _ => return Err(Stop::Malformed(malformed("a field has an illegal type"))),
        };
        Ok(Head { number, wire, varint, length })
    }

    fn varint(&mut self) -> Result<u64, Stop> {
        let mut number = 0_u64;
        for index in 0..10 {
            let byte = *self.bytes.get(self.at).ok_or(Stop::Ends)?;
            self.at += 1;
            if index == 9 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Stop::Malformed(malformed("a number has more than 64 bits")))
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
