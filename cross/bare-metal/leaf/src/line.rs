//! The line to the node: labels as the link asks for them, and one turn of sending and receiving.

use crate::Board;
use core::convert::Infallible;
use embedded_io::ReadReady;
use holdfast_core::{
    labels::{LabelsError, LabelsRef},
    link::{Layouts, LinkSender},
};
use holdfast_sensors as sensors;

/// The one layout of this firmware, encoded when it starts.
pub struct SensorLayout {
    number: u32,
    texts: [[u8; sensors::LABELS_BYTES_MAX]; sensors::COLUMN_COUNT],
    lengths: [usize; sensors::COLUMN_COUNT],
}

impl SensorLayout {
    pub fn new() -> Result<Self, LabelsError> {
        let mut layout = Self {
            number: sensors::layout(),
            texts: [[0; sensors::LABELS_BYTES_MAX]; sensors::COLUMN_COUNT],
            lengths: [0; sensors::COLUMN_COUNT],
        };
        for (column, text) in layout.texts.iter_mut().enumerate() {
            layout.lengths[column] = sensors::labels(column, text)?.as_bytes().len();
        }
        Ok(layout)
    }

    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Layouts for SensorLayout {
    fn column_count(&self, layout: u32) -> u16 {
        if layout == self.number { sensors::COLUMN_COUNT as u16 } else { 0 }
    }

    fn labels(&self, layout: u32, column: u16) -> Option<LabelsRef<'_>> {
        let column = usize::from(column);
        if layout != self.number {
            return None;
        }
        LabelsRef::decode(self.texts.get(column)?.get(..*self.lengths.get(column)?)?).ok()
    }
}

/// Sends what is due and takes what has come.
pub fn exchange<const BYTES: usize>(
    board: &mut Board,
    link: &mut LinkSender<BYTES>,
    layout: &SensorLayout,
    now_ms: u64,
) -> Result<(), Infallible> {
    link.write_to(now_ms, layout, &mut board.uart)?;
    while board.uart.read_ready()? {
        link.read_from(&mut board.uart)?;
    }
    Ok(())
}
