//! Readings that firmware and node both know, so that each can check the other bit for bit.
//!
//! A value depends on its row and column alone. Among them is what a codec or a line may stumble over: constants,
//! decimals, noise in every bit, a counter that starts over, gaps, infinities, NaN, minus zero, a subnormal.
#![no_std]
#![forbid(unsafe_code)]

use holdfast_core::{
    labels::{LabelsError, LabelsRef, LabelsWriter, NAME},
    prng::{mix, stable_hash},
    store::STALE_NAN_BITS,
};

pub const COLUMN_COUNT: usize = 8;
/// Rows are this far apart.
pub const INTERVAL_MS: u64 = 1_000;
/// Longest of the encoded label sets.
pub const LABELS_BYTES_MAX: usize = 64;

/// The column that holds the row's own number.
pub const ROW_COLUMN: usize = 0;

const NAMES: [&str; COLUMN_COUNT] = [
    "leaf_rows_total",
    "leaf_temperature_celsius",
    "leaf_supply_volts",
    "leaf_vibration_ratio",
    "leaf_door_open",
    "leaf_flow_litres_total",
    "leaf_probe_celsius",
    "leaf_strange_ratio",
];

/// What the sensor of a column gives in a row, as the value's bits; `None`: nothing.
pub fn reading(row: u32, column: usize) -> Option<u64> {
    let noise = mix(u64::from(row) << 8 | column as u64);
    let slow_noise = mix(u64::from(row / 16) << 8 | column as u64);
    let value = match column {
        ROW_COLUMN => f64::from(row),
        1 => f64::from(200 + (slow_noise % 40) as u32 + row % 3) / 10.0,
        2 => 3.3,
        3 => f64::from_bits(0x3ff << 52 | noise >> 12),
        4 => f64::from(u8::from(slow_noise.is_multiple_of(8))),
        5 => f64::from(row % 500) * 0.25,
        6 if row % 5 >= 3 => return None,
        6 => f64::from((noise % 1000) as u32) / 100.0 - 5.0,
        _ => match row % 6 {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            3 => -0.0,
            4 => f64::from_bits(1),
            _ => f64::MAX,
        },
    };
    Some(value.to_bits())
}

/// What a store keeps of that: where a sensor falls silent, a stale marker.
pub fn kept(row: u32, column: usize) -> Option<u64> {
    reading(row, column).or_else(|| {
        let before = row.checked_sub(1)?;
        reading(before, column).map(|_| STALE_NAN_BITS)
    })
}

/// The labels of a column, written into `buf`.
pub fn labels(column: usize, buf: &mut [u8; LABELS_BYTES_MAX]) -> Result<LabelsRef<'_>, LabelsError> {
    let mut writer = LabelsWriter::new(buf);
    writer.push(NAME, NAMES[column])?;
    writer.push("site", "7")?;
    Ok(writer.finish())
}

/// The number by which the link names this list of columns: another list has another number.
pub fn layout() -> u32 {
    NAMES.iter().fold(0, |number: u32, name| number.rotate_left(5) ^ stable_hash(name.as_bytes()) as u32)
}
