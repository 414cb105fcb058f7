//! The budget: what each byte of memory is for, and the plan of the slab that follows from it.
/// Sizes of the slab's regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub series_count: u32,
}
impl Plan {
    /// Bytes of slab this plan needs.
    pub fn slab_bytes(&self) -> usize {
        0
    }
}
