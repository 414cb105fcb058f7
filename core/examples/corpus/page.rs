//! The figures as the page docs/CODEC.md gives them, beside the goals.

use crate::{
    fixture,
    replay::{Kept, Tally, TargetFigures},
    series::Class,
    speed::Speeds,
    state::{LabelBytes, StateBytes},
    training::Worth,
};
use std::fmt::Write;

/// All that is measured.
pub struct Figures {
    pub at_5_s: Vec<TargetFigures>,
    pub at_15_s: Vec<TargetFigures>,
    /// What the start of aged stripes' contexts is worth, by target.
    pub worth_5_s: Vec<Worth>,
    pub worth_15_s: Vec<Worth>,
    pub labels: LabelBytes,
    pub state: StateBytes,
    pub speeds: Speeds,
    /// Corner series that came back to the bit.
    pub corner_series: usize,
    pub fixture: TargetFigures,
}

pub fn render(figures: &Figures) -> String {
    let Figures { at_5_s, at_15_s, labels, state, speeds, corner_series, fixture, .. } = figures;
    let mut page = String::from(INTRODUCTION);
    goals(&mut page, figures);
    page += "## Bytes per sample by class\n\n";
    page += CLASSES_WORDS;
    classes(&mut page, "5 s, segments of 240 rows and of the 96 that are left", at_5_s);
    classes(&mut page, "15 s, segments of 112 rows", at_15_s);
    page += "## Bytes per sample by target\n\n";
    targets(&mut page, at_5_s, at_15_s);
    start(&mut page, figures);
    _ = write!(
        page,
        "## Labels and state in RAM\n\n\
         Labels of the {} series of the corpus, `job` and `instance` among them:\n\n\
         | what | bytes per series |\n| --- | --- |\n",
        labels.series
    );
    let layout_bytes = at_5_s.iter().map(|target| target.layout_bytes).sum();
    for (what, bytes) in [
        ("heap: texts and sets, each once", labels.heap),
        ("(of that, the texts alone, each once)", labels.texts),
        ("series: records with the chains of the postings, and their index", labels.series_records),
        ("index of the heap: buckets and bitmap", labels.heap_index),
        ("**together**", labels.all()),
        ("on flash, in layout parts", layout_bytes),
    ] {
        _ = writeln!(page, "| {what} | {} |", each(bytes, labels.series));
    }
    page += "\n";
    _ = write!(
        page,
        "{} series (the corpus under several instances) and {} rows, {} samples:\n\n\
         | what | KiB | bytes per series |\n| --- | --- | --- |\n",
        state.series, state.rows, state.samples
    );
    for (what, bytes) in [
        ("timelines, layouts, columns", state.layouts),
        ("newest rows, raw", state.raw_rows),
        ("packed rows", state.ring),
        ("columns with their state", state.columns()),
        ("labels with index and postings", state.labels),
        ("all of it, each region by its used part", state.budget_measured),
        ("`holdfast budget --series=10000` says", state.budget_says),
    ] {
        _ = writeln!(page, "| {what} | {} | {} |", bytes / 1024, each(bytes, state.series));
    }
    _ = write!(
        page,
        "\nTheir slab is attached to in {:.1} ms. `node_cpu_seconds_total{{mode=~\"idle|user\"}}` selects {} of the series\n\
         in {:.1} µs.\n",
        state.attach_ms, state.selected, state.select_us
    );
    _ = write!(
        page,
        "\n## Speed\n\n\
         Millions of samples a second of one thread's CPU time, of one run on a shared machine: read them as ± 20 %.\n\n\
         | what | M samples/s |\n| --- | --- |\n\
         | put: label sets to cells, chunks packed | {:.1} |\n\
         | seal: chunks to packed segments | {:.1} |\n\
         | age: packed segments to aged ones | {:.1} |\n\
         | scan packed segments whole | {:.1} |\n\
         | scan aged segments whole | {:.1} |\n\
         | scan packed segments series by series, as a query does | {:.1} |\n\
         | scan aged segments series by series | {:.1} |\n\
         | scan chunks in RAM | {:.1} |\n\
         | scan chunks in RAM series by series | {:.1} |\n\n",
        speeds.put,
        speeds.seal,
        speeds.age,
        speeds.scan_sealed,
        speeds.scan_aged,
        speeds.scan_series,
        speeds.scan_aged_series,
        speeds.scan_packed,
        speeds.scan_packed_series
    );
    _ = write!(
        page,
        "## To the bit\n\n\
         While it measures, the program compares every sample and stale marker as it comes back from RAM, from the log's\n\
         frames and from segments of both forms with what the parser gave, by row, time and bits. All of it came back, and\n\
         of the {corner_series} corner series (NaN payloads, -0, denormals, 2⁵³ and beyond, clocks that go back) all did.\n\
         The program ends with 1 when anything does not.\n\n"
    );
    page += fixture::HEADING;
    page += FIXTURE_WORDS;
    fixture::table(&mut page, fixture);
    page
}

