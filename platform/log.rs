//! Log lines on standard error: state changes only, at most one line per cause per five minutes.
//!
//! The core's lines come with their cause; the platform's own lines (macros of the crate `log`) have their place in the
//! source as cause. How many lines of a cause were held back is said on the next one that passes.

use crate::clock;
use holdfast_core::{daemon::output::Level, prng::stable_hash, time::Rfc3339Ms};
use std::{
    fmt::Write as _,
    io::Write,
    sync::{Mutex, OnceLock},
    time::Instant,
};

/// A cause speaks again after this long.
pub const REPEAT_MS_MIN: u64 = 5 * 60 * 1000;
/// The cause of lines that cannot repeat by their nature, such as those of a start: they always pass.
pub const CAUSE_ONCE: u64 = 0;
/// Causes remembered; beyond it the one that spoke longest ago is forgotten (and may speak early).
pub const CAUSE_COUNT_MAX: usize = 256;

/// Decides which lines pass, and writes them.
pub struct LogLines<W> {
    out: W,
    level_min: Level,
    format: LogFormat,
    causes: Vec<Cause>,
}

/// How a line looks (`--log.format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Logfmt,
    /// One JSON object per line, with the names of the logfmt fields.
    Json,
}

struct Cause {
    cause: u64,
    spoke_at_ms: u64,
    held_back_count: u64,
}

impl<W: Write> LogLines<W> {
    pub fn new(out: W, level_min: Level, format: LogFormat) -> Self {
        Self { out, level_min, format, causes: Vec::new() }
    }

    /// Writes one line, or counts it as held back. A line that cannot be written (standard error is closed) is lost:
    /// there is nowhere left to say so.
    pub fn line(&mut self, mono_ms: u64, wall_ms: i64, level: Level, cause: u64, message: &str) {
        if level < self.level_min {
            return;
        }
        let Some(held_back_count) = self.admit(mono_ms, cause) else { return };
        let (ts, level) = (Rfc3339Ms(wall_ms).to_string(), level_name(level));
        let mut line = String::with_capacity(64 + message.len());
        match self.format {
            LogFormat::Logfmt => {
                let _ = write!(line, "ts={ts} level={level} msg=");
                push_value(&mut line, message);
                if held_back_count > 0 {
                    let _ = write!(line, " held_back={held_back_count}");
                }
            }
            LogFormat::Json => {
                let mut fields = serde_json::Map::new();
                fields.insert("ts".into(), ts.into());
                fields.insert("level".into(), level.into());
                fields.insert("msg".into(), message.into());
                if held_back_count > 0 {
                    fields.insert("held_back".into(), held_back_count.into());
                }
                let _ = write!(line, "{}", serde_json::Value::Object(fields));
            }
        }
        line.push('\n');
        let _ = self.out.write_all(line.as_bytes());
    }

    /// The lines held back since this cause last spoke, if it may speak now.
    fn admit(&mut self, mono_ms: u64, cause: u64) -> Option<u64> {
        if cause == CAUSE_ONCE {
            return Some(0);
        }
        if let Some(known) = self.causes.iter_mut().find(|known| known.cause == cause) {
            if mono_ms.saturating_sub(known.spoke_at_ms) < REPEAT_MS_MIN {
                known.held_back_count += 1;
                return None;
            }
            known.spoke_at_ms = mono_ms;
            return Some(std::mem::take(&mut known.held_back_count));
        }
        if self.causes.len() >= CAUSE_COUNT_MAX {
            let oldest = (0..self.causes.len()).min_by_key(|&index| self.causes[index].spoke_at_ms);
            if let Some(oldest) = oldest {
                self.causes.swap_remove(oldest);
            }
        }
        self.causes.push(Cause { cause, spoke_at_ms: mono_ms, held_back_count: 0 });
        Some(0)
    }
}

struct Global {
    started: Instant,
    lines: Mutex<LogLines<std::io::Stderr>>,
}

static GLOBAL: OnceLock<Global> = OnceLock::new();

/// Directs the lines of this process to standard error. Later calls change nothing.
pub fn install(level_min: Level, format: LogFormat) {
    let lines = Mutex::new(LogLines::new(std::io::stderr(), level_min, format));
    if GLOBAL.set(Global { started: Instant::now(), lines }).is_ok() {
        // Fails only when another logger was installed first, and then that one gets the platform's lines.
        let _ = log::set_logger(&MacroSink);
        log::set_max_level(match level_min {
            Level::Debug => log::LevelFilter::Debug,
            Level::Info => log::LevelFilter::Info,
            Level::Warn => log::LevelFilter::Warn,
            Level::Error => log::LevelFilter::Error,
        });
    }
}

