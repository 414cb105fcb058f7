//! The same checks on the real thing and on its fake, so that what the simulator proves holds on a disk.

mod disk;
mod fake_stored;
