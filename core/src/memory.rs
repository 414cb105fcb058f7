//! The budget: what every byte of memory is for, and the plan of the slab that follows from it.
//!
//! One table: it sizes the slab, is printed by `holdfast budget` and at start, and is served by the API.

mod needs;
pub use needs::{Answer, Load};

use crate::{
    limits::{
        BODIES_BYTES_MAX, BODY_BYTES_MAX, CONNECTION_BYTES, CONNECTIONS_COUNT_MAX, KIB, MEMORY_LIMIT_BYTES_MIN,
        MESSAGE_BYTES_MAX, MESSAGES_COUNT_MAX, MIB, PROGRAM_BYTES, QUERIES_BYTES_MIN, RECEIVE_BODIES_BYTES_MAX,
        RECEIVE_BODY_BYTES_MAX, RECEIVE_BYTES, SEEN_LINE_BYTES, SETTINGS_BYTES, SLAB_BYTES_MIN, SQLITE_HEAP_BYTES,
    },
    store::{RegionName, sizes},
};
use core::fmt;

/// One row of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub name: &'static str,
    pub what: &'static str,
    pub count: u64,
    pub bytes_each: u64,
    pub total_bytes: u64,
    /// Whether the region lies in the slab.
    pub in_slab: bool,
}

/// Where the memory limit goes, region by region. The totals add up to at most the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    limit_bytes: u64,
    plan: Plan,
    regions: [Region; REGIONS_COUNT],
}

const HEAP_REGIONS_COUNT: usize = 9;
const REGIONS_COUNT: usize = HEAP_REGIONS_COUNT + 9;

/// Wishes that replace a region's default size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    pub series_count: Option<u64>,
    pub queries_bytes: Option<u64>,
    pub connections_count: Option<u64>,
    pub sqlite_heap_bytes: Option<u64>,
    /// The longest body of a request.
    pub body_bytes: Option<u64>,
    /// Samples are pushed to this daemon.
    pub receives: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    #[error("a memory limit of {limit_bytes} bytes is too small; give at least {min_bytes} with --memory.limit")]
    LimitTooSmall { limit_bytes: u64, min_bytes: u64 },
    #[error(
        "what is asked for needs {needed_bytes} bytes and the memory limit is {limit_bytes}; raise --memory.limit or \
         ask for fewer connections (--web.max-connections) or shorter bodies (--web.max-body-size)"
    )]
    LimitExceeded { needed_bytes: u64, limit_bytes: u64 },
    #[error("a slab of {slab_bytes} bytes is too small; give at least {min_bytes}")]
    SlabTooSmall { slab_bytes: u64, min_bytes: u64 },
    #[error(
        "{series_count} series need {needed_bytes} bytes of the store's {slab_bytes}, which leaves no room for rows; ask \
         for at most {series_count_max} series or raise --memory.limit"
    )]
    TooManySeries { series_count: u64, series_count_max: u64, needed_bytes: u64, slab_bytes: u64 },
}