const INTRODUCTION: &str = "\
# What a sample costs

Written by a program; run it again rather than edit this page:

    HOLDFAST_CORPUS=FOLDER cargo run --release -p holdfast-core --example corpus -- --write

It plays recorded scrapes of six real and made-up exporters (28 minutes at 5 s, jitter and all) through the product's own
parser, store and spill, flushes every 30 s as the daemon does, seals each segment as soon as it is full, and counts bytes:

- *packed*: chunks of 16 rows in RAM;
- *sealed*: packed segments in the database, 240 rows at 5 s, 112 at 15 s (each third scrape);
- *aged*: the same segments, written again behind the range coder;
- *log*: frames of the tail log.

Counted is everything but labels: values, presence, instants, headers, directories, checksums, padding. What all series of a
target share is the row *shared*. The five series that a scrape writes about itself are left out. Classes are by
`TYPE` line and by the values over the whole recording: *constant* is one value to the bit, whatever its type;
*integer* has whole numbers only; `untyped` counts as a gauge.

";

const GOALS_WORDS: &str = "\
## Goals and today

*Taught by others*: the contexts of aged stripes start where recorded scrapes have taught them, and these recordings are
among the teachers. So that a figure is not the pupil's own: for each target they start where the *other* targets teach them.

";

const CLASSES_WORDS: &str = "\
*share* is of samples, *of sealed* of the sealed bytes; *heavy* is the part of the class's sealed bytes in columns that take
4 bytes a sample and more: those that the transforms do not fit.

";

const START_WORDS: &str = "\
## Where aged stripes' contexts start

What a column takes where its stripe's contexts start undecided, where they start as they do, and where they start as the
five other targets teach it (bytes per sample, without headers, directories and instants):

";

const FIXTURE_WORDS: &str = "

Scrapes of an exporter that does not exist, in `tests/fixtures/codec/made-up.txt`, so that a codec that gets worse
fails its test where there is no corpus. Bytes per sample; the test measures them again and compares.

";

fn goals(page: &mut String, figures: &Figures) {
    let Figures { at_5_s, at_15_s, worth_5_s, worth_15_s, labels, state, speeds, .. } = figures;
    let aged = |targets| sum(targets, |target| target.aged).all().bytes_per_sample();
    let (aged_5_s, aged_15_s) = (aged(at_5_s), aged(at_15_s));
    let node_at = at_5_s.iter().position(|target| target.name == "node").unwrap_or(0);
    let node = at_5_s[node_at].aged.all().bytes_per_sample();
    *page += GOALS_WORDS;
    *page += "| figure | goal | today | |\n| --- | --- | --- | --- |\n";
    let mib = 1_048_576.0;
    for (what, at_most, is, places) in [
        ("sealed and aged, 5 s, B/sample", 0.31, aged_5_s, 3),
        ("the same, taught by others", 0.31, aged_5_s + others_more(worth_5_s), 3),
        ("sealed and aged, 15 s, B/sample", 0.40, aged_15_s, 3),
        ("the same, taught by others", 0.40, aged_15_s + others_more(worth_15_s), 3),
        ("sealed and aged, node alone, 5 s, B/sample", 0.52, node, 3),
        ("the same, taught by others", 0.52, node + others_more(&worth_5_s[node_at..=node_at]), 3),
        ("packed segments, 5 s, B/sample", 0.48, sum(at_5_s, |target| target.sealed).all().bytes_per_sample(), 3),
        (
            "packed chunks of 16 rows, 5 s, B/sample",
            0.48,
            sum(at_5_s, |target| target.packed).all().bytes_per_sample(),
            3,
        ),
        ("labels with index and postings, B/series", 40.0, labels.all() as f64 / labels.series as f64, 1),
        ("columns with state, 10,000 series, 240 rows, MiB", 3.0, state.columns() as f64 / mib, 2),
        ("`holdfast budget` against that and its labels, %", 2.0, state.budget_difference_percent(), 1),
        ("attach, 10,000 series, ms", 20.0, state.attach_ms, 1),
    ] {
        let is_met = if is <= at_most { "met" } else { "missed" };
        _ = writeln!(page, "| {what} | ≤ {at_most} | {is:.places$} | {is_met} |");
    }
    for (what, at_least, is) in [
        ("seal, M samples/s", 20.0, speeds.seal),
        ("age, M samples/s", 20.0, speeds.age),
        ("scan of aged segments, M samples/s", 50.0, speeds.scan_aged),
        ("scan of packed segments, M samples/s", 200.0, speeds.scan_sealed),
        ("scan of packed rows, M samples/s", 200.0, speeds.scan_packed),
    ] {
        let is_met = if is >= at_least { "met" } else { "missed" };
        _ = writeln!(page, "| {what} | ≥ {at_least} | {is:.1} | {is_met} |");
    }
    *page += "\n";
}

