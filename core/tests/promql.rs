//! PromQL by scripts: `tests/promql/*.test`, one per family, and any folder of Prometheus' own scripts.

#[path = "promql/script.rs"]
mod script;

use script::Outcome;
use std::{fs, path::Path};

fn scripts(folder: &Path) -> Vec<(String, String)> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    paths.sort();
    let name = |path: &Path| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    paths.iter().map(|path| (name(path), fs::read_to_string(path).expect("a readable script"))).collect()
}

#[test]
fn every_script_of_ours_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/promql");
    let (mut total, mut wrong) = (0, Vec::new());
    for (name, text) in scripts(&folder) {
        let reports = script::run(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!reports.is_empty(), "{name} asks nothing");
        total += reports.len();
        for report in reports {
            if report.outcome != Outcome::Passed {
                wrong.push(format!("{name}:{} {}\n    {:?}", report.line, report.expr, report.outcome));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {total} failed:\n{}", wrong.len(), wrong.join("\n"));
    assert!(total >= 100, "only {total} evals: is the folder whole?");
}

/// Runs the scripts in the folder that HOLDFAST_PROMQL_SCRIPTS names, prints the score, and fails below the number of
/// passes in HOLDFAST_PROMQL_PASSED_MIN. Without the first there is nothing to run; HOLDFAST_PROMQL_VERBOSE lists what is left for later.
#[test]
fn scripts_from_elsewhere_score_as_before() {
    let Ok(folder) = std::env::var("HOLDFAST_PROMQL_SCRIPTS") else { return };
    let (mut passed_total, mut total) = (0, 0);
    for (name, text) in scripts(Path::new(&folder)) {
        let reports = match script::run(&text) {
            Ok(reports) => reports,
            Err(error) => {
                println!("{name}: cannot be read: {error}");
                continue;
            }
        };
        let later = reports.iter().filter(|report| report.outcome == Outcome::Later).count();
        let passed = reports.iter().filter(|report| report.outcome == Outcome::Passed).count();
        for report in &reports {
            if report.outcome == Outcome::Later && std::env::var_os("HOLDFAST_PROMQL_VERBOSE").is_some() {
                println!("{name}:{} later {}", report.line, report.expr);
            }
            if let Outcome::Failed(reason) = &report.outcome {
                println!("{name}:{} {}\n    {reason}", report.line, report.expr);
            }
        }
        println!("{name}: {passed}/{} passed, {later} later", reports.len() - later);
        passed_total += passed;
        total += reports.len() - later;
    }
    println!("total: {passed_total}/{total}");
    let least = std::env::var("HOLDFAST_PROMQL_PASSED_MIN").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    assert!(passed_total >= least, "{passed_total} passed, {least} wanted");
}