impl Budget {
    /// Divides a limit: fixed needs first, then the wishes, the rest to the slab.
    ///
    /// # Errors
    ///
    /// A limit below [`MEMORY_LIMIT_BYTES_MIN`], or wishes that do not fit it.
    pub fn for_limit(limit_bytes: u64, overrides: Overrides) -> Result<Self, BudgetError> {
        if limit_bytes < MEMORY_LIMIT_BYTES_MIN {
            return Err(BudgetError::LimitTooSmall { limit_bytes, min_bytes: MEMORY_LIMIT_BYTES_MIN });
        }
        let queries_bytes =
            overrides.queries_bytes.unwrap_or(QUERIES_BYTES_MIN.max((limit_bytes - QUERIES_FROM_BYTES) / 4));
        let connections_count = overrides.connections_count.unwrap_or(CONNECTIONS_COUNT_MAX);
        let (body_default_bytes, bodies_bytes) = match overrides.receives {
            true => (RECEIVE_BODY_BYTES_MAX, RECEIVE_BODIES_BYTES_MAX),
            false => (BODY_BYTES_MAX, BODIES_BYTES_MAX),
        };
        let body_bytes = overrides.body_bytes.unwrap_or(body_default_bytes).max(1);
        let bodies_bytes = bodies_bytes.max(body_bytes);
        let sqlite_bytes = overrides.sqlite_heap_bytes.unwrap_or(SQLITE_HEAP_BYTES);
        let mut heap = [
            Region::heap("program", "code, libraries and stack", 1, PROGRAM_BYTES),
            Region::heap("settings", "targets, rules and alerts", 1, SETTINGS_BYTES),
            Region::heap("sqlite", "the database's own heap, its hard limit", 1, sqlite_bytes),
            Region::heap("connections", "served and made", connections_count, CONNECTION_BYTES),
            Region::heap("queries", "results and working memory of all queries", 1, queries_bytes),
            Region::heap("messages", "pages, batches and segments on their way", MESSAGES_COUNT_MAX, MESSAGE_BYTES_MAX),
            Region::heap("bodies", "of requests that are not yet answered", bodies_bytes / body_bytes, body_bytes),
            Region::heap(
                "received",
                "requests to write, inflated and sorted",
                overrides.receives.into(),
                RECEIVE_BYTES,
            ),
            Region::heap("seen lines", SEEN_LINES_WHAT, 0, SEEN_LINE_BYTES),
        ];
        let heap_bytes = heap.iter().fold(0_u64, |sum, region| sum.saturating_add(region.total_bytes));
        let needed_bytes = heap_bytes.saturating_add(DAEMON_SLAB_BYTES_MIN);
        if needed_bytes > limit_bytes {
            return Err(BudgetError::LimitExceeded { needed_bytes, limit_bytes });
        }
        // A slab's offsets are 32 bits wide, and on a 32-bit host it must fit the address space.
        let slab_bytes = |seen_count: u64| {
            let seen_bytes = seen_count.saturating_mul(SEEN_LINE_BYTES);
            (limit_bytes - heap_bytes).saturating_sub(seen_bytes).min(SLAB_BYTES_MAX) as usize
        };
        let series_count = overrides.series_count.unwrap_or_else(|| {
            // Without room for lines a few more would fit, and as many lines as those have are a little more than needed.
            let most = seen_lines_count(Plan::series_count_usual(slab_bytes(0)).into());
            Plan::series_count_usual(slab_bytes(most)).into()
        });
        let seen_count = seen_lines_count(series_count);
        let plan = Plan::for_series(slab_bytes(seen_count), series_count)?;
        heap[HEAP_REGIONS_COUNT - 1] = Region::heap("seen lines", SEEN_LINES_WHAT, seen_count, SEEN_LINE_BYTES);
        let slab = plan.regions();
        let regions = core::array::from_fn(|index| match index.checked_sub(HEAP_REGIONS_COUNT) {
            None => heap[index],
            Some(index) => slab[index],
        });
        Ok(Self { limit_bytes, plan, regions })
    }

    pub fn plan(&self) -> Plan {
        self.plan
    }

    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    pub fn region(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// Sum of all regions: at most the limit.
    pub fn total_bytes(&self) -> u64 {
        self.regions.iter().map(|region| region.total_bytes).sum()
    }

    /// Heap that all queries together may use.
    pub fn queries_bytes(&self) -> u64 {
        self.region("queries").map_or(0, |region| region.total_bytes)
    }
}

const SEEN_LINES_WHAT: &str = "of the targets' last pages, by which the next ones are known";

/// One and a half lines a series. Pages of recorded exporters have 1.1 to 2.1, comments included, and all together 1.8: they
/// have room as long as a sixth of the series is rules' or not in use. Beyond that some targets go without.
fn seen_lines_count(series_count: u64) -> u64 {
    series_count.saturating_add(series_count / 2)
}

/// Below this a daemon's slab, with the lines of its targets' pages, would hold too little to be worth starting.
const DAEMON_SLAB_BYTES_MIN: u64 = 256 * KIB;
const SLAB_BYTES_MAX: u64 = 1024 * MIB;

/// A table: name, count, bytes each, total, what for.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16} {:>9} {:>11} {:>11}  what for", "region", "count", "bytes each", "total")?;
        for region in &self.regions {
            let Region { name, what, count, bytes_each, total_bytes, .. } = region;
            writeln!(f, "{name:<16} {count:>9} {bytes_each:>11} {total_bytes:>11}  {what}")?;
        }
        writeln!(
            f,
            "{:<16} {:>9} {:>11} {:>11}  of the limit of {}",
            "all",
            "",
            "",
            self.total_bytes(),
            self.limit_bytes
        )
    }
}

