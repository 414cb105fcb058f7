//! The slab of the programs that keep a store: 48 KiB of static memory that outlives a reset.

use crate::{Board, finish};
use core::{cell::UnsafeCell, fmt};

const SLAB_BYTES: usize = 48 * 1024;

/// Outside the zeroed section, so that it outlives a reset.
#[unsafe(link_section = ".uninit.slab")]
static SLAB: Slab = Slab(UnsafeCell::new([0; SLAB_BYTES]));

#[repr(align(8))]
struct Slab(UnsafeCell<[u8; SLAB_BYTES]>);

// SAFETY: there is one core and one thread, and only `with_slab` touches the slab.
unsafe impl Sync for Slab {}

/// A program from its first line to its last: what `run` does with board and slab, and how that ended.
///
/// # Panics
///
/// When called again.
pub fn with_slab<F: fmt::Display>(run: impl FnOnce(&mut Board, &'static mut [u8]) -> Result<(), F>) -> ! {
    let mut board = Board::take();
    // SAFETY: the board is taken once, so this is reached once, and nothing else names the slab. Whatever bytes a reset
    // left are bytes; `attach` checks what they mean.
    let slab: &'static mut [u8] = unsafe { &mut *SLAB.0.get() };
    match run(&mut board, slab) {
        Ok(()) => finish(&mut board, Ok(())),
        Err(failure) => finish(&mut board, Err(&failure)),
    }
}
