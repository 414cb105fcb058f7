//! The node's end of an emulated leaf's line: starts the emulator, takes the leaf's rows, acknowledges them, and checks
//! each bit for bit.
//!
//!   holdfast-leaf-node --rows COUNT [--bad-line ONE_IN] EMULATOR ARGUMENT...
//!
//! `--bad-line` loses or changes one byte in that many, both ways. The emulator's standard input and output must be the board's serial line. Ends with status 0 when the emulator did,
//! every row up to COUNT came once and in order, and none was lost after the first one.
#![forbid(unsafe_code)]

use holdfast_core::{
    labels::LabelsRef,
    link::{Cells, LinkReceiver, LinkSink, NotTaken, WIRE_BYTES_MAX},
    prng::Prng,
};
use holdfast_sensors as sensors;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    process::{Command, ExitCode, Stdio},
};

/// Of what happens to a bad line.
const SEED: u64 = 7;
/// A row's age may be this much above what its number says: the time that the exchange takes.
const EXCHANGE_MS_MAX: u64 = 120_000;

/// A line on which one byte in `one_in` is lost or changed.
struct BadLine {
    prng: Prng,
    one_in: u64,
}

struct Arguments {
    row_count: u32,
    bad_line: Option<BadLine>,
    emulator: Vec<String>,
}

