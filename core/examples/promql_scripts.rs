//! Runs a folder of Prometheus' own PromQL scripts against the engine and prints the score.
//!
//!     cargo run -p holdfast-core --example promql_scripts [FOLDER]
//!
//! FOLDER is `$HOLDFAST_PROMQL_SCRIPTS` or `../shared/promql/visible` unless given. `HOLDFAST_PROMQL_VERBOSE` lists what is
//! left for later. Ends with 1 when an eval fails.

#[path = "../tests/promql/script.rs"]
mod script;

use script::Outcome;
use std::{env, fs, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let folder = env::args_os().nth(1).or_else(|| env::var_os("HOLDFAST_PROMQL_SCRIPTS"));
    let folder = folder.map_or_else(|| PathBuf::from("../shared/promql/visible"), PathBuf::from);
    let mut paths: Vec<PathBuf> = match fs::read_dir(&folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) => {
            eprintln!("{}: {error}; name a folder with .test scripts", folder.display());
            return ExitCode::from(2);
        }
    };
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    paths.sort();
    let (mut passed_total, mut total) = (0, 0);
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).map_err(|error| error.to_string());
        let reports = match text.and_then(|text| script::run(&text)) {
            Ok(reports) => reports,
            Err(error) => {
                println!("{name}: cannot be read: {error}");
                total += 1;
                continue;
            }
        };
        let later = reports.iter().filter(|report| report.outcome == Outcome::Later).count();
        let passed = reports.iter().filter(|report| report.outcome == Outcome::Passed).count();
        for report in &reports {
            match &report.outcome {
                Outcome::Later if env::var_os("HOLDFAST_PROMQL_VERBOSE").is_some() => {
                    println!("{name}:{} later {}", report.line, report.expr);
                }
                Outcome::Failed(reason) => println!("{name}:{} {}\n    {reason}", report.line, report.expr),
                Outcome::Later | Outcome::Passed => {}
            }
        }
        println!("{name}: {passed}/{} passed, {later} later", reports.len() - later);
        passed_total += passed;
        total += reports.len() - later;
    }
    println!("total: {passed_total}/{total}");
    ExitCode::from(u8::from(passed_total < total))
}
