//! `holdfast check config` and `holdfast check rules`: the daemon's own reading, printed as promtool prints.

use super::{Reading, file, rules};
use std::{fmt::Write, path::Path};

/// What a check prints and how the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// For standard output.
    pub output: String,
    /// For standard error: one line per error.
    pub errors: String,
    /// 0, or 2 when anything is wrong.
    pub code: u8,
}

/// The configuration, then each rule file it names.
pub fn check_config(path: &Path, reading: &Reading) -> Report {
    let mut report = Report { output: String::new(), errors: String::new(), code: 0 };
    let (config, findings) = file::read(path, reading);
    let rule_paths = file::find_rule_files(&config, path, reading.file_bytes_max, &findings);
    let (errors, notices) = findings.finish();
    let file = path.display();
    push(&mut report.output, format_args!("Checking {file}"));
    for notice in notices {
        push(&mut report.output, format_args!("  NOTICE: {notice}"));
    }
    if errors.is_empty() {
        if !rule_paths.is_empty() {
            push(&mut report.output, format_args!("  SUCCESS: {} rule files found", rule_paths.len()));
        }
        push(&mut report.output, format_args!(" SUCCESS: {file} is valid prometheus config file syntax"));
    } else {
        push(&mut report.output, format_args!("  FAILED: {} errors", errors.len()));
        for error in errors {
            push(&mut report.errors, format_args!("{error}"));
        }
        report.code = 2;
    }
    report.output.push('\n');
    for rule_path in rule_paths {
        check_rule_file(&rule_path, reading, &mut report);
    }
    report
}

/// Each file on its own; one with errors does not hide the next.
pub fn check_rules<P: AsRef<Path>>(paths: &[P], reading: &Reading) -> Report {
    let mut report = Report { output: String::new(), errors: String::new(), code: 0 };
    for path in paths {
        check_rule_file(path.as_ref(), reading, &mut report);
    }
    report
}

fn check_rule_file(path: &Path, reading: &Reading, report: &mut Report) {
    push(&mut report.output, format_args!("Checking {}", path.display()));
    match rules::load(path, reading) {
        Ok((groups, notices)) => {
            for notice in notices {
                push(&mut report.output, format_args!("  NOTICE: {notice}"));
            }
            let rules_count: usize = groups.iter().map(|group| group.rules.len()).sum();
            push(&mut report.output, format_args!("  SUCCESS: {rules_count} rules found"));
        }
        Err(refused) => {
            push(&mut report.output, format_args!("  FAILED: {} errors", refused.errors.len()));
            push(&mut report.errors, format_args!("{refused}"));
            report.code = 2;
        }
    }
    report.output.push('\n');
}

fn push(text: &mut String, line: std::fmt::Arguments) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}
