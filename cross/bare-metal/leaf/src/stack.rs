//! How much of the stack was used. Before the program starts, the runtime paints everything between the last static and
//! the stack's beginning; what is still painted was never used.
//!
//! The stack grows down towards the statics, and on the small board nothing faults when it reaches them: so this is
//! looked at after every run.

use core::ptr;
use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    static _stack_start: u32;
    static _stack_end: u32;
}

pub struct Usage {
    pub bytes: usize,
    pub used_bytes: usize,
}

impl Usage {
    pub fn measure() -> Self {
        let (top, bottom) = (&raw const _stack_start, &raw const _stack_end);
        let words = (top as usize - bottom as usize) / size_of::<u32>();
        // SAFETY: the linker script puts both symbols, word-aligned, at the ends of RAM that holds the stack alone; the
        // index stays between them. Volatile, because the compiler knows of no object there.
        let painted = |index: &usize| unsafe { ptr::read_volatile(bottom.add(*index)) } == STACK_PAINT_VALUE;
        let free_words = (0..words).take_while(painted).count();
        Self { bytes: words * size_of::<u32>(), used_bytes: (words - free_words) * size_of::<u32>() }
    }
}
