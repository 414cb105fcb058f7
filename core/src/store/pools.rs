//! Records of one size: given out from a free list, and behind it from those never used.
//!
//! What was never used is never touched, so that memory is taken only as it is needed. Which records are in use is told
//! by what names them; free lists and counts are made anew at attach.

use super::{
    Store,
    attach::FRESH,
    layouts, series,
    slab::{Map, NONE},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    Series,
    Layouts,
    Nodes,
    Pages,
}

impl Pool {
    pub(super) const ALL: [Self; 4] = [Self::Series, Self::Layouts, Self::Nodes, Self::Pages];

    pub(super) fn total(self, map: &Map) -> u32 {
        match self {
            Self::Series => map.plan.series_count,
            Self::Layouts => map.plan.layouts_count,
            Self::Nodes => map.plan.layout_nodes_count,
            Self::Pages => map.plan.raw_pages_count,
        }
    }

    /// Where a free record links to the next one. A series has a number of `id_bytes` there.
    fn link_at(self, map: &Map, id: u32) -> usize {
        match self {
            Self::Series => map.series(id) + series::FREE_NEXT * map.id_bytes,
            Self::Layouts => map.layout(id) + layouts::NODE_FIRST,
            Self::Nodes => map.node(id) + layouts::NODE_NEXT,
            Self::Pages => map.page(id) + layouts::PAGE_NEXT,
        }
    }

    fn fresh_at(self) -> usize {
        FRESH + 4 * self as usize
    }
}

/// Heads of the free lists and counts of records in use, by pool.
pub(super) struct Pools {
    free: [u32; Pool::ALL.len()],
    used: [u32; Pool::ALL.len()],
}

impl Pools {
    pub(super) const EMPTY: Self = Self { free: [NONE; Pool::ALL.len()], used: [0; Pool::ALL.len()] };
}

impl Store<'_> {
    pub(super) fn pool_take(&mut self, pool: Pool) -> Option<u32> {
        let free = self.pools.free[pool as usize];
        let id = if free != NONE {
            let link_at = pool.link_at(&self.map, free);
            self.pools.free[pool as usize] = match pool {
                Pool::Series => self.slab.id(link_at, self.map.id_bytes),
                Pool::Layouts | Pool::Nodes | Pool::Pages => self.slab.u32(link_at),
            };
            free
        } else {
            let fresh = self.pool_fresh(pool);
            if fresh >= pool.total(&self.map) {
                return None;
            }
            self.slab.publish_u32(pool.fresh_at(), fresh + 1);
            fresh
        };
        self.pools.used[pool as usize] += 1;
        Some(id)
    }

    pub(super) fn pool_free(&mut self, pool: Pool, id: u32) {
        self.pool_sweep(pool, id);
        self.pools.used[pool as usize] -= 1;
    }

    /// Number of the first record never given out.
    pub(super) fn pool_fresh(&self, pool: Pool) -> u32 {
        self.slab.u32(pool.fresh_at())
    }

    pub(super) fn pool_set_fresh(&mut self, pool: Pool, fresh: u32) {
        self.slab.put_u32(pool.fresh_at(), fresh);
    }

    pub(super) fn pool_used(&self, pool: Pool) -> u32 {
        self.pools.used[pool as usize]
    }

    /// Attach found a record in use.
    pub(super) fn pool_found(&mut self, pool: Pool) {
        self.pools.used[pool as usize] += 1;
    }

    /// Attach found a record that nothing names.
    pub(super) fn pool_sweep(&mut self, pool: Pool, id: u32) {
        let (link_at, free) = (pool.link_at(&self.map, id), self.pools.free[pool as usize]);
        match pool {
            Pool::Series => self.slab.put_id(link_at, self.map.id_bytes, free),
            Pool::Layouts | Pool::Nodes | Pool::Pages => self.slab.put_u32(link_at, free),
        }
        self.pools.free[pool as usize] = id;
    }
}