/// One line with its cause, as the core gives them. Nothing happens before [`install`].
pub fn line(level: Level, cause: u64, message: &str) {
    if let Some(global) = GLOBAL.get()
        && let Ok(mut lines) = global.lines.lock()
    {
        lines.line(global.started.elapsed().as_millis() as u64, clock::wall_ms(), level, cause, message);
    }
}

/// Takes the lines of `log::info!` and its siblings.
struct MacroSink;

impl log::Log for MacroSink {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let place = format!("{}:{}", record.file().unwrap_or_default(), record.line().unwrap_or_default());
            let level = match record.level() {
                log::Level::Error => Level::Error,
                log::Level::Warn => Level::Warn,
                log::Level::Info => Level::Info,
                log::Level::Debug | log::Level::Trace => Level::Debug,
            };
            line(level, stable_hash(place.as_bytes()), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// A logfmt value, always quoted: quotes, backslashes and control characters are escaped, so a line stays one line.
fn push_value(line: &mut String, value: &str) {
    line.push('"');
    for character in value.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            control if control.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(control));
            }
            plain => line.push(plain),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(events: &[(u64, u64, &str)]) -> String {
        let mut written = Vec::new();
        let mut lines = LogLines::new(&mut written, Level::Info, LogFormat::Logfmt);
        for &(mono_ms, cause, message) in events {
            lines.line(mono_ms, 0, Level::Warn, cause, message);
        }
        String::from_utf8(written).expect("log lines are text")
    }

    #[test]
    fn a_cause_speaks_once_in_five_minutes_and_then_says_how_much_was_held_back() {
        let text = lines_of(&[
            (0, 1, "a"),
            (1, 1, "b"),
            (REPEAT_MS_MIN - 1, 1, "c"),
            (REPEAT_MS_MIN, 1, "d"),
            (REPEAT_MS_MIN, 2, "e"),
        ]);
        assert_eq!(
            text,
            "ts=1970-01-01T00:00:00.000Z level=warn msg=\"a\"\n\
             ts=1970-01-01T00:00:00.000Z level=warn msg=\"d\" held_back=2\n\
             ts=1970-01-01T00:00:00.000Z level=warn msg=\"e\"\n"
        );
    }

    #[test]
    fn lines_of_a_start_all_pass() {
        assert_eq!(lines_of(&[(0, CAUSE_ONCE, "a"), (0, CAUSE_ONCE, "b")]).lines().count(), 2);
    }

    #[test]
    fn a_line_stays_one_line_whatever_a_stranger_puts_into_it() {
        assert!(lines_of(&[(0, 1, "x\ny\"z\\\r\u{1b}[2J")]).ends_with("msg=\"x\\ny\\\"z\\\\\\u000d\\u001b[2J\"\n"));
    }

    #[test]
    fn a_line_of_json_is_one_object_with_the_same_fields() {
        let mut written = Vec::new();
        let mut lines = LogLines::new(&mut written, Level::Info, LogFormat::Json);
        lines.line(0, 0, Level::Warn, 1, "say \"hi\"\n");
        lines.line(1, 0, Level::Warn, 1, "again");
        lines.line(REPEAT_MS_MIN, 1, Level::Warn, 1, "later");
        let parsed: Vec<serde_json::Value> =
            String::from_utf8(written).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0]["msg"], "say \"hi\"\n");
        assert_eq!((&parsed[1]["level"], &parsed[1]["held_back"]), (&"warn".into(), &1.into()));
    }

    #[test]
    fn lines_below_the_level_are_not_written_and_not_counted() {
        let mut written = Vec::new();
        let mut lines = LogLines::new(&mut written, Level::Warn, LogFormat::Logfmt);
        lines.line(0, 0, Level::Info, 1, "quiet");
        lines.line(1, 0, Level::Warn, 1, "heard");
        assert_eq!(written, b"ts=1970-01-01T00:00:00.000Z level=warn msg=\"heard\"\n");
    }

    #[test]
    fn one_cause_too_many_forgets_the_one_that_spoke_longest_ago() {
        let mut lines = LogLines::new(Vec::new(), Level::Info, LogFormat::Logfmt);
        for cause in 1..=CAUSE_COUNT_MAX as u64 + 1 {
            assert_eq!(lines.admit(cause, cause), Some(0));
        }
        assert_eq!(lines.causes.len(), CAUSE_COUNT_MAX);
        assert_eq!(lines.admit(1_000, 2), None);
        assert_eq!(lines.admit(1_000, 1), Some(0));
    }
}
