//! CPU times, from proc's `stat`: `node_cpu_seconds_total` and `node_cpu_guest_seconds_total`.
//!
//! Only the `cpuN` lines are read, which are the same on every architecture; `cpuinfo`, which is not, is left alone.

use super::reader::{CollectError, Reader, numbers};
use super::writer::{Kind, Writer};

/// Unit of the times in `stat`: 1/100 s on every architecture Linux runs on today (proc(5), `USER_HZ`).
const TICKS_PER_S: f64 = 100.0;

const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
/// Guest time stands behind the modes: already counted in user and nice, and therefore in a family of its own.
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const COLUMN_COUNT: usize = MODES.len() + GUEST_MODES.len();

/// Idle time that goes back by more than this means that the CPU was away (hot plug) and counts anew.
const BACKWARD_TICKS_MAX: u64 = 300;

/// The times last written, one row per CPU.
#[derive(Default)]
pub struct CpuState {
    rows: Vec<CpuRow>,
}

#[derive(Clone, Copy)]
struct CpuRow {
    number: u32,
    ticks: [u64; COLUMN_COUNT],
    /// In the file of this scrape; the others are forgotten.
    present: bool,
}

pub fn collect(reader: &mut Reader, state: &mut CpuState, writer: &mut Writer) -> Result<(), CollectError> {
    state.rows.iter_mut().for_each(|row| row.present = false);
    let text = reader.procfs("stat")?;
    for (line_number, line) in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(number) = words.next().and_then(|word| word.strip_prefix("cpu")).filter(|rest| !rest.is_empty())
        else {
            continue;
        };
        let Ok(number) = number.parse() else {
            return Err(text.broken(line_number, "expected the number of a CPU"));
        };
        let mut ticks = [0; COLUMN_COUNT];
        // Kernels before 2.6.33 have fewer columns; without idle time it is no such line.
        match numbers(words, &mut ticks) {
            Some(count) if count > IDLE => state.keep(number, ticks),
            _ => return Err(text.broken(line_number, "expected at least four times of a CPU")),
        }
    }
    state.rows.retain(|row| row.present);
    if state.rows.is_empty() {
        return Err(text.broken(1, "expected a line per CPU"));
    }
    state.rows.sort_unstable_by_key(|row| row.number);

    let seconds = |ticks: u64| ticks as f64 / TICKS_PER_S;
    let name = "node_cpu_guest_seconds_total";
    writer.family(name, Kind::Counter, "Seconds a CPU spent in guests, contained in user and nice time.");
    for row in &state.rows {
        let cpu = row.number.to_string();
        for (mode, ticks) in GUEST_MODES.iter().zip(&row.ticks[MODES.len()..]) {
            writer.sample(name, &[("cpu", &cpu), ("mode", mode)], seconds(*ticks));
        }
    }
    let name = "node_cpu_seconds_total";
    writer.family(name, Kind::Counter, "Seconds a CPU spent in each mode.");
    for row in &state.rows {
        let cpu = row.number.to_string();
        for (mode, ticks) in MODES.iter().zip(&row.ticks) {
            writer.sample(name, &[("cpu", &cpu), ("mode", mode)], seconds(*ticks));
        }
    }
    Ok(())
}

impl CpuState {
    /// The kernel lets idle, iowait and steal time slip back a little now and then (proc(5)); a counter that did so
    /// would count as reset, so that its rate jumps by days. The old value stays until the kernel has caught up.
    fn keep(&mut self, number: u32, ticks: [u64; COLUMN_COUNT]) {
        let Some(row) = self.rows.iter_mut().find(|row| row.number == number) else {
            self.rows.push(CpuRow { number, ticks, present: true });
            return;
        };
        row.present = true;
        if ticks[IDLE].saturating_add(BACKWARD_TICKS_MAX) < row.ticks[IDLE] {
            row.ticks = ticks;
            return;
        }
        for (kept, read) in row.ticks.iter_mut().zip(ticks) {
            *kept = (*kept).max(read);
        }
    }
}
