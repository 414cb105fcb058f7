//! A disk as a starting daemon reads it.

use super::Disk;
use holdfast_core::{
    daemon::{output::Put, start::StartDisk},
    spill::Flash,
    store::stored::{Stored, StoredError},
};

pub struct ForStart<'d>(pub &'d mut dyn Disk);

impl StartDisk for ForStart<'_> {
    fn state(&mut self, key: &str) -> Result<Option<Vec<u8>>, String> {
        self.0.state(key).map_err(|error| error.to_string())
    }

    fn flash(&mut self) -> &mut dyn Flash {
        self
    }
}

impl Flash for ForStart<'_> {
    fn log_read(&mut self, file: usize, offset: u64, buf: &mut [u8]) -> Result<usize, StoredError> {
        let read = self.0.log_read(file as u64, offset, buf);
        read.map_err(|_| StoredError { reason: "the tail log cannot be read" })
    }

    fn stored(&mut self) -> &mut dyn Stored {
        self.0.stored()
    }

    /// A disk remembers what failed, and tells with the commit.
    fn put(&mut self, put: Put<'_>) -> Result<(), StoredError> {
        self.0.put(put);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoredError> {
        self.0.commit().map_err(|_| StoredError { reason: "the database does not take segments" })
    }

    /// A failed commit has forgotten everything already.
    fn roll_back(&mut self) {}
}
