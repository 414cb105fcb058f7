//! What the firmware's programs share: the board, its clock and stack, the line to the node, and how a program ends.
//!
//! The programs say what they did on the board's one serial line, between two zero bytes, so that the node's end of the
//! link can tell it from frames. Under an emulator with semihosting a program that is content ends with status 0, and
//! one that is not, panics or faults, with status 1.
#![no_std]

pub mod board;
mod line;
mod slab;
mod stack;

pub use line::{SensorLayout, exchange};
pub use slab::with_slab;

use board::{Clock, Uart};
use core::{
    fmt::{self, Write as _},
    panic::PanicInfo,
};
use cortex_m_rt::{ExceptionFrame, exception};
use cortex_m_semihosting::debug;
use embedded_io::Write as _;

/// What a firmware has of its board.
pub struct Board {
    pub uart: Uart,
    pub clock: Clock,
}

impl Board {
    /// To be called once.
    ///
    /// # Panics
    ///
    /// When called again.
    pub fn take() -> Self {
        let peripherals = cortex_m::Peripherals::take().expect("the board is taken once");
        Self { uart: Uart::open(), clock: Clock::start(peripherals.SYST) }
    }
}

/// Stack that must have stayed untouched: one more call, or an interrupt, would still have had room.
const STACK_BYTES_SPARE: usize = 512;

/// Reports and ends the program.
pub fn finish(board: &mut Board, outcome: Result<(), &dyn fmt::Display>) -> ! {
    let stack = stack::Usage::measure();
    say(&mut board.uart, format_args!("stack: {} of {} bytes used", stack.used_bytes, stack.bytes));
    match outcome {
        Err(failure) => say(&mut board.uart, format_args!("failed: {failure}")),
        Ok(()) if stack.bytes - stack.used_bytes < STACK_BYTES_SPARE => {
            say(&mut board.uart, format_args!("failed: less than {STACK_BYTES_SPARE} bytes of stack were left"));
        }
        Ok(()) => {
            say(&mut board.uart, format_args!("ok"));
            end(debug::EXIT_SUCCESS);
        }
    }
    end(debug::EXIT_FAILURE)
}

/// A line of plain text among frames.
pub fn say(uart: &mut Uart, text: fmt::Arguments<'_>) {
    // The line has no errors to report.
    let _ = write!(Talk(uart), "\0leaf: {text}\n\0");
}

struct Talk<'u>(&'u mut Uart);

impl fmt::Write for Talk<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

fn end(status: debug::ExitStatus) -> ! {
    debug::exit(status);
    loop {
        cortex_m::asm::wfi();
    }
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    say(&mut Uart::open(), format_args!("{info}"));
    end(debug::EXIT_FAILURE)
}

// SAFETY: a handler of HardFault may not return and may not rely on what was being done; this one starts the line anew,
// writes to it and ends the program.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    say(&mut Uart::open(), format_args!("hard fault at {:#010x}", frame.pc()));
    end(debug::EXIT_FAILURE)
}
