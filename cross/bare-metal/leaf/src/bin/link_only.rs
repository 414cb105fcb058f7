//! What fits a board with 16 KiB: no store, only the link's own ring of rows, each kept until the node acknowledges it.
#![no_std]
#![no_main]

use core::fmt;
use cortex_m_rt::entry;
use holdfast_core::{
    labels::LabelsError,
    link::{LinkSender, PushError},
};
use holdfast_leaf::{Board, SensorLayout, exchange, finish, say};
use holdfast_sensors as sensors;

const ROW_COUNT: u32 = 300;
const LINK_BYTES: usize = 1024;
const LINK_ROWS_COUNT: u32 = 8;
const SILENCE_MS_MAX: u64 = 60_000;
const LEAF: u64 = 0x1eaf;

enum Failure {
    Labels(LabelsError),
    Push(PushError),
    Lost { rows: u32 },
    NodeSilent { rows_left: u32 },
}

#[entry]
fn main() -> ! {
    let mut board = Board::take();
    match run(&mut board) {
        Ok(()) => finish(&mut board, Ok(())),
        Err(failure) => finish(&mut board, Err(&failure)),
    }
}

fn run(board: &mut Board) -> Result<(), Failure> {
    let layout = SensorLayout::new().map_err(Failure::Labels)?;
    let mut link = LinkSender::<LINK_BYTES>::new(LEAF, 1);
    let mut row = 0;
    let mut progress_ms = 0;
    while row < ROW_COUNT || link.row_count() > 0 {
        while row < ROW_COUNT && link.row_count() < LINK_ROWS_COUNT {
            let values = core::array::from_fn::<_, { sensors::COLUMN_COUNT }, _>(|column| sensors::kept(row, column));
            let instant_ms = u64::from(row) * sensors::INTERVAL_MS;
            link.push_row(instant_ms, layout.number(), &values).map_err(Failure::Push)?;
            row += 1;
        }
        let elapsed_ms = board.clock.elapsed_ms();
        let now_ms = u64::from(ROW_COUNT - 1) * sensors::INTERVAL_MS + elapsed_ms;
        let acknowledged = link.counters.rows_acknowledged;
        let Ok(()) = exchange(board, &mut link, &layout, now_ms);
        if link.counters.rows_acknowledged > acknowledged {
            progress_ms = elapsed_ms;
        }
        if elapsed_ms - progress_ms > SILENCE_MS_MAX {
            return Err(Failure::NodeSilent { rows_left: ROW_COUNT - row + link.row_count() });
        }
    }
    if link.counters.rows_lost > 0 {
        return Err(Failure::Lost { rows: link.counters.rows_lost });
    }
    say(
        &mut board.uart,
        format_args!("node has {} rows, {} frames went twice", ROW_COUNT, link.counters.frames_repeated),
    );
    Ok(())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Labels(error) => error.fmt(f),
            Self::Push(error) => error.fmt(f),
            Self::Lost { rows } => write!(f, "the link gave up {rows} rows"),
            Self::NodeSilent { rows_left } => write!(f, "the node is silent, {rows_left} rows are left"),
        }
    }
}
