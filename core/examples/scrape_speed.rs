//! Measures how fast recorded pages are read: at first sight, unchanged, and one after the other as they were recorded.
//!
//!     cargo run --release -p holdfast-core --example scrape_speed [FOLDER]
//!
//! FOLDER holds `NAME.rec.xz` files; it is `$HOLDFAST_CORPUS` or `../shared/corpus` unless given. Figures are megabytes of
//! page a second of thread CPU time, in pieces of 16 KiB as they come from a socket: `parser` puts samples nowhere, `store`
//! puts and commits them in a store.

#[allow(dead_code)]
#[path = "corpus/recording.rs"]
mod recording;

use holdfast_core::{
    daemon::settings::{JobKind, JobSettings, TargetSettings},
    labels::{LabelSet, LabelsRef},
    memory::Plan,
    scrape::{Rows, Shared, Target, TargetSpec},
    store::{ColumnId, Identity, Missing, PutOutcome, Refused, RowCommitted, Store, TimelineId, TimelineKey},
    time::Now,
};
use rustix::time::{ClockId, clock_gettime};
use std::{env, fs, path::PathBuf, process::ExitCode};

const PIECE_BYTES: usize = 16 * 1024;
const MEASURE_SECONDS: f64 = 0.5;
const UNCHANGED_COUNT: usize = 50;
const SLAB_BYTES: usize = 16 << 20;

/// Rows that go nowhere.
#[derive(Default)]
struct NoRows {
    columns_count: u32,
}

impl Rows for NoRows {
    fn timeline_open(&mut self, _: TimelineKey) -> Result<TimelineId, Refused> {
        Ok(TimelineId(0))
    }
    fn timeline_release(&mut self, _: TimelineId) {}
    fn row_begin(&mut self, _: TimelineId, _: i64) -> Result<(), Refused> {
        Ok(())
    }
    fn row_put(
        &mut self,
        _: TimelineId,
        _: LabelsRef<'_>,
        _: u64,
        _: Option<i64>,
    ) -> Result<(PutOutcome, ColumnId), Refused> {
        self.columns_count += 1;
        Ok((PutOutcome::Known, ColumnId(self.columns_count)))
    }
    fn row_layout(&self, _: TimelineId) -> Option<u64> {
        Some(0)
    }
    fn row_put_at(&mut self, _: TimelineId, _: ColumnId, _: u64) -> Option<PutOutcome> {
        Some(PutOutcome::Known)
    }
    fn row_commit(&mut self, _: TimelineId, _: Missing) -> RowCommitted {
        RowCommitted { row: 0, samples: 0, stale: 0, new_series: 0 }
    }
    fn row_abort(&mut self, _: TimelineId) {}
}

/// Makes rows that are empty.
trait Fresh {
    type Rows<'a>: Rows
    where
        Self: 'a;
    fn fresh(&mut self) -> Result<Self::Rows<'_>, String>;
}

struct Nowhere;

impl Fresh for Nowhere {
    type Rows<'a> = NoRows;

    fn fresh(&mut self) -> Result<NoRows, String> {
        Ok(NoRows::default())
    }
}

struct InStore {
    slab: Vec<u8>,
}

impl Fresh for InStore {
    type Rows<'a> = Store<'a>;

    fn fresh(&mut self) -> Result<Store<'_>, String> {
        let plan = Plan::for_slab(self.slab.len()).map_err(|error| error.to_string())?;
        let identity = Identity { store_uuid: [7; 16], boot_id: [9; 16], log_generation: 0 };
        Store::create(&mut self.slab, &plan, identity).map_err(|error| error.to_string())
    }
}

/// A target and its clock.
struct Scraped {
    target: Target,
    shared: Shared,
    now: Now,
}

impl Scraped {
    fn new() -> Self {
        let job = JobSettings::new("job", JobKind::Http, 15_000, 10_000);
        let settings = TargetSettings { address: "host:9100".into(), labels: LabelSet::default() };
        let now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
        let target = Target::new(TargetSpec::new(&job, &settings), 1, now);
        Self { target, shared: Shared::new(1 << 20, 1 << 20, 7), now }
    }