impl Region {
    const fn heap(name: &'static str, what: &'static str, count: u64, bytes_each: u64) -> Self {
        Self { name, what, count, bytes_each, total_bytes: count.saturating_mul(bytes_each), in_slab: false }
    }

    const fn slab(name: &'static str, what: &'static str, count: u32, bytes_each: usize, extra_bytes: usize) -> Self {
        let total_bytes = count as u64 * bytes_each as u64 + extra_bytes as u64;
        Self { name, what, count: count as u64, bytes_each: bytes_each as u64, total_bytes, in_slab: true }
    }
}

/// Sizes of the slab's regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub series_count: u32,
    /// The heap of label texts and sets.
    pub label_bytes: u32,
    pub timelines_count: u32,
    pub layouts_count: u32,
    /// Nodes of 32 columns.
    pub layout_nodes_count: u32,
    /// Pages of 8 columns by 16 rows.
    pub raw_pages_count: u32,
    /// Slots of small state by size, smallest first; each slot is kept twice.
    pub state: [StateClass; 3],
    pub ring_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateClass {
    pub count: u32,
    pub bytes_each: u32,
}

/// Numbers by which a slab's header tells its plan.
pub(crate) const PLAN_NUMBERS_COUNT: usize = 13;

impl Plan {
    /// For the slab's header. A change here is a new version of the slab.
    pub(crate) fn numbers(&self) -> [u32; PLAN_NUMBERS_COUNT] {
        let [a, b, c] = self.state;
        [
            self.series_count,
            self.label_bytes,
            self.timelines_count,
            self.layouts_count,
            self.layout_nodes_count,
            self.raw_pages_count,
            a.count,
            a.bytes_each,
            b.count,
            b.bytes_each,
            c.count,
            c.bytes_each,
            self.ring_bytes,
        ]
    }

    pub(crate) fn from_numbers(numbers: [u32; PLAN_NUMBERS_COUNT]) -> Self {
        let state = |count: usize| StateClass { count: numbers[count], bytes_each: numbers[count + 1] };
        Self {
            series_count: numbers[0],
            label_bytes: numbers[1],
            timelines_count: numbers[2],
            layouts_count: numbers[3],
            layout_nodes_count: numbers[4],
            raw_pages_count: numbers[5],
            state: [state(6), state(8), state(10)],
            ring_bytes: numbers[12],
        }
    }

    /// A plan for a slab of this size, with as many series as leave a good part of it to the ring.
    ///
    /// # Errors
    ///
    /// A slab below [`SLAB_BYTES_MIN`].
    pub fn for_slab(slab_bytes: usize) -> Result<Self, BudgetError> {
        Self::for_series(slab_bytes, Self::series_count_usual(slab_bytes).into())
    }

    /// As many series as leave a good part of the slab to the ring.
    fn series_count_usual(slab_bytes: usize) -> u32 {
        let bytes_max = (slab_bytes as u64 * SERIES_SHARE_PERCENT / 100) as usize;
        Self::series_count_within(slab_bytes, bytes_max)
    }

    /// Heap that a daemon with this plan gives to the lines of its targets' last pages.
    pub fn seen_lines_bytes(&self) -> u64 {
        seen_lines_count(self.series_count.into()) * SEEN_LINE_BYTES
    }

    /// A plan for a slab of this size that holds this many series at once.
    ///
    /// # Errors
    ///
    /// A slab below [`SLAB_BYTES_MIN`], or one of which less than an eighth would be left to the ring.
    pub fn for_series(slab_bytes: usize, series_count: u64) -> Result<Self, BudgetError> {
        if slab_bytes < SLAB_BYTES_MIN {
            let (slab_bytes, min_bytes) = (slab_bytes as u64, SLAB_BYTES_MIN as u64);
            return Err(BudgetError::SlabTooSmall { slab_bytes, min_bytes });
        }
        let mut plan = Self::without_ring(slab_bytes, series_count.clamp(1, SERIES_COUNT_MAX) as u32);
        let needed_bytes = plan.slab_bytes();
        if series_count > SERIES_COUNT_MAX || needed_bytes + slab_bytes / 8 > slab_bytes {
            return Err(BudgetError::TooManySeries {
                series_count,
                series_count_max: Self::series_count_within(slab_bytes, slab_bytes - slab_bytes / 8).into(),
                needed_bytes: needed_bytes as u64,
                slab_bytes: slab_bytes as u64,
            });
        }
        plan.ring_bytes = ((slab_bytes - needed_bytes) & !7) as u32;
        Ok(plan)
    }

