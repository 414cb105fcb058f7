//! Measures the codecs, the labels and the state of series on recorded scrapes, and checks that nothing is lost.
//!
//!     cargo run --release -p holdfast-core --example corpus [FOLDER] [--write]
//!     cargo run --release -p holdfast-core --example corpus [FOLDER] --learn [--write]
//!
//! FOLDER holds `NAME.rec.xz` files and `corner.jsonl`; it is `$HOLDFAST_CORPUS` or `../shared/corpus` unless given. Prints
//! the page; with `--write` keeps it as docs/CODEC.md. `--learn` learns where the contexts of aged stripes start instead, and
//! tells what that is worth; with `--write` it keeps that as core/src/store/codec/aged/start.rs, which changes the format
//! (docs/SPILL_FORMAT.md, "Aged stripes"). Ends with 1 when a sample does not come back to the bit, with 2
//! when there is no corpus.

#[path = "corpus/corner.rs"]
mod corner;
#[path = "corpus/fixture.rs"]
mod fixture;
#[path = "corpus/page.rs"]
mod page;
#[path = "corpus/recording.rs"]
mod recording;
#[path = "corpus/replay.rs"]
mod replay;
#[path = "corpus/series.rs"]
mod series;
#[path = "corpus/speed.rs"]
mod speed;
#[path = "corpus/state.rs"]
mod state;
#[path = "corpus/training.rs"]
mod training;

use holdfast_core::store::codec::aged;
use page::Figures;
use series::Target;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};
use training::Worth;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CODEC.md");
const START: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/codec/aged/start.rs");
const SERIES_MAX: usize = 10_000;
const STATE_ROWS: usize = 240;

fn main() -> ExitCode {
    let (mut folder, mut is_to_write, mut is_to_learn) = (None, false, false);
    for argument in env::args_os().skip(1) {
        if argument == "--write" {
            is_to_write = true;
        } else if argument == "--learn" {
            is_to_learn = true;
        } else if folder.is_none() && !argument.as_encoded_bytes().starts_with(b"-") {
            folder = Some(argument);
        } else {
            eprintln!("{}: not understood; give a folder, --learn, --write", argument.display());
            return ExitCode::from(2);
        }
    }
    let folder = folder.or_else(|| env::var_os("HOLDFAST_CORPUS"));
    let folder = folder.map_or_else(|| PathBuf::from("../shared/corpus"), PathBuf::from);
    let paths = match recordings(&folder) {
        Ok(paths) if !paths.is_empty() => paths,
        Ok(_) => {
            eprintln!("{}: no .rec.xz files here; name a folder that has them", folder.display());
            return ExitCode::from(2);
        }
        Err(error) => {
            eprintln!("{}: {error}; name the folder of the corpus, or set HOLDFAST_CORPUS", folder.display());
            return ExitCode::from(2);
        }
    };
    let made = if is_to_learn { learn(&paths) } else { measure(&paths, &folder.join("corner.jsonl")) };
    let (page, path) = match made {
        Ok(page) => (page, if is_to_learn { START } else { PAGE }),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(1);
        }
    };
    if !is_to_learn {
        print!("{page}");
    }
    if is_to_write && let Err(error) = fs::write(path, page) {
        eprintln!("{path}: {error}");
        return ExitCode::from(1);
    }
    ExitCode::SUCCESS
}

fn recordings(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".rec.xz") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Target>, String> {
    paths.iter().map(|path| Target::parse(&recording::read(path)?)).collect()
}

/// The start that the recordings teach, as source.
fn learn(paths: &[PathBuf]) -> Result<String, String> {
    let targets = read_all(paths)?;
    let start = training::start_of(&targets);
    for pace in training::PACES {
        let worth = training::worth(&targets, pace, &start);
        let samples: usize = worth.iter().map(|worth| worth.samples).sum();
        let figure = |bits: fn(&Worth) -> f64| worth.iter().map(bits).sum::<f64>() / 8.0 / samples as f64;
        println!(
            "{pace}: {:.4} B/sample undecided, {:.4} with this start, {:.4} with each target's taught by the others",
            figure(|worth| worth.undecided),
            figure(|worth| worth.with_start),
            figure(|worth| worth.taught_by_others)
        );
    }
    Ok(training::render(&start))
}

/// The page.
fn measure(paths: &[PathBuf], corner: &Path) -> Result<String, String> {
    let targets = read_all(paths)?;
    let corner_text = fs::read_to_string(corner).map_err(|error| format!("{}: {error}", corner.display()))?;
    let corner = corner::read(&corner_text)?;
    // One by one, so that each has its own clock.
    for target in &corner {
        replay::replay(core::slice::from_ref(target), 1)?;
    }
    let start = &aged::START;
    Ok(page::render(&Figures {
        at_5_s: replay::replay(&targets, training::AT_5_S.step)?,
        at_15_s: replay::replay(&targets, training::AT_15_S.step)?,
        worth_5_s: training::worth(&targets, training::AT_5_S, start),
        worth_15_s: training::worth(&targets, training::AT_15_S, start),
        labels: state::label_bytes(&targets)?,
        state: state::state_bytes(&targets, SERIES_MAX, STATE_ROWS)?,
        speeds: speed::speeds(&targets)?,
        corner_series: corner.len(),
        fixture: fixture::measure()?,
    }))
}
