//! Stellaris LM3S6965: ARM PrimeCell UART (PL011), Technical Reference Manual DDI 0183, chapter 3.

use super::{read, write};

pub(super) const TICKS_PER_MS: u64 = 12_500;

const BASE: usize = 0x4000_c000;
const DATA: usize = BASE;
const FLAGS: usize = BASE + 0x18;
const LINE_CONTROL: usize = BASE + 0x2c;
const CONTROL: usize = BASE + 0x30;
const FLAG_RECEIVE_EMPTY: u32 = 1 << 4;
const FLAG_SEND_FULL: u32 = 1 << 5;
/// The chip's gate for this port's clock.
const CLOCK_GATE: usize = 0x400f_e104;

pub(super) fn enable() {
    write(CLOCK_GATE, read(CLOCK_GATE) | 1);
    write(CONTROL, 0);
    // Eight bits, no parity, one stop bit, with FIFOs.
    write(LINE_CONTROL, 0b111 << 4);
    // Port, sender and receiver.
    write(CONTROL, 1 | 1 << 8 | 1 << 9);
}

pub(super) fn can_send() -> bool {
    read(FLAGS) & FLAG_SEND_FULL == 0
}

pub(super) fn send(byte: u8) {
    write(DATA, byte.into());
}

pub(super) fn has_received() -> bool {
    read(FLAGS) & FLAG_RECEIVE_EMPTY == 0
}

pub(super) fn receive() -> u8 {
    read(DATA) as u8
}