    /// The most series of which the plan without a ring takes this many bytes.
    fn series_count_within(slab_bytes: usize, bytes_max: usize) -> u32 {
        let (mut least, mut most) = (1, SERIES_COUNT_MAX as u32);
        while least < most {
            let middle = (least + most).div_ceil(2);
            match Self::without_ring(slab_bytes, middle).slab_bytes() <= bytes_max {
                true => least = middle,
                false => most = middle - 1,
            }
        }
        least
    }

    fn without_ring(slab_bytes: usize, series_count: u32) -> Self {
        let timelines_count = (series_count / 40).clamp(2, 4096);
        let state = |a: (u32, u32), b: (u32, u32), c: (u32, u32)| {
            [a, b, c].map(|(count, bytes_each)| StateClass { count, bytes_each })
        };
        Self {
            series_count,
            label_bytes: (series_count * LABEL_BYTES + series_count.min(LABEL_FIRST_SERIES) * LABEL_FIRST_BYTES)
                .next_multiple_of(GRANULE_BYTES_MAX),
            timelines_count,
            layouts_count: timelines_count * 3,
            layout_nodes_count: (series_count * 5).div_ceil(2 * sizes::NODE_COLUMNS as u32) + timelines_count * 2,
            raw_pages_count: series_count.div_ceil(sizes::PAGE_COLUMNS as u32) + timelines_count,
            state: match slab_bytes as u64 / KIB {
                2048.. => state((20, 1024), (4, 16 * 1024), (1, 64 * 1024)),
                240..2048 => state((12, 1024), (2, 6 * 1024), (1, 16 * 1024)),
                _ => state((2, 256), (0, 512), (0, 1024)),
            },
            ring_bytes: 0,
        }
    }

    /// Bytes of slab that this plan needs.
    pub fn slab_bytes(&self) -> usize {
        self.regions().iter().map(|region| region.total_bytes as usize).sum()
    }

    /// Bytes of one of the store's regions.
    pub fn region_bytes(&self, region: RegionName) -> u64 {
        self.regions().iter().filter(|row| row.name == region.name()).map(|row| row.total_bytes).sum()
    }

    /// The numbers are as short as the plan allows: short ones are most of what a series costs.
    pub(crate) fn widths(&self) -> Widths {
        let counts = |granule_bytes: u32| {
            let columns = u64::from(self.layout_nodes_count) * sizes::NODE_COLUMNS as u64;
            columns.max(self.series_count.into()).max(u64::from(self.label_bytes / granule_bytes))
        };
        let fitting = [(2, 4), (2, 8), (3, 4), (3, 8)]
            .into_iter()
            // All ones is no number.
            .find(|(id_bytes, granule_bytes)| counts(*granule_bytes) < (1 << (8 * id_bytes)) - 1);
        let (id_bytes, granule_bytes) = fitting.unwrap_or((3, GRANULE_BYTES_MAX));
        Widths { id_bytes, granule_bytes: granule_bytes as usize }
    }

    pub(crate) fn series_bytes(&self) -> usize {
        sizes::SERIES_NUMBERS * self.widths().id_bytes
    }

    pub(crate) fn node_bytes(&self) -> usize {
        sizes::NODE_HEAD_BYTES + sizes::COLUMN_NUMBERS * self.widths().id_bytes * sizes::NODE_COLUMNS
    }

    /// Slots of the index from labels to series: a fifth stays empty, so that a search ends soon.
    pub(crate) fn index_slots_count(&self) -> u32 {
        self.series_count + self.series_count / 4 + 1
    }

    /// Buckets of label texts and sets: about two to a bucket when each series has one or two of its own.
    pub(crate) fn record_buckets_count(&self) -> u32 {
        self.series_count / 2 + 1
    }

