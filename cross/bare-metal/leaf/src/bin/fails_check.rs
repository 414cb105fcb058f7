//! Proves that a check that does not hold ends with status 1: without this, a harness that lost the status would show
//! every image as good.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use holdfast_leaf::{Board, finish};

#[entry]
fn main() -> ! {
    finish(&mut Board::take(), Err(&"meant to fail"))
}
