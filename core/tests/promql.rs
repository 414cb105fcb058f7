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

/// The page that lists the language, out of the tables that define it.
fn page() -> String {
    use holdfast_core::promql::{
        AggregateOp,
        functions::{Count, FUNCTIONS, later},
    };
    let mut page = String::from(PAGE_HEAD);
    for function in FUNCTIONS {
        let last = function.arguments.len().saturating_sub(1);
        let arguments: Vec<String> = function
            .arguments
            .iter()
            .enumerate()
            .map(|(index, argument)| match function.count {
                Count::LastOptional if index == last => format!("[{}]", argument.text()),
                Count::LastRepeated if index == last => format!("[{}, ...]", argument.text()),
                _ => argument.text().to_owned(),
            })
            .collect();
        let note = if function.experimental { " (experimental in Prometheus)" } else { "" };
        let (name, returns, help) = (function.name, function.returns.text(), function.help);
        page.push_str(&format!("| `{name}` | {} | {returns} | {help}{note} |\n", arguments.join(", ")));
    }
    page.push_str(
        "\n## Aggregations\n\nEach takes `by (...)` or `without (...)` before or behind its arguments.\n\n| name | parameter |\n|---|---|\n",
    );
    for (op, name) in AggregateOp::ALL {
        page.push_str(&format!("| `{name}` | {} |\n", op.parameter_type().map_or("", |wanted| wanted.text())));
    }
    page.push_str("\n## Not supported yet\n\nRefused with an error that names it:\n\n");
    for name in later::FUNCTIONS.iter().chain(&later::AGGREGATIONS) {
        page.push_str(&format!("- `{name}`\n"));
    }
    page.push_str(PAGE_TAIL);
    page
}

const PAGE_HEAD: &str = "# PromQL

What Holdfast understands of Prometheus' query language, and where it stops. The tables are rendered from the ones the
parser reads; a test compares, and `HOLDFAST_RENDER=1 cargo test -p holdfast-core --test promql page` writes this page
anew.

Everything of the stable language without native histograms is there: all literals (`0x1F`, `1_000`, `1h30m`, `Inf`),
all three kinds of text, quoted UTF-8 names (`{\"metric.name\", \"label.name\"=\"x\"}`), all matchers, `offset` (negative too),
`@` with a time, `start()` or `end()`, ranges, subqueries, arithmetic with `atan2` and `^`, comparison with `bool`,
`and` `or` `unless`, and matching with `on`, `ignoring`, `group_left` and `group_right`.

Ranges and the look-back (5 minutes) are open at their left end, as in Prometheus 3. A subquery without a step takes one
minute. The series of a range query come in the order they are computed, which is that of their labels for most queries.

## Limits

A query works in bites, so that it never delays a scrape, and has a meter: what it would hold is charged before it grows,
and too much fails that query alone. An expression may be nested 100 deep. Text is UTF-8: an escape that makes other
bytes is refused.

## Functions

| name | arguments | returns | what it gives |
|---|---|---|---|
";

const PAGE_TAIL: &str = "- the modifiers `smoothed`, `anchored`, `fill`, `fill_left`, `fill_right`
- duration expressions such as `[5m + 1m]`
- native histograms
";

#[test]
fn the_page_lists_what_the_tables_have() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROMQL.md");
    if std::env::var_os("HOLDFAST_RENDER").is_some() {
        fs::write(&path, page()).expect("docs/PROMQL.md can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page(), "docs/PROMQL.md is out of date; HOLDFAST_RENDER=1 writes it anew");
}
