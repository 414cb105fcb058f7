//! The one loop: feeds what happens to the machine, performs what it asks for, sleeps in between.

use holdfast_core::{
    daemon::{Input, Output},
    store::stored::Stored,
    time::Now,
};

/// What the loop drives: the core's daemon, or a stand-in in tests. The contract is `holdfast_core::daemon`'s.
pub trait Machine {
    fn handle(&mut self, now: Now, input: Input<'_>, stored: &mut dyn Stored);
    fn poll_output<'b>(&mut self, now: Now, buf: &'b mut [u8], stored: &mut dyn Stored) -> Output<'b>;
}
