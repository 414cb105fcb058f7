//! A disk as a starting daemon reads it.

use super::Disk;
use holdfast_core::{daemon::start::StartDisk, store::stored::Stored};

pub struct ForStart<'d>(pub &'d mut dyn Disk);

impl StartDisk for ForStart<'_> {
    fn state(&mut self, key: &str) -> Result<Option<Vec<u8>>, String> {
        self.0.state(key).map_err(|error| error.to_string())
    }

    fn log_read(&mut self, generation: u64, offset_bytes: u64, buf: &mut [u8]) -> Result<usize, String> {
        self.0.log_read(generation, offset_bytes, buf).map_err(|error| error.to_string())
    }

    fn stored(&mut self) -> &mut dyn Stored {
        self.0.stored()
    }
}
