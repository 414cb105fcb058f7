//! Frames on a line of bytes that may lose, change or add some: COBS for the boundaries, CRC-32 for the rest.
//!
//! COBS: Cheshire and Baker, "Consistent Overhead Byte Stuffing", 1999.

use super::message::{MESSAGE_BYTES_MAX, Message};

const CRC_BYTES: usize = 4;
/// Message and checksum, before stuffing.
pub const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX + CRC_BYTES;
/// A frame on the wire: one byte more per 254, one to begin with, and the closing zero.
pub const WIRE_BYTES_MAX: usize = FRAME_BYTES_MAX + FRAME_BYTES_MAX / 254 + 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the message is longer than {MESSAGE_BYTES_MAX} bytes; use fewer columns or shorter labels")]
    TooLong,
}

/// Writes one frame, closing zero included, and gives its bytes.
pub fn write_frame<'b>(message: &Message<'_>, out: &'b mut [u8; WIRE_BYTES_MAX]) -> Result<&'b [u8], FrameError> {
    let mut plain = [0; FRAME_BYTES_MAX];
    let used = postcard::to_slice(message, &mut plain[..MESSAGE_BYTES_MAX]).map_err(|_| FrameError::TooLong)?.len();
    let checksum = crc32(&plain[..used]);
    plain[used..used + CRC_BYTES].copy_from_slice(&checksum.to_le_bytes());
    let length = stuff(&plain[..used + CRC_BYTES], out);
    Ok(&out[..length])
}

/// Finds frames in a stream of bytes.
pub struct Deframer {
    buf: [u8; WIRE_BYTES_MAX],
    used: usize,
    /// The frame is too long to be one: pass over bytes up to the next zero.
    passing_over: bool,
    /// Frames that were too long, badly stuffed, had a wrong checksum or no message we know.
    pub damaged_count: u32,
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deframer {
    pub const fn new() -> Self {
        Self { buf: [0; WIRE_BYTES_MAX], used: 0, passing_over: false, damaged_count: 0 }
    }

    /// Calls `take` with every whole message in what has come so far.
    pub fn feed(&mut self, bytes: &[u8], take: &mut dyn FnMut(Message<'_>)) {
        for &byte in bytes {
            if byte != 0 {
                if self.used == self.buf.len() {
                    self.passing_over = true;
                } else {
                    self.buf[self.used] = byte;
                    self.used += 1;
                }
                continue;
            }
            let (used, passed_over) = (self.used, self.passing_over);
            (self.used, self.passing_over) = (0, false);
            if used == 0 {
                continue;
            }
            let message = if passed_over { None } else { open(&mut self.buf[..used]) };
            match message {
                Some(message) => take(message),
                None => self.damaged_count = self.damaged_count.wrapping_add(1),
            }
        }
    }
}

/// The message in a stuffed frame without its zero; `None` when it is damaged.
fn open(frame: &mut [u8]) -> Option<Message<'_>> {
    let length = unstuff(frame)?;
    let (message, checksum) = frame[..length].split_last_chunk::<CRC_BYTES>()?;
    if crc32(message) != u32::from_le_bytes(*checksum) {
        return None;
    }
    // Bytes behind the message would be fields of a version we do not know.
    match postcard::take_from_bytes(message) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}

/// COBS with the closing zero; `out` is long enough for every frame.
fn stuff(plain: &[u8], out: &mut [u8; WIRE_BYTES_MAX]) -> usize {
    assert!(plain.len() <= FRAME_BYTES_MAX, "{} bytes are no frame", plain.len());
    let (mut code_at, mut at, mut code) = (0, 1, 1_u8);
    for &byte in plain {
        if byte != 0 {
            out[at] = byte;
            at += 1;
            code += 1;
        }
        if byte == 0 || code == 0xff {
            out[code_at] = code;
            (code_at, code) = (at, 1);
            at += 1;
        }
    }
    out[code_at] = code;
    out[at] = 0;
    at + 1
}

/// In place; the length of what was stuffed, or `None` when the codes lead past the end.
fn unstuff(frame: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while from < frame.len() {
        let code = usize::from(frame[from]);
        from += 1;
        let end = from + code.checked_sub(1)?;
        if end > frame.len() {
            return None;
        }
        frame.copy_within(from..end, to);
        to += end - from;
        from = end;
        if code < 0xff && from < frame.len() {
            frame[to] = 0;
            to += 1;
        }
    }
    Some(to)
}

/// CRC-32 as in Ethernet and zip (reflected 0x04C11DB7), four bits at a time: 64 bytes of table.
pub fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut index = 0;
        while index < 16 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 4 {
                value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, &byte| {
        let crc = (crc >> 4) ^ TABLE[((crc ^ u32::from(byte)) & 15) as usize];
        (crc >> 4) ^ TABLE[((crc ^ u32::from(byte) >> 4) & 15) as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn stuffing_hides_every_zero_and_is_undone_at_every_length() {
        let mut prng = Prng::new(1);
        for length in (0..520).chain([FRAME_BYTES_MAX - 1, FRAME_BYTES_MAX]) {
            for zeros in [0, 2, 256] {
                let plain: std::vec::Vec<u8> =
                    (0..length).map(|_| if prng.chance(zeros, 256) { 0 } else { prng.below(255) as u8 + 1 }).collect();
                let mut out = [0xaa; WIRE_BYTES_MAX];
                let used = stuff(&plain, &mut out);
                assert!(!out[..used - 1].contains(&0) && out[used - 1] == 0);
                let read = unstuff(&mut out[..used - 1]).unwrap();
                assert_eq!(&out[..read], &plain[..], "{length}");
            }
        }
    }

    #[test]
    fn a_frame_with_any_flipped_bit_is_never_taken() {
        let message = Message::Acknowledge { leaf: 7, session: 0, next: 300 };
        let mut out = [0; WIRE_BYTES_MAX];
        let frame = write_frame(&message, &mut out).unwrap().to_vec();
        for bit in 0..(frame.len() - 1) * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let mut deframer = Deframer::new();
            let mut taken = 0;
            deframer.feed(&bad, &mut |_| taken += 1);
            assert_eq!(taken, 0, "bit {bit}");
            deframer.feed(&[0], &mut |_| taken += 1);
            deframer.feed(&frame, &mut |found| {
                assert_eq!(found, message);
                taken += 1;
            });
            assert_eq!(taken, 1, "the next frame is found again after bit {bit}");
        }
    }

    #[test]
    fn any_bytes_at_all_are_read_without_harm() {
        let mut prng = Prng::new(5);
        let mut deframer = Deframer::new();
        let noise: std::vec::Vec<u8> = (0..200_000).map(|_| prng.below(40) as u8).collect();
        deframer.feed(&noise, &mut |message| panic!("noise read as {message:?}"));
        assert!(deframer.damaged_count > 1_000);
        let before = deframer.damaged_count;
        deframer.feed(&[1; 5_000], &mut |_| unreachable!());
        deframer.feed(&[0], &mut |_| unreachable!());
        assert_eq!(deframer.damaged_count, before + 1);
    }
}
