//! Boot time, interrupts, context switches and processes, from proc's `stat`.

use super::reader::{CollectError, Reader};
use super::writer::{Kind, Writer};

/// First word of the line, and the family its first number gives. In the order they are written.
const LINES: [(&str, &str, Kind, &str); 6] = [
    ("btime", "node_boot_time_seconds", Kind::Gauge, "When the host booted, in seconds since 1970."),
    ("ctxt", "node_context_switches_total", Kind::Counter, "Context switches since boot."),
    ("processes", "node_forks_total", Kind::Counter, "Processes and threads started since boot."),
    ("intr", "node_intr_total", Kind::Counter, "Interrupts served since boot."),
    ("procs_blocked", "node_procs_blocked", Kind::Gauge, "Processes waiting for input or output."),
    ("procs_running", "node_procs_running", Kind::Gauge, "Processes that are running or could run."),
];

pub fn collect(reader: &mut Reader, writer: &mut Writer) -> Result<(), CollectError> {
    let text = reader.procfs("stat")?;
    let mut values = [None; LINES.len()];
    for (line_number, line) in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next();
        let Some(index) = LINES.iter().position(|(word, ..)| first == Some(*word)) else { continue };
        let number: Option<u64> = words.next().and_then(|word| word.parse().ok());
        values[index] = Some(number.ok_or_else(|| text.broken(line_number, "expected a number after the first word"))?);
    }
    for ((_, name, kind, help), value) in LINES.iter().zip(values) {
        if let Some(value) = value {
            writer.single(name, *kind, help, value);
        }
    }
    Ok(())
}
