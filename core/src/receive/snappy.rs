//! Snappy blocks, inflated a window at a time.
//!
//! Format: `google/snappy`, format_description.txt: the inflated length as LEB128, then literals and copies of what came
//! before. Blocks are made in pieces of 64 KiB by the usual encoders, so that copies reach no further back than that; one
//! known encoder reaches back up to 4 MiB. A body that fits the window whole is inflated whatever its copies; of a longer
//! one, half a window stays behind what has been read.

use crate::limits::{RECEIVE_INFLATED_BYTES_MAX, RECEIVE_WINDOW_BYTES};
use alloc::{boxed::Box, vec};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// Prometheus' words.
    #[error("snappy: corrupt input")]
    Corrupt,
    #[error(
        "the request inflates to {bytes} bytes and at most {RECEIVE_INFLATED_BYTES_MAX} are taken; send fewer samples per \
         request (max_samples_per_send)"
    )]
    TooLong { bytes: u64 },
    #[error(
        "the request inflates to {bytes} bytes and its compression reaches back further than is kept of one longer than \
         {RECEIVE_WINDOW_BYTES}; send fewer samples per request (max_samples_per_send)"
    )]
    ReachesTooFar { bytes: u64 },
}

/// One body's inflation, and the memory for it, which serves one body after another.
#[derive(Default)]
pub struct Inflater {
    window: Box<[u8]>,
    /// Bytes of the window that are not yet taken, and the end of what is inflated.
    taken: usize,
    filled: usize,
    /// Where the rest of the body begins.
    at: usize,
    /// Bytes of a literal that are still to be copied from there.
    literal_left: usize,
    total: usize,
    left: usize,
}

/// Longest element that is copied in one step.
const STEP_BYTES_MAX: usize = 64;

impl Inflater {
    /// Begins a body, whose inflated length it gives: nothing is inflated before that is known to be within bounds.
    pub fn begin(&mut self, body: &[u8]) -> Result<u64, InflateError> {
        let (mut total, mut shift, mut at) = (0_u64, 0, 0);
        loop {
            let byte = *body.get(at).ok_or(InflateError::Corrupt)?;
            total |= u64::from(byte & 0x7f) << shift;
            (shift, at) = (shift + 7, at + 1);
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 28 {
                return Err(InflateError::Corrupt);
            }
        }
        if total > RECEIVE_INFLATED_BYTES_MAX {
            return Err(InflateError::TooLong { bytes: total });
        }
        if self.window.is_empty() {
            self.window = vec![0; RECEIVE_WINDOW_BYTES].into_boxed_slice();
        }
        let total_bytes = total as usize;
        (self.taken, self.filled, self.at, self.literal_left) = (0, 0, at, 0);
        (self.total, self.left) = (total_bytes, total_bytes);
        Ok(total)
    }

    /// What is inflated and not yet taken.
    pub fn bytes(&self) -> &[u8] {
        &self.window[self.taken..self.filled]
    }

    /// These many of [`Self::bytes`] are done with.
    pub fn take(&mut self, bytes: usize) {
        assert!(bytes <= self.filled - self.taken, "{bytes} bytes taken of {}", self.filled - self.taken);
        self.taken += bytes;
    }

    /// Inflates as much as the window holds. When nothing is added, the body is at its end or the window is full of
    /// what is not taken.
    ///
    /// # Errors
    ///
    /// A body that is not what [`Self::begin`] was told.
    pub fn fill(&mut self, body: &[u8]) -> Result<(), InflateError> {
        self.slide();
        while self.left > 0 && self.window.len() - self.filled >= STEP_BYTES_MAX.min(self.left) {
            if self.literal_left > 0 {
                self.literal(body)?;
            } else {
                self.element(body)?;
            }
        }
        match self.left == 0 && (self.at != body.len() || self.literal_left > 0) {
            true => Err(InflateError::Corrupt),
            false => Ok(()),
        }
    }