    /// Bytes of the bitmap of the heap's granules.
    pub(crate) fn heap_bits_bytes(&self) -> usize {
        (self.label_bytes as usize / self.widths().granule_bytes).div_ceil(64) * 8
    }

    /// Bytes of the index from labels to series.
    pub(crate) fn index_bytes(&self) -> usize {
        (self.index_slots_count() as usize * self.widths().id_bytes).next_multiple_of(8)
    }

    /// Bytes of the buckets of label texts and sets.
    pub(crate) fn record_buckets_bytes(&self) -> usize {
        (self.record_buckets_count() as usize * self.widths().id_bytes).next_multiple_of(8)
    }

    fn regions(&self) -> [Region; 9] {
        let name = RegionName::name;
        let series_bytes = self.series_count as usize * self.series_bytes();
        let padding_bytes = series_bytes.next_multiple_of(8) - series_bytes;
        let state_bytes: usize = self.state.iter().map(StateClass::bytes).sum();
        let state_count = self.state.iter().map(|class| class.count).sum::<u32>();
        let state = Region {
            bytes_each: state_bytes as u64 / u64::from(state_count.max(1)),
            ..Region::slab(
                name(RegionName::State),
                "rules' state, cursors, outbox; two copies",
                state_count,
                0,
                state_bytes,
            )
        };
        [
            Region::slab("header", "identity, counters and heads", 1, sizes::HEADER_BYTES, 0),
            Region::slab(
                name(RegionName::Series),
                "series in RAM, with their index and postings",
                self.series_count,
                self.series_bytes(),
                self.index_bytes() + padding_bytes,
            ),
            Region::slab(
                name(RegionName::LabelText),
                "label texts and sets, with their index",
                self.label_bytes,
                1,
                self.heap_bits_bytes() + self.record_buckets_bytes(),
            ),
            Region::slab(
                name(RegionName::Timelines),
                "targets and rules",
                self.timelines_count,
                sizes::TIMELINE_BYTES,
                0,
            ),
            Region::slab(name(RegionName::Layouts), "lists of columns", self.layouts_count, sizes::LAYOUT_BYTES, 0),
            Region::slab(
                name(RegionName::LayoutColumns),
                "their columns, 32 each",
                self.layout_nodes_count,
                self.node_bytes(),
                0,
            ),
            Region::slab(
                name(RegionName::RawRows),
                "newest rows, 8 columns by 16 rows each",
                self.raw_pages_count,
                sizes::PAGE_BYTES,
                0,
            ),
            state,
            Region::slab(name(RegionName::Ring), "packed rows", self.ring_bytes, 1, 0),
        ]
    }
}

/// How long the slab's numbers are, and the granules of its heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Widths {
    pub(crate) id_bytes: usize,
    pub(crate) granule_bytes: usize,
}

impl StateClass {
    /// Bytes that the class takes in the slab: two copies with their heads.
    pub fn bytes(&self) -> usize {
        self.count as usize * 2 * (sizes::STATE_HEAD_BYTES + self.bytes_each as usize)
    }
}

/// How much of a slab is for everything but packed rows, when no number of series is asked for.
const SERIES_SHARE_PERCENT: u64 = 60;

/// Label texts and sets of one series. Ten exporters of one instance each need about half of it; what churns, what is long
/// and what no other series shares has the rest.
const LABEL_BYTES: u32 = 40;
/// More for each of the first ones, which share few texts with others.
const LABEL_FIRST_BYTES: u32 = 24;
const LABEL_FIRST_SERIES: u32 = 1000;
const GRANULE_BYTES_MAX: u32 = 16;

