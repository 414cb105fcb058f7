//! The host's wall clock: `node_time_seconds`.

use super::reader::CollectError;
use super::system::System;
use super::writer::{Kind, Writer};

pub fn collect(system: &dyn System, writer: &mut Writer) -> Result<(), CollectError> {
    writer.single("node_time_seconds", Kind::Gauge, "The wall clock, in seconds since 1970.", system.wall_s());
    Ok(())
}
