//! The interval of a range coder: narrowing, widening and carries, for the log's coder and that of aged stripes.
//!
//! A decision takes the lower part of the interval or the rest of it, and an interval that is too narrow is widened by a byte,
//! which goes out. Probabilities, and where bytes go, are the coders' own.

/// An interval below this is widened.
const WIDTH_MIN: u32 = 1 << 24;

/// Takes the bytes of an [`IntervalWriter`] in order.
pub trait Sink {
    fn put(&mut self, byte: u8);
}

/// It can be copied to go back to an earlier place.
#[derive(Clone, Copy)]
pub struct IntervalWriter {
    /// The low end, with a carry in bit 32.
    low: u64,
    width: u32,
    /// The last byte, and how many 0xff behind it, that a carry may still change; none at the very start.
    held: Option<u8>,
    held_full: u32,
}

impl IntervalWriter {
    pub const NEW: Self = Self { low: 0, width: u32::MAX, held: None, held_full: 0 };

    #[inline(always)]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Bytes that have not gone out yet, and one that the end takes.
    pub fn held_bytes(&self) -> usize {
        self.held_full as usize + 2
    }

    /// Takes the lower part, or the rest.
    #[inline(always)]
    pub fn narrow(&mut self, lower: u32, is_lower: bool, sink: &mut impl Sink) {
        if is_lower {
            self.width = lower;
        } else {
            self.low += u64::from(lower);
            self.width -= lower;
        }
        self.widen(sink);
    }

    /// Takes one of two halves of one width.
    #[inline(always)]
    pub fn halve(&mut self, is_lower: bool, sink: &mut impl Sink) {
        self.width >>= 1;
        if !is_lower {
            self.low += u64::from(self.width);
        }
        self.widen(sink);
    }

    /// Ends where zeros follow: the number in the interval with the most zeros behind it.
    pub fn end_before_zeros(mut self, sink: &mut impl Sink) {
        self.low += u64::from(self.width - 1);
        self.low &= !u64::from(WIDTH_MIN - 1);
        // The held byte goes out with the one behind it.
        for _ in 0..2 {
            self.shift(sink);
        }
    }

    /// Ends with as few bytes as stay inside the interval whatever follows them.
    pub fn end_before_anything(mut self, sink: &mut impl Sink) {
        let end = self.low + u64::from(self.width);
        let mut bytes = 1;
        loop {
            let unit = 1_u64 << (32 - 8 * bytes);
            let low = self.low.next_multiple_of(unit);
            if low + unit <= end {
                self.low = low;
                break;
            }
            bytes += 1;
        }
        for _ in 0..=bytes {
            self.shift(sink);
        }
    }

    #[inline(always)]
    fn widen(&mut self, sink: &mut impl Sink) {
        while self.width < WIDTH_MIN {
            self.width <<= 8;
            self.shift(sink);
        }
    }

    /// Moves the highest byte out.
    #[inline(never)]
    fn shift(&mut self, sink: &mut impl Sink) {
        let carry = (self.low >> 32) as u8;
        let byte = (self.low >> 24) as u8;
        if byte == 0xff && carry == 0 {
            self.held_full += 1;
        } else {
            if let Some(held) = self.held {
                sink.put(held.wrapping_add(carry));
            }
            for _ in 0..core::mem::take(&mut self.held_full) {
                sink.put(0xff_u8.wrapping_add(carry));
            }
            self.held = Some(byte);
        }
        self.low = (self.low & 0x00ff_ffff) << 8;
    }
}

/// Reads what an [`IntervalWriter`] wrote. Behind the bytes' end follow zeros.
pub struct IntervalReader<'b> {
    bytes: &'b [u8],
    /// Bytes read, those behind the end too.
    at: usize,
    /// Where in the interval the bytes point.
    code: u32,
    width: u32,
}

