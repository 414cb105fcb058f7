//! Recorded pages scraped with and without the lines of the last page: the same is stored. And what a steady scrape
//! allocates: nothing.
//!
//! `HOLDFAST_CORPUS` names the folder of the recordings; without it, a table that is checked in is played.

// The example and the benchmark use all of it.
#[allow(dead_code)]
#[path = "../examples/corpus/recording.rs"]
mod recording;

use holdfast_core::{
    daemon::settings::{JobKind, JobSettings, TargetSettings},
    labels::LabelSet,
    memory::Plan,
    scrape::{Shared, Target, TargetSpec},
    store::{Identity, Store},
    time::Now,
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    env, fs,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's layout, as its contract has it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` through us, with this layout.
        unsafe { System.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the pointer came from `System` through us, with this layout; the size is the caller's.
        unsafe { System.realloc(pointer, layout, new_bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const IDENTITY: Identity = Identity { store_uuid: [7; 16], boot_id: [9; 16], log_generation: 0 };

struct Scraped<'m> {
    target: Target,
    shared: Shared,
    store: Store<'m>,
    now: Now,
}

impl<'m> Scraped<'m> {
    fn new(slab: &'m mut [u8], seen_bytes: usize) -> Self {
        let job = JobSettings::new("job", JobKind::Http, 15_000, 10_000);
        let settings = TargetSettings { address: "host:9100".into(), labels: LabelSet::default() };
        let now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
        let plan = Plan::for_slab(slab.len()).unwrap();
        Self {
            target: Target::new(TargetSpec::new(&job, &settings), 1, now),
            shared: Shared::new(1 << 20, seen_bytes, 7),
            store: Store::create(slab, &plan, IDENTITY).unwrap(),
            now,
        }
    }

    /// No body is a target that does not answer.
    fn scrape(&mut self, body: Option<&[u8]>, piece_bytes: usize) {
        let Self { target, shared, store, now } = self;
        let wait_ms = target.due_mono_ms().saturating_sub(now.mono_ms);
        *now = Now { mono_ms: now.mono_ms + wait_ms, wall_ms: now.wall_ms + wait_ms as i64 };
        target.start(*now).expect("it is due");
        let Some(body) = body else {
            target.failed(*now, "connection refused", store, shared);
            return;
        };
        target.head(*now, 200, "text/plain", store, shared);
        for piece in body.chunks(piece_bytes) {
            target.body(*now, piece, store, shared);
        }
        target.end(*now, store, shared);
    }

    fn told(&self) -> String {
        let metadata: Vec<_> = self.shared.metadata.entries(self.target.meta()).collect();
        format!("{:?} {:?} {metadata:?}", self.target.status(), self.store.usage())
    }

    fn samples(&self) -> Vec<(String, Vec<(i64, u64)>)> {
        let mut all = Vec::new();
        self.store.series_visit(&mut |series, labels| {
            let mut samples = Vec::new();
            self.store.series_read(series, 0, i64::MAX, &mut |t_ms, bits| samples.push((t_ms, bits)));
            all.push((labels.to_string(), samples));
            true
        });
        all
    }
}

fn recordings() -> Vec<recording::Recording> {
    let Some(folder) = env::var_os("HOLDFAST_CORPUS") else {
        let text = include_str!("../../tests/fixtures/codec/made-up.txt");
        return vec![recording::table("made-up", text).unwrap()];
    };
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let recordings = paths.filter(|path| path.to_string_lossy().ends_with(".rec.xz"));
    recordings.map(|path| recording::read(&path).unwrap()).collect()
}

#[test]
fn recorded_pages_are_stored_alike_with_and_without_the_lines_of_the_last_page() {
    for recording in recordings() {
        let (mut one, mut two) = (vec![0; 8 << 20], vec![0; 8 << 20]);
        let mut with = Scraped::new(&mut one, 1 << 20);
        let mut without = Scraped::new(&mut two, 0);
        for (index, scrape) in recording.scrapes.iter().enumerate() {
            with.scrape(scrape.body.as_deref(), 1_000);
            without.scrape(scrape.body.as_deref(), usize::MAX);
            assert_eq!(with.told(), without.told(), "{}, scrape {index}", recording.name);
        }
        assert!(with.shared.seen.bytes() > 0 && without.shared.seen.bytes() == 0, "{}", recording.name);
        assert!(with.samples() == without.samples(), "{}: other samples are stored", recording.name);
    }
}

#[test]
fn a_steady_scrape_allocates_nothing() {
    let mut page = String::new();
    for metric in 0..100 {
        page += &format!("# HELP m{metric} What it is.\n# TYPE m{metric} counter\n");
        for series in 0..5 {
            page += &format!("m{metric}{{mode=\"{series}\",le=\"0.5\"}} {}\n", metric * series);
        }
        page += &format!("m{metric}_at 0.25 1700000000000\nm{metric}_escaped{{a=\"\\\"\"}} 1e-7\n");
    }
    let mut slab = vec![0; 4 << 20];
    let mut scraped = Scraped::new(&mut slab, 1 << 20);
    (0..3).for_each(|_| scraped.scrape(Some(page.as_bytes()), 1_000));
    let before = ALLOCATIONS.with(Cell::get);
    assert!(before > 0, "allocations are counted");
    (0..40).for_each(|_| scraped.scrape(Some(page.as_bytes()), 1_000));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0, "in 40 scrapes");
    assert_eq!(scraped.target.status().last_error, "");
}
