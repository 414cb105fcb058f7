//! Proves that a panic ends with status 1 and says where.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use holdfast_leaf::Board;

#[entry]
fn main() -> ! {
    let mut board = Board::take();
    panic!("meant to panic after {} ms", board.clock.elapsed_ms())
}
