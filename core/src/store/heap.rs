//! The heap of labels: records of any length in granules of a few bytes, given out by a bitmap.
//!
//! A bit per granule says "in use". A record takes the first run of free granules that is long enough, so what is free
//! gathers at the end, and free neighbours are one run by themselves: there is no list to keep and nothing to merge. The
//! bitmap is made anew at attach, from the records that series name.

use super::Store;

/// Lengths of runs that the search remembers something of.
const RUNS_COUNT: usize = 16;

/// What is known of the bitmap without looking at it.
pub(super) struct Heap {
    used_count: u32,
    /// Before this granule no free run is one, two, three ... granules long.
    no_run_before: [u32; RUNS_COUNT],
}

impl Heap {
    pub(super) const EMPTY: Self = Self { used_count: 0, no_run_before: [0; RUNS_COUNT] };
}

impl Store<'_> {
    /// Granules for a record of this many bytes; `None` when no run of free ones is that long.
    pub(super) fn heap_take(&mut self, bytes: usize) -> Option<u32> {
        let (count, total) = (self.map.granules(bytes), self.map.granules_count);
        let known = (count as usize).clamp(1, RUNS_COUNT) - 1;
        let mut from = self.heap.no_run_before[known];
        let found = loop {
            let start = self.granule_next(from, total, false);
            if total - start < count {
                break None;
            }
            let end = self.granule_next(start, start + count, true);
            if end == start + count {
                break Some(start);
            }
            from = end;
        };
        if count as usize <= RUNS_COUNT {
            let searched = found.map_or(total, |start| start + count);
            let longer = &mut self.heap.no_run_before[known..];
            longer.iter_mut().for_each(|before| *before = searched.max(*before));
        }
        let start = found?;
        self.heap_mark(start, count, true);
        Some(start)
    }

    pub(super) fn heap_free(&mut self, start: u32, bytes: usize) {
        let count = self.map.granules(bytes);
        self.heap_mark(start, count, false);
        for (index, before) in self.heap.no_run_before.iter_mut().enumerate() {
            // A longer run may begin before what was freed.
            *before = start.saturating_sub(index as u32).min(*before);
        }
    }

    pub(super) fn heap_used_count(&self) -> u32 {
        self.heap.used_count
    }

    pub(super) fn granule_is_used(&self, granule: u32) -> bool {
        self.slab.u64(self.map.heap_word(granule)) >> (granule % u64::BITS) & 1 != 0
    }

    /// Forgets every record.
    pub(super) fn heap_clear(&mut self) {
        self.slab.fill(self.map.heap_bits(), 0);
        self.heap = Heap::EMPTY;
    }

    /// Attach found a record: takes its granules; `None` when one of them is taken, or not in the heap.
    pub(super) fn heap_restore(&mut self, start: u32, bytes: usize) -> Option<()> {
        let count = self.map.granules(bytes);
        let end = start.checked_add(count).filter(|end| *end <= self.map.granules_count)?;
        if self.granule_next(start, end, true) != end {
            return None;
        }
        self.heap_mark(start, count, true);
        Some(())
    }

    fn heap_mark(&mut self, start: u32, count: u32, used: bool) {
        let (mut at, end) = (start, start + count);
        while at < end {
            let to = (at / u64::BITS + 1) * u64::BITS;
            let mask = (u64::MAX >> (u64::BITS - (to.min(end) - at))) << (at % u64::BITS);
            let word_at = self.map.heap_word(at);
            let word = self.slab.u64(word_at);
            assert!(word & mask == if used { 0 } else { mask }, "granules from {at} are taken once and freed once");
            self.slab.put_u64(word_at, word ^ mask);
            at = to.min(end);
        }
        match used {
            true => self.heap.used_count += count,
            false => self.heap.used_count -= count,
        }
    }

    /// The first granule of `from .. to` that is in use, or that is not; `to` when there is none.
    fn granule_next(&self, from: u32, to: u32, used: bool) -> u32 {
        let mut at = from;
        while at < to {
            let word = self.slab.u64(self.map.heap_word(at));
            let wanted = if used { word } else { !word } >> (at % u64::BITS);
            if wanted != 0 {
                return (at + wanted.trailing_zeros()).min(to);
            }
            at = (at / u64::BITS + 1) * u64::BITS;
        }
        to
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use crate::{
        memory::Plan,
        prng::Prng,
        store::{Identity, Store},
    };

    const IDENTITY: Identity = Identity { store_uuid: [1; 16], boot_id: [2; 16], log_generation: 0 };

    #[test]
    fn granules_are_given_out_once_and_free_neighbours_are_one_run() {
        let plan = Plan::for_series(64 * 1024, 50).unwrap();
        let mut bytes = vec![0xff; plan.slab_bytes()];
        let mut store = Store::create(&mut bytes, &plan, IDENTITY).unwrap();
        let (total, granule_bytes) = (store.map.granules_count, store.map.granule_bytes);
        let mut owner = vec![None; total as usize];
        let mut held: Vec<(u32, usize)> = Vec::new();
        let (mut prng, mut refused) = (Prng::new(7), 0);
        for step in 0..20_000_u32 {
            if held.len() > 200 || prng.chance(45, 100) && !held.is_empty() {
                let (start, bytes) = held.swap_remove(prng.below(held.len() as u64) as usize);
                store.heap_free(start, bytes);
                owner[start as usize..][..bytes.div_ceil(granule_bytes)].fill(None);
                continue;
            }
            let bytes_max = if prng.chance(1, 20) { 600 } else { 60 };
            let bytes = 1 + prng.below(bytes_max) as usize;
            let count = bytes.div_ceil(granule_bytes);
            let first = owner.windows(count).position(|run| run.iter().all(Option::is_none));
            let taken = store.heap_take(bytes);
            assert_eq!(taken, first.map(|first| first as u32), "the first run that is long enough");
            match taken {
                Some(start) => {
                    owner[start as usize..][..count].fill(Some(step));
                    held.push((start, bytes));
                }
                None => refused += 1,
            }
            let used = owner.iter().filter(|owner| owner.is_some()).count();
            assert_eq!(store.heap_used_count() as usize, used);
        }
        assert!(refused > 100, "{refused}");
        for (start, bytes) in held {
            store.heap_free(start, bytes);
        }
        let all_bytes = total as usize * granule_bytes;
        assert_eq!(store.heap_take(all_bytes + 1), None);
        assert_eq!(store.heap_take(all_bytes), Some(0), "everything free is one run");
        assert_eq!(store.heap_take(1), None);
    }
}