/// Of what a limit has beyond this, a quarter is for queries.
const QUERIES_FROM_BYTES: u64 = 8 * MIB;
/// Numbers have 24 bits at most, and a series may have several columns in layouts.
const SERIES_COUNT_MAX: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_budget_adds_up_to_at_most_its_limit() {
        for limit_bytes in [MEMORY_LIMIT_BYTES_MIN, 16 * MIB, 17 * MIB + 1, 64 * MIB, 512 * MIB] {
            let budget = Budget::for_limit(limit_bytes, Overrides::default()).unwrap();
            assert!(budget.total_bytes() <= limit_bytes, "{budget}");
            assert!(budget.total_bytes() + 16 > limit_bytes, "nothing is left unnamed: {budget}");
            let slab: u64 = budget.regions().iter().filter(|region| region.in_slab).map(|r| r.total_bytes).sum();
            assert_eq!(slab, budget.plan().slab_bytes() as u64);
        }
        let plan = Budget::for_limit(16 * MIB, Overrides::default()).unwrap().plan();
        assert!(plan.series_count >= 10_000, "{plan:?}");
    }

    #[test]
    fn a_limit_one_byte_too_small_is_an_error_with_advice() {
        let error = Budget::for_limit(MEMORY_LIMIT_BYTES_MIN - 1, Overrides::default()).unwrap_err();
        assert!(error.to_string().contains("--memory.limit"), "{error}");
    }

    #[test]
    fn a_wish_that_does_not_fit_is_an_error_and_one_that_fits_is_kept() {
        let wish = |series_count| Overrides { series_count: Some(series_count), ..Overrides::default() };
        assert_eq!(Budget::for_limit(16 * MIB, wish(5_000)).unwrap().plan().series_count, 5_000);
        let error = Budget::for_limit(16 * MIB, wish(50_000)).unwrap_err();
        let BudgetError::TooManySeries { series_count_max, .. } = error else { panic!("{error}") };
        assert!(Budget::for_limit(16 * MIB, wish(series_count_max)).is_ok(), "the advice works");
        let connections = Overrides { connections_count: Some(1_000), ..Overrides::default() };
        assert!(matches!(Budget::for_limit(16 * MIB, connections), Err(BudgetError::LimitExceeded { .. })));
        let all = Overrides { queries_bytes: Some(u64::MAX), ..Overrides::default() };
        assert!(matches!(Budget::for_limit(16 * MIB, all), Err(BudgetError::LimitExceeded { .. })));
    }

    #[test]
    fn bodies_are_bounded_by_their_region_and_a_longer_one_makes_it_grow() {
        let bodies = |body_bytes, receives| {
            let overrides = Overrides { body_bytes, receives, ..Overrides::default() };
            let budget = Budget::for_limit(16 * MIB, overrides)?;
            let region = budget.region("bodies").expect("the table has it");
            assert!(budget.total_bytes() <= 16 * MIB);
            Ok::<_, BudgetError>((region.bytes_each, region.total_bytes))
        };
        assert_eq!(bodies(None, false), Ok((128 * KIB, 256 * KIB)));
        assert_eq!(bodies(None, true), Ok((MIB, MIB)));
        assert_eq!(bodies(Some(256 * KIB), true), Ok((256 * KIB, MIB)));
        assert_eq!(bodies(Some(256 * KIB), false), Ok((256 * KIB, 256 * KIB)));
        assert_eq!(bodies(Some(300 * KIB), true), Ok((300 * KIB, 900 * KIB)), "whole ones");
        assert_eq!(bodies(Some(2 * MIB), true), Ok((2 * MIB, 2 * MIB)));
        let error = bodies(Some(8 * MIB), true).unwrap_err();
        assert!(
            matches!(error, BudgetError::LimitExceeded { .. }) && error.to_string().contains("--web.max-body-size")
        );
        assert!(bodies(Some(u64::MAX), false).is_err());
    }

    #[test]
    fn a_slab_of_48_kib_is_planned_to_the_byte_and_one_below_the_minimum_refused() {
        let plan = Plan::for_series(48 * 1024, 100).unwrap();
        assert_eq!(plan.slab_bytes(), 48 * 1024);
        assert!(plan.ring_bytes > 12 * 1024, "{plan:?}");
        assert!(Plan::for_slab(SLAB_BYTES_MIN).is_ok());
        assert!(matches!(Plan::for_slab(SLAB_BYTES_MIN - 1), Err(BudgetError::SlabTooSmall { .. })));
    }

    #[test]
    fn the_table_names_every_region() {
        let budget = Budget::for_limit(16 * MIB, Overrides::default()).unwrap();
        let text = budget.to_string();
        assert_eq!(text.lines().count(), budget.regions().len() + 2);
        assert!(budget.regions().iter().all(|region| text.contains(region.name)));
    }
}
