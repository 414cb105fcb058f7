//! Every field of proc's `meminfo`: those in kB as `node_memory_FIELD_bytes`, plain counts as `node_memory_FIELD`.

use super::reader::{CollectError, Reader};
use super::writer::{Kind, Writer};

const BYTES_PER_KB: u64 = 1024;

pub fn collect(reader: &mut Reader, writer: &mut Writer) -> Result<(), CollectError> {
    let text = reader.procfs("meminfo")?;
    let mut name = String::new();
    for (line_number, line) in text.lines() {
        if line.trim().is_empty() {
            continue;
        }
        let broken = || text.broken(line_number, "expected a field, a colon, a number and perhaps kB");
        let (field, rest) = line.split_once(':').ok_or_else(broken)?;
        let mut words = rest.split_ascii_whitespace();
        let number: u64 = words.next().and_then(|word| word.parse().ok()).ok_or_else(broken)?;
        if !push_name(&mut name, field) {
            return Err(broken());
        }
        let value = match words.next() {
            None => number,
            Some("kB") => {
                name.push_str("_bytes");
                number.saturating_mul(BYTES_PER_KB)
            }
            Some(_) => return Err(broken()),
        };
        writer.single(&name, Kind::Gauge, "The field of this name in meminfo.", value);
    }
    Ok(())
}

/// `Active(anon)` becomes `node_memory_Active_anon`. False when the field would give no metric name.
fn push_name(name: &mut String, field: &str) -> bool {
    name.clear();
    name.push_str("node_memory_");
    for character in field.chars() {
        match character {
            ')' => {}
            '(' => name.push('_'),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => name.push(character),
            _ => return false,
        }
    }
    !field.is_empty()
}