/// Bytes a sample that these targets take more where contexts start as the others teach it.
fn others_more(worth: &[Worth]) -> f64 {
    let samples: usize = worth.iter().map(|worth| worth.samples).sum();
    worth.iter().map(|worth| worth.taught_by_others - worth.with_start).sum::<f64>() / 8.0 / samples as f64
}

/// What the start is worth, target by target.
fn start(page: &mut String, figures: &Figures) {
    *page += START_WORDS;
    *page += "| target | undecided | as it is | taught by others | undecided, 15 s | as it is, 15 s | taught by others, 15 s |\n";
    *page += "| --- | --- | --- | --- | --- | --- | --- |\n";
    let all = figures.worth_5_s.iter().zip(&figures.worth_15_s);
    for (target, (at_5_s, at_15_s)) in figures.at_5_s.iter().zip(all) {
        _ = write!(page, "| {} |", target.name);
        for worth in [at_5_s, at_15_s] {
            for bits in [worth.undecided, worth.with_start, worth.taught_by_others] {
                _ = write!(page, " {:.3} |", bits / 8.0 / worth.samples as f64);
            }
        }
        *page += "\n";
    }
    *page += "\n";
}

fn classes(page: &mut String, heading: &str, targets: &[TargetFigures]) {
    let packed = sum(targets, |target| target.packed);
    let sealed = sum(targets, |target| target.sealed);
    let aged = sum(targets, |target| target.aged);
    let log = sum(targets, |target| target.log);
    _ = writeln!(page, "{heading}, {} samples:\n", sealed.all().samples);
    *page += "| class | share | packed | sealed | aged | log | of sealed | heavy | of aged |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    let of_sealed = |bytes: u64| 100.0 * bytes as f64 / sealed.all().bytes as f64;
    let of_aged = |bytes: u64| 100.0 * bytes as f64 / aged.all().bytes as f64;
    for class in Class::ALL {
        let at = class as usize;
        let share = 100.0 * sealed.classes[at].samples as f64 / sealed.all().samples as f64;
        let of_aged = of_aged(aged.classes[at].bytes);
        let [packed, of, aged, log] = [packed, sealed, aged, log].map(|kept| per_sample(kept.classes[at]));
        let of_sealed = of_sealed(sealed.classes[at].bytes);
        let heavy = 100.0 * sealed.classes[at].heavy_bytes as f64 / (sealed.classes[at].bytes as f64).max(1.0);
        let name = class.text();
        _ = writeln!(
            page,
            "| {name} | {share:.1} % | {packed} | {of} | {aged} | {log} | {of_sealed:.1} % | {heavy:.0} % | {of_aged:.1} % |"
        );
    }
    let shared =
        |kept: Kept| per_sample(Tally { samples: kept.all().samples, bytes: kept.shared_bytes, heavy_bytes: 0 });
    _ = writeln!(
        page,
        "| shared | | {} | {} | {} | {} | {:.1} % | | {:.1} % |",
        shared(packed),
        shared(sealed),
        shared(aged),
        shared(log),
        of_sealed(sealed.shared_bytes),
        of_aged(aged.shared_bytes)
    );
    let heavy = 100.0 * sealed.all().heavy_bytes as f64 / sealed.all().bytes as f64;
    let [packed, sealed, aged, log] = [packed, sealed, aged, log].map(|kept| per_sample(kept.all()));
    _ = writeln!(page, "| **all** | | **{packed}** | **{sealed}** | **{aged}** | **{log}** | | {heavy:.0} % | |\n");
}

fn targets(page: &mut String, at_5_s: &[TargetFigures], at_15_s: &[TargetFigures]) {
    *page += "| target | series | samples at 5 s | packed | sealed | aged | log ";
    *page += "| packed, 15 s | sealed, 15 s | aged, 15 s | log, 15 s |\n";
    *page += "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for (target, less_often) in at_5_s.iter().zip(at_15_s) {
        _ = write!(page, "| {} | {} | {} |", target.name, target.series, target.sealed.all().samples);
        for of in [target, less_often] {
            for kept in [of.packed, of.sealed, of.aged, of.log] {
                _ = write!(page, " {} |", per_sample(kept.all()));
            }
        }
        *page += "\n";
    }
    *page += "\n";
}

fn sum(targets: &[TargetFigures], which: impl Fn(&TargetFigures) -> Kept) -> Kept {
    let mut sum = Kept::default();
    targets.iter().for_each(|target| sum += which(target));
    sum
}

fn per_sample(tally: Tally) -> String {
    if tally.samples == 0 { String::from("-") } else { format!("{:.3}", tally.bytes_per_sample()) }
}

fn each(bytes: u64, count: u64) -> String {
    format!("{:.1}", bytes as f64 / count as f64)
}
