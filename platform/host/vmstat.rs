//! Paging, swapping and kills for want of memory, from proc's `vmstat`.

use super::reader::{CollectError, Reader};
use super::writer::{Kind, Writer};

/// What node_exporter takes by default: these fields, whole or by prefix.
fn is_wanted(field: &str) -> bool {
    field == "oom_kill" || ["pgpg", "pswp"].iter().any(|prefix| field.starts_with(prefix)) || {
        // pgfault, pgmajfault and their kin.
        field.starts_with("pg") && field.contains("fault")
    }
}

pub fn collect(reader: &mut Reader, writer: &mut Writer) -> Result<(), CollectError> {
    let text = reader.procfs("vmstat")?;
    let mut name = String::new();
    for (line_number, line) in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(field) = words.next().filter(|field| is_wanted(field)) else { continue };
        let value: Option<u64> = words.next().and_then(|word| word.parse().ok());
        let value = value.ok_or_else(|| text.broken(line_number, "expected a field and a number"))?;
        if !field.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(text.broken(line_number, "expected a field of letters, digits and underscores"));
        }
        name.clear();
        name.push_str("node_vmstat_");
        name.push_str(field);
        writer.single(&name, Kind::Untyped, "The field of this name in vmstat.", value);
    }
    Ok(())
}
