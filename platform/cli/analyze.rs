//! `holdfast tsdb analyze DIR`: what each target costs on the disk, what is damaged, how many days are left.
//!
//! A directory that a daemon has is asked for over its API; one that nobody has is read here, without writing to it. Both give
//! the same pages, which are added up.

use super::query::{QueryError, Server};
use crate::disk::{
    DiskError,
    directory::{Directory, TAIL_LOGS},
    segments::Segments,
};
use holdfast_core::{
    api::Json,
    spill::{FRAME_BYTES_MAX, Recovery, analyze, layout_labels},
    store::{
        TimelineKey,
        stored::{Stored, StoredError},
    },
    time::Rfc3339,
};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Segments read before the next page begins.
const PAGE_SEGMENTS_MAX: u64 = 64;
const DAY_MS: f64 = 86_400_000.0;
const CLASSES: [&str; 5] = ["constant", "integer", "decimal", "float", "absent"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analyze {
    pub directory: PathBuf,
    /// Of the daemon that has the directory.
    pub url: String,
    /// For a directory that nobody has; `None`: the smaller of 512 MiB and a tenth of its file system.
    pub quota_bytes: Option<u64>,
    pub is_json: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum AnalyzeError {
    #[error("{path} is not there; give the directory of --storage.tsdb.path")]
    NotThere { path: PathBuf },
    #[error("{path} is no data directory of holdfast: it has no holdfast.db")]
    NotOurs { path: PathBuf },
    #[error("{0}")]
    Disk(#[from] DiskError),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("reading stored segments: {0}")]
    Stored(StoredError),
    #[error(
        "a daemon (process {pid}) has the directory, and over {url} it does not tell: {error}; give its address with --url"
    )]
    Live { pid: String, url: String, error: QueryError },
}

/// What there is besides segments.
#[derive(Default)]
struct Overview {
    disk_bytes: u64,
    quota_bytes: u64,
    logs: Vec<Value>,
    timelines: Vec<TimelineKey>,
}

/// The report, ready to be printed.
pub fn run(analyze: &Analyze, default_quota_bytes: impl Fn(&Path) -> u64) -> Result<String, AnalyzeError> {
    let path = &analyze.directory;
    if !path.is_dir() {
        return Err(AnalyzeError::NotThere { path: path.clone() });
    }
    if !path.join("holdfast.db").exists() {
        return Err(AnalyzeError::NotOurs { path: path.clone() });
    }
    let report = match Directory::open(path) {
        Err(DiskError::InUse { pid, .. }) => {
            let failed = |error| AnalyzeError::Live { pid: pid.clone(), url: analyze.url.clone(), error };
            live(&analyze.url).map_err(failed)?
        }
        Ok(directory) => {
            let quota_bytes = analyze.quota_bytes.unwrap_or_else(|| default_quota_bytes(path));
            offline(&directory, quota_bytes)?
        }
        Err(error) => return Err(error.into()),
    };
    if analyze.is_json {
        return Ok(format!("{report}\n"));
    }
    Ok(text(&report))
}

/// Asks a running daemon, page by page.
fn live(url: &str) -> Result<Value, QueryError> {
    const PATH: &str = "/api/v1/status/analyze";
    let server = Server::new(url)?;
    let overview = server.data(PATH, &[])?;
    let mut all = Vec::new();
    for timeline in overview["timelines"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let (mut sum, mut row) = (Value::Null, Some(0));
        while let Some(from) = row {
            let page = server.data(PATH, &[("timeline", timeline.to_owned()), ("row", from.to_string())])?;
            row = page["next"].as_u64();
            add(&mut sum, page);
        }
        all.push(sum);
    }
    let logs = overview["logs"].as_array().cloned().unwrap_or_default();
    let number = |key: &str| overview[key].as_u64().unwrap_or(0);
    Ok(report(number("disk_bytes"), number("quota_bytes"), logs, all))
}

/// Reads a directory that this process has locked.
fn offline(directory: &Directory, quota_bytes: u64) -> Result<Value, AnalyzeError> {
    let mut segments = Segments::open_to_read(directory)?;
    let failed = |source| AnalyzeError::File { path: directory.path().to_path_buf(), source };
    let mut overview =
        Overview { disk_bytes: directory.size_bytes().map_err(failed)?, quota_bytes, ..Overview::default() };
    for name in TAIL_LOGS {
        let path = directory.file(name);
        overview.logs.extend(log(&path).map_err(|source| AnalyzeError::File { path, source })?);
    }
    segments
        .timelines(&mut |key, _| {
            overview.timelines.push(key);
            true
        })
        .map_err(AnalyzeError::Stored)?;
    let mut all = Vec::new();
    for key in overview.timelines {
        let (mut sum, mut row) = (Value::Null, Some(0));
        while let Some(from) = row {
            let page = analyze(&mut segments, key, from, PAGE_SEGMENTS_MAX).map_err(AnalyzeError::Stored)?;
            let labels = page.layout.map_or(Ok(Default::default()), |layout| layout_labels(&mut segments, layout));
            let mut json = Json::default();
            page.write(&mut json, &labels.map_err(AnalyzeError::Stored)?);
            row = page.next;
            let page = serde_json::from_slice(&json.into_bytes());
            add(&mut sum, page.unwrap_or_else(|error| unreachable!("our own JSON: {error}")));
        }
        all.push(sum);
    }
    Ok(report(overview.disk_bytes, overview.quota_bytes, overview.logs, all))
}

/// What one of the two logs holds; `None`: nothing.
fn log(path: &Path) -> io::Result<Option<Value>> {
    let scan = |generation: Option<u64>| -> io::Result<_> {
        let mut file = File::open(path)?;
        let (mut buf, mut piece) = (vec![0; FRAME_BYTES_MAX], vec![0; 64 * 1024]);
        let mut recovery = Recovery::new(&mut buf, generation);
        loop {
            let length = file.read(&mut piece)?;
            if length == 0 {
                return Ok(recovery.finish());
            }
            let mut rest = &piece[..length];
            while !rest.is_empty() {
                rest = &rest[recovery.feed(rest)..];
                // A log of a newer version ends here; its header told that to nobody before.
                while matches!(recovery.next_frame(), Ok(Some(_))) {}
            }
        }
    };
    let Some(generation) = scan(None)?.generation else { return Ok(None) };
    let found = scan(Some(generation))?;
    Ok(Some(json!({
        "generation": generation,
        "frames": found.frames,
        "damaged": u64::from(found.damaged) + found.frames_missing,
        "mended": found.mended,
        "torn": found.torn,
    })))
}

/// Adds a page to what came before: sums, hulls, and of what is the same on each the newest.
fn add(sum: &mut Value, page: Value) {
    let (Value::Object(sum), Value::Object(page)) = (&mut *sum, &page) else {
        *sum = page;
        return;
    };
    for (key, value) in page {
        let before = sum.entry(key.clone()).or_insert(Value::Null);
        match key.as_str() {
            "from_ms" | "to_ms" => {
                let both = [before.as_i64(), value.as_i64()].into_iter().flatten();
                let hull = if key == "from_ms" { both.min() } else { both.max() };
                *before = hull.map_or(Value::Null, Value::from);
            }
            "damage" => {
                let more = value.as_array().cloned().unwrap_or_default();
                before.as_array_mut().into_iter().for_each(|all| all.extend(more.clone()));
            }
            "series" | "next" => *before = value.clone(),
            _ if value.is_u64() => *before = (before.as_u64().unwrap_or(0) + value.as_u64().unwrap_or(0)).into(),
            _ if value.is_object() => add(before, value.clone()),
            _ => *before = value.clone(),
        }
    }
}

fn sum_of(timelines: &[Value], key: &str) -> u64 {
    timelines.iter().filter_map(|timeline| timeline[key].as_u64()).sum()
}

/// Values and stale markers in a timeline's segments.
fn samples_of(timeline: &Value) -> u64 {
    CLASSES.iter().filter_map(|class| timeline["classes"][class]["samples"].as_u64()).sum()
}

fn report(disk_bytes: u64, quota_bytes: u64, logs: Vec<Value>, timelines: Vec<Value>) -> Value {
    let from_ms = timelines.iter().filter_map(|timeline| timeline["from_ms"].as_i64()).min();
    let to_ms = timelines.iter().filter_map(|timeline| timeline["to_ms"].as_i64()).max();
    let days = from_ms.zip(to_ms).map(|(from_ms, to_ms)| (to_ms - from_ms).max(1) as f64 / DAY_MS);
    let bytes = sum_of(&timelines, "bytes");
    let samples: u64 = timelines.iter().map(samples_of).sum();
    // At the rate of what is stored, all its overheads included.
    let left =
        days.filter(|_| bytes > 0).map(|days| quota_bytes.saturating_sub(disk_bytes) as f64 / (bytes as f64 / days));
    json!({
        "disk_bytes": disk_bytes,
        "quota_bytes": quota_bytes,
        "segment_bytes": bytes,
        "samples": samples,
        "disk_bytes_per_sample": (samples > 0).then(|| disk_bytes as f64 / samples as f64),
        "from_ms": from_ms,
        "to_ms": to_ms,
        "days_stored": days,
        "days_left": left,
        "logs": logs,
        "targets": timelines,
    })
}

fn text(report: &Value) -> String {
    let mut out = String::new();
    let empty = Vec::new();
    let timelines = report["targets"].as_array().unwrap_or(&empty);
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or(0);
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:<40} {:>7} {:>8} {:>12} {:>12} {:>8} {:>7} {:>7}",
        "target", "series", "segments", "samples", "bytes", "B/sample", "layouts", "damaged"
    );
    for timeline in timelines {
        let name = match (timeline["job"].as_str(), timeline["instance"].as_str()) {
            (Some("") | None, Some("") | None) => format!("timeline {}", timeline["timeline"].as_str().unwrap_or("")),
            (job, instance) => format!("{} {}", job.unwrap_or(""), instance.unwrap_or("")),
        };
        let (samples, bytes) = (samples_of(timeline), number(timeline, "bytes"));
        let _ = writeln!(
            out,
            "{name:<40} {:>7} {:>8} {samples:>12} {bytes:>12} {:>8.3} {:>7} {:>7}",
            number(timeline, "series"),
            number(timeline, "segments"),
            bytes as f64 / samples.max(1) as f64,
            number(timeline, "layouts"),
            number(timeline, "damaged")
        );
    }
    let _ = writeln!(out, "\n{:<10} {:>9} {:>12} {:>12} {:>8}", "class", "columns", "samples", "bytes", "B/sample");
    for class in CLASSES {
        let sum = |key: &str| timelines.iter().map(|timeline| number(&timeline["classes"][class], key)).sum::<u64>();
        let (samples, bytes) = (sum("samples"), sum("bytes"));
        let per_sample = bytes as f64 / samples.max(1) as f64;
        let _ = writeln!(out, "{class:<10} {:>9} {samples:>12} {bytes:>12} {per_sample:>8.3}", sum("columns"));
    }
    out.push('\n');
    for log in report["logs"].as_array().unwrap_or(&empty) {
        let _ = writeln!(
            out,
            "log generation {}: {} damaged places{}{}",
            number(log, "generation"),
            number(log, "damaged"),
            match number(log, "mended") {
                0 => String::new(),
                mended => format!(", {mended} frames with a flipped bit that are read all the same"),
            },
            if log["torn"] == true { ", its end is torn or damaged" } else { "" }
        );
    }
    for damage in timelines.iter().flat_map(|timeline| timeline["damage"].as_array().unwrap_or(&empty)) {
        let _ = writeln!(out, "damage: {}", damage.as_str().unwrap_or(""));
    }
    let newer = sum_of(timelines, "newer");
    if newer > 0 {
        let _ = writeln!(out, "{newer} stripes are of a newer version and were left out");
    }
    if let (Some(from_ms), Some(to_ms)) = (report["from_ms"].as_i64(), report["to_ms"].as_i64()) {
        let _ = writeln!(out, "stored: {} to {}", Rfc3339(from_ms), Rfc3339(to_ms));
    }
    let (disk_bytes, quota_bytes) = (number(report, "disk_bytes"), number(report, "quota_bytes"));
    let _ = write!(out, "disk: {disk_bytes} of {quota_bytes} bytes");
    if let Some(bytes) = report["disk_bytes_per_sample"].as_f64() {
        let _ = write!(out, ", all files: {bytes:.3} a sample in segments");
    }
    match report["days_left"].as_f64() {
        Some(days) => {
            let _ = writeln!(out, ", {days:.1} days left at this rate until the oldest history goes");
        }
        None => out.push('\n'),
    }
    out
}

#[cfg(test)]
#[path = "analyze_tests.rs"]
mod tests;
