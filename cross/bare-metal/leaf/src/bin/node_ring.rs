//! One hundred series of a real node_exporter in 48 KiB: a thousand scrapes through the ring.
//!
//! The recording lies in flash as text and is run through again and again, so that the values are a real exporter's and
//! nothing has to be sent. The first time the program starts it makes a store, writes six hundred rows and resets the
//! board; the second time it attaches to what is still in memory, writes the rest, and reads every row that the ring still
//! holds back, bit for bit. At least [`ROWS_HELD_MIN`] of them must be there, and every other one must have been counted.
#![no_std]
#![no_main]

use core::fmt;
use cortex_m_rt::entry;
use holdfast_core::{
    labels::{LabelsError, LabelsRef, LabelsWriter, NAME},
    memory::{BudgetError, Plan},
    store::{AttachError, Identity, Missing, PutOutcome, Refused, Store, StoreError, TimelineId, TimelineKey},
};
use holdfast_leaf::{Board, say, with_slab};

/// A line of times, then a hundred of series; `tests/fixtures/node/hundred-series.txt` has its own description.
const RECORDING: &str = include_str!("../../../../../tests/fixtures/node/hundred-series.txt");

const SERIES_COUNT: usize = 100;
const ROW_COUNT: u64 = 1_000;
const ROW_COUNT_BEFORE_RESET: u64 = 600;
const ROWS_HELD_MIN: u64 = 200;
const NODE: TimelineKey = TimelineKey(0x4e0de);
const LABELS_BYTES_MAX: usize = 256;

enum Failure {
    Budget(BudgetError),
    Store(StoreError),
    Attach(AttachError),
    Refused(Refused),
    Labels(LabelsError),
    /// The recording is not what it should be, at this byte.
    Recording {
        at: usize,
    },
    Differs {
        what: &'static str,
        found: u64,
        expected: u64,
    },
    Value {
        row: u64,
        series: usize,
    },
}

#[entry]
fn main() -> ! {
    with_slab(run)
}

fn run(board: &mut Board, slab: &'static mut [u8]) -> Result<(), Failure> {
    let plan = Plan::for_series(slab.len(), SERIES_COUNT as u64).map_err(Failure::Budget)?;
    let identity = Identity { store_uuid: *b"holdfast leaf 02", boot_id: *b"until power goes", log_generation: 0 };
    let mut store = match Store::attach(slab, &plan, &identity) {
        Ok((store, report)) => {
            same("series after the reset", report.series.into(), SERIES_COUNT as u64)?;
            store
        }
        Err((AttachError::NoStore, slab)) => {
            let mut store = Store::create(slab, &plan, identity).map_err(Failure::Store)?;
            let timeline = store.timeline_open(NODE).map_err(Failure::Refused)?;
            write_rows(&mut store, timeline, 0..ROW_COUNT_BEFORE_RESET)?;
            say(&mut board.uart, format_args!("new store, {ROW_COUNT_BEFORE_RESET} scrapes written, resetting"));
            cortex_m::peripheral::SCB::sys_reset();
        }
        Err((error, _)) => return Err(Failure::Attach(error)),
    };
    let timeline = store.timeline_open(NODE).map_err(Failure::Refused)?;
    check_rows(&store, timeline, ROW_COUNT_BEFORE_RESET)?;
    write_rows(&mut store, timeline, ROW_COUNT_BEFORE_RESET..ROW_COUNT)?;
    let held_count = check_rows(&store, timeline, ROW_COUNT)?;
    let ring = store.ring_pressure();
    say(
        &mut board.uart,
        format_args!(
            "{ROW_COUNT} scrapes of {SERIES_COUNT} series: the newest {held_count} are whole, {} evicted, ring {} of {} bytes",
            ROW_COUNT - held_count,
            ring.bytes - ring.bytes_free,
            ring.bytes
        ),
    );
    if held_count < ROWS_HELD_MIN {
        return Err(Failure::Differs { what: "rows in memory", found: held_count, expected: ROWS_HELD_MIN });
    }
    Ok(())
}

fn write_rows(store: &mut Store<'_>, timeline: TimelineId, rows: core::ops::Range<u64>) -> Result<(), Failure> {
    let mut recording = Recording::at(rows.start)?;
    let mut buf = [0; LABELS_BYTES_MAX];
    for row in rows {
        store.row_begin(timeline, recording.instant_ms()?).map_err(Failure::Refused)?;
        for series in 0..SERIES_COUNT {
            let labels = recording.labels(series, &mut buf)?;
            let put = store.row_put(timeline, labels, recording.bits(series)?, None).map_err(Failure::Refused)?;
            if matches!(put, PutOutcome::Duplicate { .. }) {
                return Err(Failure::Value { row, series });
            }
        }
        let committed = store.row_commit(timeline, Missing::Stale);
        same("number of the row", committed.row, row)?;
        same("samples of the row", committed.samples.into(), SERIES_COUNT as u64)?;
        recording.next()?;
    }
    Ok(())
}

/// Every sample of every row in memory; gives how many rows those are.
fn check_rows(store: &Store<'_>, timeline: TimelineId, written_count: u64) -> Result<u64, Failure> {
    let rows = store.rows(timeline);
    same("row after the last", rows.end, written_count)?;
    let counters = store.usage().counters;
    same("rows committed", counters.committed_rows, written_count)?;
    same("evicted rows", counters.evicted_rows, rows.start)?;
    same("evicted samples", counters.evicted_samples, rows.start * SERIES_COUNT as u64)?;
    let mut buf = [0; LABELS_BYTES_MAX];
    let mut recording = Recording::at(rows.start)?;
    for row in rows.clone() {
        for series in 0..SERIES_COUNT {
            let Some(id) = store.series_find(recording.labels(series, &mut buf)?) else {
                return Err(Failure::Value { row, series });
            };
            let (t_ms, bits) = (recording.instant_ms()?, recording.bits(series)?);
            let (mut found_count, mut is_same) = (0, true);
            store.series_read(id, t_ms, t_ms, &mut |found_ms, found_bits| {
                found_count += 1;
                is_same &= (found_ms, found_bits) == (t_ms, bits);
            });
            if !is_same || found_count != 1 {
                return Err(Failure::Value { row, series });
            }
        }
        recording.next()?;
    }
    Ok(rows.end - rows.start)
}

