//! The boards: one file per kind of serial port, all with the same surface, and the clock that they share.

#[cfg(feature = "mps2-an386")]
mod cmsdk;
#[cfg(feature = "microbit")]
mod nrf51;
#[cfg(feature = "lm3s6965evb")]
mod pl011;

#[cfg(feature = "mps2-an386")]
use cmsdk as port;
#[cfg(feature = "microbit")]
use nrf51 as port;
#[cfg(feature = "lm3s6965evb")]
use pl011 as port;

use core::{convert::Infallible, ptr};
use cortex_m::peripheral::{SYST, syst::SystClkSource};
use embedded_io::{ErrorType, Read, ReadReady, Write};

/// The board's serial line; polled, without interrupts.
pub struct Uart(());

impl Uart {
    pub(crate) fn open() -> Self {
        port::enable();
        Self(())
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for byte in bytes {
            while !port::can_send() {}
            port::send(*byte);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(port::has_received())
    }
}

impl Read for Uart {
    /// Waits for the first byte, then takes what is there.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let mut used = 0;
        while used < buf.len() && (used == 0 || port::has_received()) {
            while !port::has_received() {}
            buf[used] = port::receive();
            used += 1;
        }
        Ok(used)
    }
}

/// Milliseconds from the core's own timer; has to be looked at within one turn of its 24 bits (0.6 s at 25 MHz), or it
/// falls behind.
pub struct Clock {
    timer: SYST,
    last: u32,
    ticks: u64,
}

const TIMER_MASK: u32 = 0x00ff_ffff;

impl Clock {
    pub(crate) fn start(mut timer: SYST) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(TIMER_MASK);
        timer.clear_current();
        timer.enable_counter();
        let last = SYST::get_current();
        Self { timer, last, ticks: 0 }
    }

    /// Since the start.
    pub fn elapsed_ms(&mut self) -> u64 {
        let _ = &self.timer;
        let now = SYST::get_current();
        // It counts down.
        self.ticks += u64::from(self.last.wrapping_sub(now) & TIMER_MASK);
        self.last = now;
        self.ticks / port::TICKS_PER_MS
    }
}

fn read(register: usize) -> u32 {
    // SAFETY: the twin files name only registers of their board's serial port, which are words, always there, and
    // used by this firmware alone.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance(register)) }
}

fn write(register: usize, value: u32) {
    // SAFETY: as in `read`.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(register), value) }
}
