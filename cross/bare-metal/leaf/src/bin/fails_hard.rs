//! Proves that a fault of the processor ends with status 1.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use holdfast_leaf::Board;

#[entry]
fn main() -> ! {
    let _board = Board::take();
    cortex_m::asm::udf()
}