fn same(what: &'static str, found: u64, expected: u64) -> Result<(), Failure> {
    if found == expected { Ok(()) } else { Err(Failure::Differs { what, found, expected }) }
}

/// The recording at one of its scrapes; behind the last one it begins again, later.
struct Recording {
    times: Cursor,
    series: [Cursor; SERIES_COUNT],
    /// What all earlier passes together took.
    passed_ms: i64,
}

/// A line at one of its values. Its words are its name, then `value` or `value*count`.
#[derive(Clone, Copy, Default)]
struct Cursor {
    /// Where its name begins, and its current value.
    name: u32,
    value: u32,
    /// How often the value stands here still, this time included.
    count: u16,
}

/// Between the end of one pass and the beginning of the next.
const INTERVAL_MS: i64 = 5_000;

impl Recording {
    fn at(row: u64) -> Result<Self, Failure> {
        let mut recording = Self { times: Cursor::default(), series: [Cursor::default(); SERIES_COUNT], passed_ms: 0 };
        recording.rewind()?;
        for _ in 0..row {
            recording.next()?;
        }
        Ok(recording)
    }

    fn rewind(&mut self) -> Result<(), Failure> {
        let mut from = 0;
        let lines = RECORDING.split_inclusive('\n').map(|line| {
            from += line.len();
            (line, from - line.len())
        });
        let mut lines = lines.filter(|(line, _)| !line.starts_with('#'));
        for cursor in core::iter::once(&mut self.times).chain(&mut self.series) {
            let Some((line, from)) = lines.next() else { return Err(Failure::Recording { at: RECORDING.len() }) };
            let name_bytes = word(line).len();
            *cursor = Cursor { name: from as u32, value: (from + name_bytes + 1) as u32, count: 0 };
            cursor.count = cursor.count_here()?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(), Failure> {
        if !self.times.next()? {
            let last_ms = self.instant_ms()?;
            self.rewind()?;
            self.passed_ms += last_ms + INTERVAL_MS - self.instant_ms()?;
            return Ok(());
        }
        for cursor in &mut self.series {
            if !cursor.next()? {
                return Err(cursor.wrong());
            }
        }
        Ok(())
    }

    fn instant_ms(&self) -> Result<i64, Failure> {
        let t_ms: i64 = self.times.value_text().parse().map_err(|_| self.times.wrong())?;
        Ok(t_ms + self.passed_ms)
    }

    fn bits(&self, series: usize) -> Result<u64, Failure> {
        let cursor = &self.series[series];
        cursor.value_text().parse().map(f64::to_bits).map_err(|_| cursor.wrong())
    }

    /// The labels of a series, written into `buf`.
    fn labels<'b>(&self, series: usize, buf: &'b mut [u8; LABELS_BYTES_MAX]) -> Result<LabelsRef<'b>, Failure> {
        let cursor = &self.series[series];
        let name = word(&RECORDING[cursor.name as usize..]);
        let (metric, labels) = name.split_once('{').unwrap_or((name, ""));
        let mut writer = LabelsWriter::new(buf);
        writer.push(NAME, metric).map_err(Failure::Labels)?;
        for label in labels.trim_end_matches('}').split_terminator("\",") {
            let (label, value) = label.split_once("=\"").ok_or(cursor.wrong())?;
            let value = value.trim_end_matches('"');
            // An empty label is none.
            if !value.is_empty() {
                writer.push(label, value).map_err(Failure::Labels)?;
            }
        }
        Ok(writer.finish())
    }
}

impl Cursor {
    /// False at the line's end.
    fn next(&mut self) -> Result<bool, Failure> {
        self.count -= 1;
        if self.count > 0 {
            return Ok(true);
        }
        let end = self.value as usize + word(&RECORDING[self.value as usize..]).len();
        if !RECORDING[end..].starts_with(' ') {
            self.count = 1;
            return Ok(false);
        }
        self.value = end as u32 + 1;
        self.count = self.count_here()?;
        Ok(true)
    }

    fn count_here(&self) -> Result<u16, Failure> {
        match word(&RECORDING[self.value as usize..]).split_once('*') {
            None => Ok(1),
            Some((_, count)) => count.parse().ok().filter(|count| *count > 0).ok_or(self.wrong()),
        }
    }

    fn value_text(&self) -> &'static str {
        let word = word(&RECORDING[self.value as usize..]);
        word.split_once('*').map_or(word, |(value, _)| value)
    }

    fn wrong(&self) -> Failure {
        Failure::Recording { at: self.value as usize }
    }
}

/// Up to the next space or the line's end.
fn word(text: &str) -> &str {
    text.split([' ', '\n']).next().unwrap_or(text)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Attach(error) => error.fmt(f),
            Self::Refused(error) => error.fmt(f),
            Self::Labels(error) => error.fmt(f),
            Self::Recording { at } => write!(f, "the recording cannot be read at byte {at}"),
            Self::Differs { what, found, expected } => write!(f, "{what}: {found}, expected {expected}"),
            Self::Value { row, series } => write!(f, "row {row}, series {series}: not the value that was written"),
        }
    }
}
