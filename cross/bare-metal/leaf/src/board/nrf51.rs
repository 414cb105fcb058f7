//! BBC micro:bit: the UART of Nordic's nRF51, Series Reference Manual, chapter 29. An event register is 1 once something
//! has happened, and is cleared by the program.

use super::{read, write};
use core::sync::atomic::{AtomicBool, Ordering};

pub(super) const TICKS_PER_MS: u64 = 16_000;

const BASE: usize = 0x4000_2000;
const START_RECEIVING: usize = BASE;
const START_SENDING: usize = BASE + 0x8;
const RECEIVED: usize = BASE + 0x108;
const SENT: usize = BASE + 0x11c;
const ENABLE: usize = BASE + 0x500;
const PIN_SEND: usize = BASE + 0x50c;
const PIN_RECEIVE: usize = BASE + 0x514;
const RECEIVE_DATA: usize = BASE + 0x518;
const SEND_DATA: usize = BASE + 0x51c;
const BAUD_RATE: usize = BASE + 0x524;
const BAUD_115200: u32 = 0x01d7_e000;

/// Nothing was sent yet, so there is no "sent" to wait for.
static IDLE: AtomicBool = AtomicBool::new(true);

pub(super) fn enable() {
    write(PIN_SEND, 24);
    write(PIN_RECEIVE, 25);
    write(BAUD_RATE, BAUD_115200);
    write(ENABLE, 4);
    write(START_RECEIVING, 1);
    write(START_SENDING, 1);
    IDLE.store(true, Ordering::Relaxed);
}

pub(super) fn can_send() -> bool {
    IDLE.load(Ordering::Relaxed) || read(SENT) != 0
}

pub(super) fn send(byte: u8) {
    IDLE.store(false, Ordering::Relaxed);
    write(SENT, 0);
    write(SEND_DATA, byte.into());
}

pub(super) fn has_received() -> bool {
    read(RECEIVED) != 0
}

pub(super) fn receive() -> u8 {
    // Cleared first: the next byte's event must not be lost.
    write(RECEIVED, 0);
    read(RECEIVE_DATA) as u8
}