fn main() -> ExitCode {
    let outcome = parse(std::env::args().skip(1)).and_then(run);
    match outcome {
        Ok(report) => {
            println!("node: {report}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("node: failed: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let usage = "usage: holdfast-leaf-node --rows COUNT [--bad-line ONE_IN] EMULATOR ARGUMENT...";
    let (mut row_count, mut bad_line) = (None, None);
    let first = loop {
        let argument = arguments.next().ok_or(usage)?;
        let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok()).ok_or(usage);
        match argument.as_str() {
            "--rows" => row_count = Some(u32::try_from(number()?).map_err(|_| usage)?),
            "--bad-line" => bad_line = Some(BadLine { prng: Prng::new(SEED), one_in: number()?.max(2) }),
            _ => break argument,
        }
    };
    let emulator = std::iter::once(first).chain(arguments).collect();
    Ok(Arguments { row_count: row_count.ok_or(usage)?, bad_line, emulator })
}

fn run(arguments: Arguments) -> Result<String, String> {
    let Arguments { row_count, mut bad_line, emulator } = arguments;
    let mut child = Command::new(&emulator[0])
        .args(&emulator[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", emulator[0]))?;
    let (Some(mut to_leaf), Some(mut from_leaf)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(String::from("the emulator has no pipes"));
    };
    let mut rows = Rows { row_count, ..Rows::default() };
    let mut receiver = LinkReceiver::new();
    let mut segment = Vec::new();
    let mut buf = [0; 512];
    loop {
        let used = from_leaf.read(&mut buf).map_err(|error| format!("reading the line: {error}"))?;
        if used == 0 {
            break;
        }
        for byte in &buf[..used] {
            segment.push(*byte);
            if *byte == 0 {
                take(&std::mem::take(&mut segment), bad_line.as_mut(), &mut receiver, &mut rows);
            }
        }
        let mut out = [0; WIRE_BYTES_MAX];
        while let Some(frame) = receiver.next_frame(&mut out).map_err(|error| error.to_string())? {
            let frame = carry(frame, bad_line.as_mut());
            // A leaf that has ended has all its answers.
            if to_leaf.write_all(&frame).and_then(|()| to_leaf.flush()).is_err() {
                break;
            }
        }
    }
    let status = child.wait().map_err(|error| format!("waiting for the emulator: {error}"))?;
    if !status.success() {
        return Err(format!("the emulator ended with {status}"));
    }
    rows.check(&receiver, bad_line.is_some())
}

/// One stretch of the line up to a zero: the leaf's own words, or a frame.
fn take(segment: &[u8], bad_line: Option<&mut BadLine>, receiver: &mut LinkReceiver, rows: &mut Rows) {
    let text = std::str::from_utf8(&segment[..segment.len() - 1]).unwrap_or("").trim();
    let is_text = text.starts_with("leaf: ") && !text.contains(|c: char| c.is_control() && c != '\n');
    if is_text {
        println!("{text}");
    } else {
        receiver.received(&carry(segment, bad_line), rows);
    }
}

/// What a line makes of bytes.
fn carry(bytes: &[u8], bad_line: Option<&mut BadLine>) -> Vec<u8> {
    let Some(BadLine { prng, one_in }) = bad_line else { return bytes.to_vec() };
    let mut arrived = Vec::new();
    for byte in bytes {
        if !prng.chance(1, *one_in) {
            arrived.push(*byte);
        } else if prng.chance(1, 2) {
            arrived.push(byte ^ 1 << prng.below(8));
        }
    }
    arrived
}

#[derive(Default)]
struct Rows {
    row_count: u32,
    columns: BTreeMap<u16, Vec<u8>>,
    first: Option<u32>,
    next: u32,
    lost_count: u32,
    problems: Vec<String>,
}

impl LinkSink for Rows {
    fn layout_column_count(&self, _: u64, layout: u32) -> Option<u16> {
        (layout == sensors::layout() && self.columns.len() == sensors::COLUMN_COUNT)
            .then_some(sensors::COLUMN_COUNT as u16)
    }

    fn layout_column(&mut self, _: u64, layout: u32, column: u16, column_count: u16, labels: LabelsRef<'_>) {
        if layout != sensors::layout() || usize::from(column_count) != sensors::COLUMN_COUNT {
            self.problems.push(format!("layout {layout} of {column_count} columns is not the sensors'"));
        }
        self.columns.insert(column, labels.as_bytes().to_vec());
    }

    fn row(&mut self, _: u64, _: u32, age_ms: u64, cells: Cells<'_>) -> Result<(), NotTaken> {
        let mut values = [None; sensors::COLUMN_COUNT];
        for (column, bits) in cells.iter() {
            values[usize::from(column)] = Some(bits);
        }
        let row = values[sensors::ROW_COLUMN].map_or(u32::MAX, |bits| f64::from_bits(bits) as u32);
        let expected = self.first.map_or(row, |_| self.next);
        if row != expected {
            self.problems.push(format!("row {row} came instead of row {expected}"));
        }
        if let Some(column) = (0..sensors::COLUMN_COUNT).find(|column| values[*column] != sensors::kept(row, *column)) {
            self.problems.push(format!("row {row}, column {column}: not what the sensor gives"));
        }
        let age_ms_min = u64::from(self.row_count.saturating_sub(1).saturating_sub(row)) * sensors::INTERVAL_MS;
        if !(age_ms_min..age_ms_min + EXCHANGE_MS_MAX).contains(&age_ms) {
            self.problems.push(format!("row {row} is said to be {age_ms} ms old, and is {age_ms_min}"));
        }
        self.first.get_or_insert(row);
        self.next = row.wrapping_add(1);
        Ok(())
    }

    fn lost(&mut self, _: u64, row_count: u32) {
        self.lost_count += row_count;
    }
}

impl Rows {
    fn check(mut self, receiver: &LinkReceiver, bad_line: bool) -> Result<String, String> {
        for column in 0..sensors::COLUMN_COUNT {
            let mut buf = [0; sensors::LABELS_BYTES_MAX];
            let expected = sensors::labels(column, &mut buf).map_err(|error| error.to_string())?;
            if self.columns.get(&(column as u16)).map(Vec::as_slice) != Some(expected.as_bytes()) {
                self.problems.push(format!("column {column} did not come with the labels {expected}"));
            }
        }
        let damaged = receiver.frames_damaged();
        let repeated = receiver.rows_repeated;
        let Some(first) = self.first else { return Err(String::from("no row came")) };
        if self.next != self.row_count {
            self.problems.push(format!("rows came up to {}, not up to {}", self.next, self.row_count));
        }
        if self.lost_count > 0 || receiver.rows_broken > 0 {
            self.problems.push(format!("{} rows lost, {} broken", self.lost_count, receiver.rows_broken));
        }
        if bad_line != (damaged > 0) {
            self.problems.push(format!("{damaged} frames were damaged on a line that is bad: {bad_line}"));
        }
        match self.problems.first() {
            Some(problem) => Err(format!("{problem} ({} problems)", self.problems.len())),
            None => Ok(format!(
                "rows {first} to {} came in order and bit for bit, {repeated} of them again, {damaged} frames damaged",
                self.next - 1
            )),
        }
    }
}