    /// Makes room once less is left in the window than a piece: what is taken goes, but for half a window.
    fn slide(&mut self) {
        let kept_from = self.taken.min(self.filled.saturating_sub(self.window.len() / 2));
        let is_short = self.window.len() - self.filled < self.left.min(self.window.len() / 4);
        if is_short && kept_from > 0 {
            self.window.copy_within(kept_from..self.filled, 0);
            self.taken -= kept_from;
            self.filled -= kept_from;
        }
    }

    fn element(&mut self, body: &[u8]) -> Result<(), InflateError> {
        let byte = |at: usize| body.get(at).copied().map(usize::from).ok_or(InflateError::Corrupt);
        let little_endian = |at: usize, count: usize| {
            (0..count).try_fold(0_usize, |number, index| Ok(number | byte(at + index)? << (8 * index)))
        };
        let tag = byte(self.at)?;
        let high = tag >> 2;
        let (length, offset, used) = match tag & 3 {
            0 => {
                let extra = high.saturating_sub(59);
                let length = if extra == 0 { high } else { little_endian(self.at + 1, extra)? };
                (self.at, self.literal_left) = (self.at + 1 + extra, length.saturating_add(1));
                return match self.literal_left > self.left {
                    true => Err(InflateError::Corrupt),
                    false => Ok(()),
                };
            }
            1 => (4 + (high & 7), (high >> 3) << 8 | byte(self.at + 1)?, 2),
            2 => (1 + high, little_endian(self.at + 1, 2)?, 3),
            _ => (1 + high, little_endian(self.at + 1, 4)?, 5),
        };
        self.at += used;
        if length > self.left || offset == 0 || offset > self.total - self.left {
            return Err(InflateError::Corrupt);
        }
        if offset > self.filled {
            return Err(InflateError::ReachesTooFar { bytes: self.total as u64 });
        }
        let from = self.filled - offset;
        if offset >= length {
            self.window.copy_within(from..from + length, self.filled);
        } else {
            // A copy that overlaps itself repeats its beginning.
            for index in 0..length {
                self.window[self.filled + index] = self.window[from + index];
            }
        }
        self.filled += length;
        self.left -= length;
        Ok(())
    }

