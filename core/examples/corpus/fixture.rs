//! The fixture's figures, as a table on the page that a test compares with what is measured.

use crate::{
    recording,
    replay::{self, Kept, Tally, TargetFigures},
    series::{Class, Target},
};
use std::fmt::Write;

/// Where the page has the table.
pub const HEADING: &str = "## The fixture";
pub const TEXT: &str = include_str!("../../../tests/fixtures/codec/made-up.txt");

/// Reads and plays it.
pub fn measure() -> Result<TargetFigures, String> {
    let target = Target::parse(&recording::table("made-up", TEXT)?)?;
    replay::replay(&[target], 1)?.pop().ok_or_else(|| String::from("the fixture has no target"))
}

/// The table that the test reads: a class, or what all share, or all; then packed, sealed, aged and log.
pub fn table(page: &mut String, fixture: &TargetFigures) {
    *page += "| class | packed | sealed | aged | log |\n| --- | --- | --- | --- | --- |\n";
    for (name, figures) in rows(fixture) {
        _ = write!(page, "| {name} |");
        figures.iter().for_each(|figure| _ = write!(page, " {figure:.3} |"));
        *page += "\n";
    }
}

/// Bytes per sample by class, of what all share, and of all: packed, sealed, aged, log.
pub fn rows(fixture: &TargetFigures) -> Vec<(&'static str, [f64; 4])> {
    let kept = [fixture.packed, fixture.sealed, fixture.aged, fixture.log];
    let shared = |kept: Kept| Tally { samples: kept.all().samples, bytes: kept.shared_bytes, heavy_bytes: 0 };
    let mut rows: Vec<_> =
        Class::ALL.map(|class| (class.text(), kept.map(|kept| kept.classes[class as usize].bytes_per_sample()))).into();
    rows.push(("shared", kept.map(|kept| shared(kept).bytes_per_sample())));
    rows.push(("all", kept.map(|kept| kept.all().bytes_per_sample())));
    rows
}