    fn scrape(&mut self, body: &[u8], rows: &mut impl Rows) -> Result<(), String> {
        let Self { target, shared, now } = self;
        let wait_ms = target.due_mono_ms().saturating_sub(now.mono_ms);
        *now = Now { mono_ms: now.mono_ms + wait_ms, wall_ms: now.wall_ms + wait_ms as i64 };
        target.start(*now);
        target.head(*now, 200, "text/plain", rows, shared);
        for piece in body.chunks(PIECE_BYTES) {
            target.body(*now, piece, rows, shared);
        }
        target.end(*now, rows, shared);
        match target.status().last_error.as_str() {
            "" => Ok(()),
            error => Err(error.into()),
        }
    }
}

/// Megabytes a second of what `once` gives as bytes and seconds.
fn speed(mut once: impl FnMut() -> Result<(usize, f64), String>) -> Result<f64, String> {
    once()?;
    let (mut bytes, mut seconds) = (0, 0.0);
    while seconds < MEASURE_SECONDS {
        let (more, took) = once()?;
        (bytes, seconds) = (bytes + more, seconds + took);
    }
    Ok(bytes as f64 / seconds / 1e6)
}

fn timed(mut work: impl FnMut() -> Result<(), String>) -> Result<f64, String> {
    let start = thread_seconds();
    work()?;
    Ok(thread_seconds() - start)
}

fn thread_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// First sight, unchanged, as recorded.
fn speeds(bodies: &[&[u8]], place: &mut impl Fresh) -> Result<[f64; 3], String> {
    let body = bodies[bodies.len() / 2];
    let all_bytes: usize = bodies.iter().map(|body| body.len()).sum();
    let first = speed(|| {
        let (mut scraped, mut rows) = (Scraped::new(), place.fresh()?);
        Ok((body.len(), timed(|| scraped.scrape(body, &mut rows))?))
    })?;
    let unchanged = speed(|| {
        let (mut scraped, mut rows) = (Scraped::new(), place.fresh()?);
        scraped.scrape(body, &mut rows)?;
        let seconds = timed(|| (0..UNCHANGED_COUNT).try_for_each(|_| scraped.scrape(body, &mut rows)))?;
        Ok((body.len() * UNCHANGED_COUNT, seconds))
    })?;
    let recorded = speed(|| {
        let (mut scraped, mut rows) = (Scraped::new(), place.fresh()?);
        let seconds = timed(|| bodies.iter().try_for_each(|body| scraped.scrape(body, &mut rows)))?;
        Ok((all_bytes, seconds))
    })?;
    Ok([first, unchanged, recorded])
}

fn run(folder: &PathBuf) -> Result<(), String> {
    let says = |error: std::io::Error| format!("{}: {error}; name the folder of the corpus", folder.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(says)? {
        let path = entry.map_err(says)?.path();
        if path.to_string_lossy().ends_with(".rec.xz") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{}: no .rec.xz files here; name a folder that has them", folder.display()));
    }
    let mut in_store = InStore { slab: vec![0; SLAB_BYTES] };
    println!("{:<16} {:>9} {:>27} {:>27}", "MB/s", "page", "parser", "store");
    println!(
        "{:<16} {:>9} {:>8} {:>9} {:>8} {:>8} {:>9} {:>8}",
        "", "bytes", "first", "unchanged", "recorded", "first", "unchanged", "recorded"
    );
    for path in paths {
        let recording = recording::read(&path)?;
        let bodies: Vec<&[u8]> =
            recording.scrapes.iter().filter_map(|scrape| scrape.body.as_deref()).take(200).collect();
        if bodies.is_empty() {
            return Err(format!("{}: no scrape of it has a page", path.display()));
        }
        let [a, b, c] = speeds(&bodies, &mut Nowhere)?;
        let [d, e, f] = speeds(&bodies, &mut in_store)?;
        println!(
            "{:<16} {:>9} {a:>8.0} {b:>9.0} {c:>8.0} {d:>8.0} {e:>9.0} {f:>8.0}",
            recording.name,
            bodies[bodies.len() / 2].len()
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    let folder = env::args_os().nth(1).or_else(|| env::var_os("HOLDFAST_CORPUS"));
    let folder = folder.map_or_else(|| PathBuf::from("../shared/corpus"), PathBuf::from);
    match run(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
