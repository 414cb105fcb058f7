//! A host without a disk: nothing is kept, every write succeeds, nothing is found.
//!
//! History is what the slab holds; a restart in the same boot still attaches to it.

use super::{Disk, DiskError, DiskLoss, DiskUsage};
use holdfast_core::{
    daemon::output::Put,
    store::stored::{NothingStored, Stored},
};

pub struct Ram {
    nothing: NothingStored,
    store_uuid: [u8; 16],
}

impl Ram {
    /// `store_uuid` must be the same for every process of this boot that shall attach to the same slab.
    pub fn new(store_uuid: [u8; 16]) -> Self {
        Self { nothing: NothingStored, store_uuid }
    }
}

impl Disk for Ram {
    fn stored(&mut self) -> &mut dyn Stored {
        &mut self.nothing
    }
    fn log_append(&mut self, _: u64, _: &[u8]) {}
    fn log_sync(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn log_resume(&mut self, _: u64, _: u64) {}
    fn log_read(&mut self, _: u64, _: u64, _: &mut [u8]) -> Result<usize, DiskError> {
        Ok(0)
    }
    fn put(&mut self, _: Put<'_>) {}
    fn commit(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn state(&mut self, _: &str) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(None)
    }
    fn store_uuid(&self) -> [u8; 16] {
        self.store_uuid
    }
    fn usage(&mut self) -> DiskUsage {
        DiskUsage::default()
    }
    fn take_loss(&mut self) -> Option<DiskLoss> {
        None
    }
}
