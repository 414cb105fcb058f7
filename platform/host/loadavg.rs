//! Load averages, from proc's `loadavg`.

use super::reader::{CollectError, Reader};
use super::writer::{Kind, Writer};

pub fn collect(reader: &mut Reader, writer: &mut Writer) -> Result<(), CollectError> {
    let text = reader.procfs("loadavg")?;
    let mut words = text.content.split_ascii_whitespace();
    let mut loads = [0.0; 3];
    for load in &mut loads {
        *load = words
            .next()
            .and_then(|word| word.parse::<f64>().ok())
            .filter(|value| value.is_finite())
            .ok_or_else(|| text.broken(1, "expected three load averages"))?;
    }
    writer.single("node_load1", Kind::Gauge, "Load average over 1 minute.", loads[0]);
    writer.single("node_load15", Kind::Gauge, "Load average over 15 minutes.", loads[2]);
    writer.single("node_load5", Kind::Gauge, "Load average over 5 minutes.", loads[1]);
    Ok(())
}
