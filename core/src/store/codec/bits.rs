//! Bytes, variable-length integers and bit fields in borrowed buffers.

use super::CodecError;

pub struct Writer<'b> {
    out: &'b mut [u8],
    used: usize,
}

impl<'b> Writer<'b> {
    pub fn new(out: &'b mut [u8]) -> Self {
        Self { out, used: 0 }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        let capacity = self.out.len();
        let room = self.out.get_mut(self.used..self.used + bytes.len()).ok_or(CodecError::OutputFull { capacity })?;
        room.copy_from_slice(bytes);
        self.used += bytes.len();
        Ok(())
    }

    pub fn byte(&mut self, byte: u8) -> Result<(), CodecError> {
        self.bytes(&[byte])
    }

    /// LEB128, at most ten bytes.
    pub fn unsigned(&mut self, mut value: u64) -> Result<(), CodecError> {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80)?;
            value >>= 7;
        }
        self.byte(value as u8)
    }

    /// Zigzag, then LEB128.
    pub fn signed(&mut self, value: i64) -> Result<(), CodecError> {
        self.unsigned(zigzag(value))
    }
}

/// Fields of any width one behind the other, lowest bit first; the last byte is filled with zeros.
pub struct BitWriter<'w, 'b> {
    writer: &'w mut Writer<'b>,
    pending: u128,
    pending_bits: u32,
}

impl<'w, 'b> BitWriter<'w, 'b> {
    pub fn new(writer: &'w mut Writer<'b>) -> Self {
        Self { writer, pending: 0, pending_bits: 0 }
    }

    /// `value` has no more than `width` bits, which are at most 64.
    pub fn put(&mut self, value: u64, width: u32) -> Result<(), CodecError> {
        self.pending |= u128::from(value) << self.pending_bits;
        self.pending_bits += width;
        while self.pending_bits >= 64 {
            self.writer.bytes(&(self.pending as u64).to_le_bytes())?;
            self.pending >>= 64;
            self.pending_bits -= 64;
        }
        Ok(())
    }

    pub fn finish(self) -> Result<(), CodecError> {
        let bytes = self.pending_bits.div_ceil(8) as usize;
        self.writer.bytes(&self.pending.to_le_bytes()[..bytes])
    }
}

#[derive(Clone)]
pub struct Reader<'b> {
    bytes: &'b [u8],
    used: usize,
}

impl<'b> Reader<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    pub fn take(&mut self, length: usize) -> Result<&'b [u8], CodecError> {
        let end = self.used.checked_add(length).ok_or(CodecError::Truncated)?;
        let taken = self.bytes.get(self.used..end).ok_or(CodecError::Truncated)?;
        self.used = end;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    pub fn u64(&mut self) -> Result<u64, CodecError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn unsigned(&mut self) -> Result<u64, CodecError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(CodecError::Damaged);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Damaged)
    }

    pub fn signed(&mut self) -> Result<i64, CodecError> {
        Ok(unzigzag(self.unsigned()?))
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'b [u8] {
        &self.bytes[self.used..]
    }
}

/// The reverse of [`BitWriter`].
pub struct BitReader<'b> {
    bytes: &'b [u8],
    used_bits: usize,
}

impl<'b> BitReader<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, used_bits: 0 }
    }

    /// `width` is at most 64.
    pub fn field(&mut self, width: u32) -> Result<u64, CodecError> {
        let mut value = [0];
        self.fields(&mut value, width)?;
        Ok(value[0])
    }

    /// Fields of one width, at most 64.
    pub fn fields(&mut self, values: &mut [u64], width: u32) -> Result<(), CodecError> {
        let end = self.used_bits + values.len() * width as usize;
        if end.div_ceil(8) > self.bytes.len() {
            return Err(CodecError::Truncated);
        }
        let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        let mut at = self.used_bits;
        for value in values {
            let (byte, shift) = (at / 8, at as u32 % 8);
            let found = match self.bytes.get(byte..byte + 8) {
                Some(word) => {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(word);
                    let low = u64::from_le_bytes(bytes) >> shift;
                    if width + shift > 64 { low | u64::from(self.bytes[byte + 8]) << (64 - shift) } else { low }
                }
                // The last bytes there are.
                None => {
                    let mut bytes = [0; 8];
                    let rest = &self.bytes[byte.min(self.bytes.len())..];
                    bytes[..rest.len()].copy_from_slice(rest);
                    u64::from_le_bytes(bytes) >> shift
                }
            };
            *value = found & mask;
            at += width as usize;
        }
        self.used_bits = end;
        Ok(())
    }

    /// Steps over bits, whether or not they are there.
    pub fn skip(&mut self, bits: u32) {
        self.used_bits += bits as usize;
    }

    /// Bytes of which something was read or stepped over.
    pub fn bytes(&self) -> usize {
        self.used_bits.div_ceil(8)
    }
}

pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Bytes that [`Writer::unsigned`] writes.
pub const fn unsigned_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Bytes that [`Writer::signed`] writes.
pub const fn signed_bytes(value: i64) -> usize {
    unsigned_bytes(zigzag(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_at_every_length_edge_come_back() {
        let mut buf = [0; 10];
        for shift in 0..64 {
            for value in [(1_u64 << shift) - 1, 1 << shift, (1_u64 << shift) + 1, u64::MAX] {
                let mut writer = Writer::new(&mut buf);
                writer.unsigned(value).unwrap();
                let used = writer.used();
                assert_eq!(used, unsigned_bytes(value), "{value}");
                assert_eq!(Reader::new(&buf[..used]).unsigned(), Ok(value));
                assert_eq!(Reader::new(&buf[..used - 1]).unsigned(), Err(CodecError::Truncated));
                assert_eq!(unzigzag(zigzag(value as i64)), value as i64);
            }
        }
    }

    #[test]
    fn an_integer_of_more_than_64_bits_is_damage() {
        assert_eq!(Reader::new(&[0xff; 11]).unsigned(), Err(CodecError::Damaged));
        let mut bytes = [0xff; 10];
        bytes[9] = 2;
        assert_eq!(Reader::new(&bytes).unsigned(), Err(CodecError::Damaged));
        bytes[9] = 1;
        assert_eq!(Reader::new(&bytes).unsigned(), Ok(u64::MAX));
    }

    #[test]
    fn fields_of_every_width_come_back_and_one_byte_less_is_truncated() {
        let mut buf = [0; 3 + 17 * 8];
        for width in 0..=64 {
            let mask = if width == 64 { u64::MAX } else { (1_u64 << width) - 1 };
            let values: [u64; 17] = core::array::from_fn(|index| crate::prng::mix(index as u64 + 1) & mask);
            let mut writer = Writer::new(&mut buf);
            let mut stream = BitWriter::new(&mut writer);
            stream.put(5, 3).unwrap();
            values.iter().for_each(|value| stream.put(*value, width).unwrap());
            stream.finish().unwrap();
            let used = writer.used();
            assert_eq!(used, (3 + 17 * width as usize).div_ceil(8));
            let mut found = [0; 17];
            let mut stream = BitReader::new(&buf[..used]);
            assert_eq!(stream.field(3), Ok(5));
            stream.fields(&mut found, width).unwrap();
            assert_eq!((found, stream.bytes()), (values, used), "{width}");
            let mut stream = BitReader::new(&buf[..used - 1]);
            stream.skip(3);
            assert_eq!(stream.fields(&mut found, width), Err(CodecError::Truncated), "{width}");
        }
    }
}
