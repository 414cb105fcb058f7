//! `holdfast budget`: where the memory goes with these flags, and what it holds of a load.

use super::{Exit, Flags};
use crate::config::parse_duration_ms;
use clap::{Arg, ArgMatches};
use holdfast_core::memory::{Answer, Budget, Load};

#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub flags: Box<Flags>,
    pub interval_ms: u64,
    /// What is not given is as the recorded exporters have it; by default as many series as fit.
    pub series_count: Option<u64>,
    pub timelines_count: Option<u64>,
    pub label_millibytes: Option<u64>,
    pub sample_millibytes: Option<u64>,
}

pub fn arguments() -> [Arg; 5] {
    let option = |name: &'static str, help: &'static str| Arg::new(name).long(name).value_name("value").help(help);
    [
        option("series", "series in memory at once; by default as many as fit"),
        option("targets", "targets and rules that they belong to; by default one for 400 series"),
        option("interval", "between two scrapes of a target").default_value("15s"),
        option("sample-bytes", "bytes of a packed sample; by default as measured, see docs/CODEC.md"),
        option("label-bytes", "bytes of label text of a series; by default as measured, see docs/CODEC.md"),
    ]
}

pub fn question(matches: &ArgMatches, flags: Flags) -> Result<Question, Exit> {
    let refused = |name: &str, why: String| Exit { code: 2, text: format!("--{name}: {why}") };
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let count = |name: &str| match text(name).map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(count)) if (1..=COUNT_MAX).contains(&count) => Ok(Some(count)),
        Some(_) => Err(refused(name, format!("write a whole number from 1 to {COUNT_MAX}"))),
    };
    let millibytes = |name: &str| match text(name).map(str::parse::<f64>) {
        None => Ok(None),
        Some(Ok(bytes)) if (0.001..=BYTES_MAX).contains(&bytes) => Ok(Some((bytes * 1000.0).round() as u64)),
        Some(_) => Err(refused(name, format!("write bytes from 0.001 to {BYTES_MAX}, like 0.5"))),
    };
    let interval = text("interval").unwrap_or_default();
    let interval_ms = match parse_duration_ms(interval).map_err(|error| refused("interval", error.to_string()))? {
        0 => return Err(refused("interval", "write a duration that is not 0".into())),
        interval_ms => interval_ms,
    };
    Ok(Question {
        flags: Box::new(flags),
        interval_ms,
        series_count: count("series")?,
        timelines_count: count("targets")?,
        label_millibytes: millibytes("label-bytes")?,
        sample_millibytes: millibytes("sample-bytes")?,
    })
}

const COUNT_MAX: u64 = 10_000_000;
const BYTES_MAX: f64 = 4096.0;

impl Question {
    pub fn answer<'b>(&self, budget: &'b Budget) -> Answer<'b> {
        let load = |series_count: u64| {
            let usual = Load::usual(series_count);
            Load {
                series_count,
                timelines_count: self.timelines_count.unwrap_or(usual.timelines_count),
                label_bytes: self
                    .label_millibytes
                    .map_or(usual.label_bytes, |each| (series_count * each).div_ceil(1000)),
                sample_millibytes: self.sample_millibytes.unwrap_or(usual.sample_millibytes),
            }
        };
        let plan = budget.plan();
        let series_count =
            self.series_count.unwrap_or_else(|| plan.series_count_max(&load(plan.series_count.into())).0);
        Answer { budget, load: load(series_count), interval_ms: self.interval_ms }
    }
}