    fn literal(&mut self, body: &[u8]) -> Result<(), InflateError> {
        let length = self.literal_left.min(self.window.len() - self.filled);
        let from = body.get(self.at..self.at + length).ok_or(InflateError::Corrupt)?;
        self.window[self.filled..self.filled + length].copy_from_slice(from);
        self.at += length;
        self.filled += length;
        self.literal_left -= length;
        self.left -= length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// Inflates a whole body, taking pieces of `step` bytes.
    fn inflate(body: &[u8], step: usize) -> Result<Vec<u8>, InflateError> {
        let mut inflater = Inflater::default();
        let total = inflater.begin(body)? as usize;
        let mut out = Vec::new();
        loop {
            inflater.fill(body)?;
            let piece = inflater.bytes().len().min(step);
            if piece == 0 {
                assert_eq!(out.len(), total);
                return Ok(out);
            }
            out.extend_from_slice(&inflater.bytes()[..piece]);
            inflater.take(piece);
        }
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(bytes).unwrap()
    }

    /// Text as requests have it: much repeated, some not.
    fn text(length: usize, seed: u64) -> Vec<u8> {
        let mut prng = crate::prng::Prng::new(seed);
        let mut bytes = Vec::new();
        while bytes.len() < length {
            bytes.extend_from_slice(b"__name__http_requests_total instance localhost:9090 job node");
            bytes.extend_from_slice(&prng.next_u64().to_le_bytes()[..4]);
        }
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn what_an_independent_encoder_made_is_inflated_whatever_the_pieces() {
        for length in [0, 1, 59, 60, 61, 255, 256, 257, 65_535, 65_536, 65_537, RECEIVE_WINDOW_BYTES] {
            let bytes = text(length, length as u64);
            assert_eq!(inflate(&deflate(&bytes), usize::MAX).unwrap(), bytes, "{length}");
        }
        let long = text(3 * RECEIVE_WINDOW_BYTES + 17, 1);
        for step in [1000, 65_536, RECEIVE_WINDOW_BYTES / 2, RECEIVE_WINDOW_BYTES] {
            assert!(inflate(&deflate(&long), step).unwrap() == long, "{step}");
        }
    }

    #[test]
    fn a_body_that_says_too_much_is_refused_before_anything_is_inflated() {
        let mut body = Vec::new();
        let mut length = RECEIVE_INFLATED_BYTES_MAX + 1;
        while length >= 0x80 {
            body.push(length as u8 | 0x80);
            length >>= 7;
        }
        body.push(length as u8);
        let bytes = RECEIVE_INFLATED_BYTES_MAX + 1;
        let mut inflater = Inflater::default();
        assert_eq!(inflater.begin(&body), Err(InflateError::TooLong { bytes }));
        assert!(inflater.window.is_empty());
    }

    #[test]
    fn a_body_that_is_no_block_is_corrupt() {
        let whole = deflate(&text(5_000, 3));
        for body in [b"".as_slice(), b"hello", b"\xff\x06\x00\x00sNaPpY\x01\x05\x00\x00", b"\xff\xff\xff\xff\xff\x01"] {
            assert_eq!(inflate(body, 1000), Err(InflateError::Corrupt), "{body:?}");
        }
        for end in [1, 2, whole.len() / 2, whole.len() - 1] {
            assert_eq!(inflate(&whole[..end], 1000), Err(InflateError::Corrupt), "{end}");
        }
        let longer: Vec<u8> = whole.iter().copied().chain([0]).collect();
        assert_eq!(inflate(&longer, 1000), Err(InflateError::Corrupt));
    }

    #[test]
    fn a_copy_from_before_the_window_is_told_apart_from_damage() {
        // A literal as long as two windows, then a copy of its beginning.
        let length = 2 * RECEIVE_WINDOW_BYTES as u32;
        let total = length + 64;
        let mut body = alloc::vec![total as u8 | 0x80, (total >> 7) as u8 | 0x80, (total >> 14) as u8];
        body.push(62 << 2);
        body.extend_from_slice(&(length - 1).to_le_bytes()[..3]);
        body.resize(body.len() + length as usize, b'x');
        let near: Vec<u8> = body.iter().copied().chain([63 << 2 | 3, 100, 0, 0, 0]).collect();
        assert_eq!(inflate(&near, 4096).unwrap().len(), total as usize);
        body.push(63 << 2 | 3);
        body.extend_from_slice(&length.to_le_bytes());
        assert_eq!(inflate(&body, 4096), Err(InflateError::ReachesTooFar { bytes: total.into() }));
    }

    proptest! {
        #[test]
        fn foreign_bytes_inflate_as_the_independent_decoder_says(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let expected = snap::raw::Decoder::new().decompress_vec(&body);
            if !matches!(snap::raw::decompress_len(&body), Ok(length) if length as u64 > RECEIVE_INFLATED_BYTES_MAX) {
                prop_assert_eq!(inflate(&body, 1000).ok(), expected.ok());
            }
        }

        #[test]
        fn damaged_blocks_inflate_as_the_independent_decoder_says(
            seed: u64, length in 0..3_000_usize, at: prop::sample::Index, byte: u8,
        ) {
            let mut body = deflate(&text(length, seed));
            let at = at.index(body.len());
            body[at] = byte;
            let expected = snap::raw::Decoder::new().decompress_vec(&body);
            if !matches!(snap::raw::decompress_len(&body), Ok(length) if length as u64 > RECEIVE_INFLATED_BYTES_MAX) {
                prop_assert_eq!(inflate(&body, 1000).ok(), expected.ok());
            }
        }
    }
}