impl<'b> IntervalReader<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        let mut reader = Self { bytes, at: 0, code: 0, width: u32::MAX };
        for _ in 0..4 {
            reader.code = reader.code << 8 | reader.next();
        }
        reader
    }

    #[inline(always)]
    pub fn width(&self) -> u32 {
        self.width
    }

    #[inline(always)]
    pub fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// Bytes read, those behind the end too.
    #[inline(always)]
    pub fn read_bytes(&self) -> usize {
        self.at
    }

    /// Whether the lower part was taken.
    #[inline(always)]
    pub fn narrow(&mut self, lower: u32) -> bool {
        let is_lower = self.code < lower;
        if is_lower {
            self.width = lower;
        } else {
            self.code -= lower;
            self.width -= lower;
        }
        self.widen();
        is_lower
    }

    /// Whether the lower half was taken.
    #[inline(always)]
    pub fn halve(&mut self) -> bool {
        self.width >>= 1;
        let is_lower = self.code < self.width;
        if !is_lower {
            self.code -= self.width;
        }
        self.widen();
        is_lower
    }

    #[inline(always)]
    fn widen(&mut self) {
        while self.width < WIDTH_MIN {
            self.width <<= 8;
            self.code = self.code << 8 | self.next();
        }
    }

    #[inline(always)]
    fn next(&mut self) -> u32 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        u32::from(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;

    struct Bytes(Vec<u8>);

    impl Sink for Bytes {
        fn put(&mut self, byte: u8) {
            self.0.push(byte);
        }
    }

    /// A decision: the lower part of this width in 65,536ths, or a half; and whether it is taken.
    type Decision = (Option<u32>, bool);

    fn written(decisions: &[Decision]) -> (IntervalWriter, Bytes) {
        let (mut writer, mut bytes) = (IntervalWriter::NEW, Bytes(Vec::new()));
        for (lower, is_lower) in decisions {
            match lower {
                Some(lower) => writer.narrow((writer.width() >> 16) * lower, *is_lower, &mut bytes),
                None => writer.halve(*is_lower, &mut bytes),
            }
        }
        (writer, bytes)
    }

    fn check(decisions: &[Decision], bytes: &[u8]) {
        let mut reader = IntervalReader::new(bytes);
        for (index, (lower, is_lower)) in decisions.iter().enumerate() {
            let read = match lower {
                Some(lower) => reader.narrow((reader.width() >> 16) * lower),
                None => reader.halve(),
            };
            assert_eq!(read, *is_lower, "decision {index} of {}", decisions.len());
        }
    }

    #[test]
    fn decisions_come_back_whichever_way_they_end_and_whatever_follows() {
        let mut prng = Prng::new(1);
        for length in (0..200).chain([5_000]) {
            let decisions: Vec<Decision> = (0..length)
                .map(|_| match prng.below(4) {
                    0 => (None, prng.chance(1, 2)),
                    // Certain ones take the interval to its edges, where carries are made.
                    1 => (Some(65_535), prng.chance(1, 50)),
                    2 => (Some(1), prng.chance(1, 50)),
                    _ => (Some(1 + prng.below(65_535) as u32), prng.chance(1, 2)),
                })
                .collect();
            let (writer, mut zeros) = written(&decisions);
            let held_bytes = writer.held_bytes();
            let before = zeros.0.len();
            writer.end_before_zeros(&mut zeros);
            assert!(zeros.0.len() <= before + held_bytes, "{length}");
            check(&decisions, &zeros.0);
            let (writer, mut anything) = written(&decisions);
            writer.end_before_anything(&mut anything);
            for behind in [0, 0x7f, 0xff] {
                check(&decisions, &[anything.0.as_slice(), &[behind; 8]].concat());
            }
        }
    }

    #[test]
    fn a_carry_goes_through_every_held_byte() {
        for (length, is_above) in (0..100).flat_map(|length| [(length, false), (length, true)]) {
            // The interval reaches over its middle, and each half that is taken does so, too.
            let mut decisions: Vec<Decision> = vec![(Some(32_769), true)];
            let mut over = 1_u64 << 31;
            for _ in 0..length {
                let (writer, bytes) = written(&decisions);
                over = if bytes.0.is_empty() && writer.held.is_none() { 1 << 31 } else { 1 << 32 };
                let middle = writer.low + u64::from(writer.width / 2);
                decisions.push((None, middle > over));
            }
            // Then it is on one side of it.
            for _ in 0..16 {
                let (writer, _) = written(&decisions);
                if writer.low >= over || writer.low + u64::from(writer.width) <= over {
                    break;
                }
                decisions.push((None, !is_above));
            }
            let (writer, mut bytes) = written(&decisions);
            let bytes_behind = writer.held_full as usize;
            assert!(length < 60 || bytes_behind > 3 || bytes.0.len() > 3, "{length}: {bytes_behind}");
            writer.end_before_zeros(&mut bytes);
            let through: &[u8] = if is_above { &[0x80, 0, 0, 0] } else { &[0x7f, 0xff, 0xff, 0xff] };
            assert!(length < 60 || bytes.0.starts_with(through), "{length}: {:x?}", bytes.0);
            check(&decisions, &bytes.0);
        }
    }
}
