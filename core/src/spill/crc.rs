//! CRC-32 as in Ethernet and zlib (ISO 3309, polynomial 0xEDB88320 reflected).

/// By byte, for a byte with as many zero bytes behind it as the table's index: four bytes at a time (Kounavis and Berry,
/// "Novel Table Lookup-Based Algorithms for High-Performance CRC Generation", 2008).
const TABLES: [[u32; 256]; 4] = tables();

const fn tables() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut index = 1;
    while index < 4 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[index - 1][byte];
            tables[index][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        index += 1;
    }
    tables
}

pub fn crc32(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut crc = u32::MAX;
    for word in words {
        let [a, b, c, d] = (crc ^ u32::from_le_bytes(*word)).to_le_bytes();
        crc = TABLES[3][a as usize] ^ TABLES[2][b as usize] ^ TABLES[1][c as usize] ^ TABLES[0][d as usize];
    }
    for byte in rest {
        crc = crc >> 8 ^ TABLES[0][(crc as u8 ^ byte) as usize];
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard_comes_out() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn words_and_single_bytes_come_to_the_same_at_every_length() {
        let bytes: [u8; 67] = core::array::from_fn(|index| (index * 37 + 11) as u8);
        for length in 0..=bytes.len() {
            let slow = bytes[..length].iter().fold(u32::MAX, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0xedb8_8320))
            });
            assert_eq!(crc32(&bytes[..length]), !slow, "{length} bytes");
        }
    }
}
