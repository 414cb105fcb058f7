//! What is wrong or worth knowing in a configuration, and where.

use std::{cell::RefCell, fmt};

/// Findings of one kind kept for one file. A broken file can produce one per line; the first ones tell enough.
const FINDINGS_COUNT_MAX: usize = 100;

/// One thing found: `file:line:column: message; what to do`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    /// From 1; 0 when the finding concerns no line (an unreadable file).
    pub line: u32,
    /// From 1, in characters; 0 with `line` 0.
    pub column: u32,
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }
}

/// A configuration that cannot be used: every reason, in the order of files and lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    pub errors: Vec<Finding>,
}

/// One line per error.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            write!(f, "{}{error}", if index > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

/// A place in a file, from 1; the default means the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub line: u32,
    pub column: u32,
}

/// Collects what is found while one file is read. Readers share it, so it is filled through a shared reference.
pub(crate) struct Findings {
    file: String,
    errors: RefCell<Vec<Finding>>,
    notices: RefCell<Vec<Finding>>,
}

impl Findings {
    pub fn new(file: &str) -> Self {
        Self { file: file.into(), errors: RefCell::default(), notices: RefCell::default() }
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn error(&self, at: Position, message: impl Into<String>) {
        self.push(&self.errors, at, message.into());
    }

    pub fn notice(&self, at: Position, message: impl Into<String>) {
        self.push(&self.notices, at, message.into());
    }

    pub fn error_count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// Errors and notices, each in the order of lines.
    pub fn finish(self) -> (Vec<Finding>, Vec<Finding>) {
        let in_order = |findings: RefCell<Vec<Finding>>| {
            let mut findings = findings.into_inner();
            let cut = findings.len().min(FINDINGS_COUNT_MAX);
            findings[..cut].sort_by_key(|finding| (finding.line, finding.column));
            findings
        };
        (in_order(self.errors), in_order(self.notices))
    }

    fn push(&self, findings: &RefCell<Vec<Finding>>, at: Position, message: String) {
        let mut findings = findings.borrow_mut();
        if findings.len() > FINDINGS_COUNT_MAX {
            return;
        }
        let (at, message) = match findings.len() {
            FINDINGS_COUNT_MAX => (
                Position::default(),
                format!(
                    "more than {FINDINGS_COUNT_MAX} things are wrong here; correct the ones above, then check again"
                ),
            ),
            _ => (at, message),
        };
        findings.push(Finding { file: self.file.clone(), line: at.line, column: at.column, message });
    }
}
