//! MPS2: the UART of ARM's Cortex-M System Design Kit, Technical Reference Manual DDI 0479, section 4.3.

use super::{read, write};

pub(super) const TICKS_PER_MS: u64 = 25_000;

const BASE: usize = 0x4000_4000;
const DATA: usize = BASE;
const STATE: usize = BASE + 0x4;
const CONTROL: usize = BASE + 0x8;
const BAUD_DIVIDER: usize = BASE + 0x10;
const STATE_SEND_FULL: u32 = 1;
const STATE_RECEIVE_FULL: u32 = 1 << 1;
/// 115200 baud at 25 MHz; the least that the port accepts is 16.
const DIVIDER: u32 = 217;

pub(super) fn enable() {
    write(BAUD_DIVIDER, DIVIDER);
    // Sender and receiver.
    write(CONTROL, 0b11);
}

pub(super) fn can_send() -> bool {
    read(STATE) & STATE_SEND_FULL == 0
}

pub(super) fn send(byte: u8) {
    write(DATA, byte.into());
}

pub(super) fn has_received() -> bool {
    read(STATE) & STATE_RECEIVE_FULL != 0
}

pub(super) fn receive() -> u8 {
    read(DATA) as u8
}
