//! The function table: one row per function, read by parser, checker, evaluator and documentation.
//!
//! To add a function, write its leaf in the file of its family, add its row here, and a script to `tests/promql/`.

pub mod date;
pub mod histogram;
pub mod later;
pub mod over_time;
pub mod pointwise;
pub mod rate;

use super::ast::ValueType::{self, Matrix, Scalar, String, Vector};
use crate::store::Sample;
use alloc::vec::Vec;
use histogram::Bucket;

/// One function of the language.
pub struct Function {
    pub name: &'static str,
    /// Types of the arguments in order.
    pub arguments: &'static [ValueType],
    pub count: Count,
    pub returns: ValueType,
    pub shape: Shape,
    /// Prometheus has it behind a flag.
    pub experimental: bool,
    /// One sentence for the reader of `docs/PROMQL.md`.
    pub help: &'static str,
}

/// How many of a function's arguments must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    All,
    /// The last one may be left out.
    LastOptional,
    /// The last one may be left out or repeated.
    LastRepeated,
}

/// How a function is evaluated. The scalars among its arguments come in order, with their values at the step.
pub enum Shape {
    Constant(f64),
    /// The step's time.
    Time,
    /// A value for a value.
    Map(fn(f64) -> f64),
    /// A value, or nothing, for a value and the scalars.
    MapWith(fn(f64, &[f64]) -> Option<f64>),
    /// A value for a time in seconds: of the step, or what the vector gives.
    Date(fn(f64) -> f64),
    /// A value, or nothing, for a window of samples.
    OverTime(OverTime),
    Absent,
    AbsentOverTime,
    ToScalar,
    ToVector,
    Timestamp,
    Sort {
        descending: bool,
    },
    LabelReplace,
    LabelJoin,
    /// A value for the buckets of a classic histogram and the scalars, and whether the buckets had to be corrected.
    Buckets {
        leaf: fn(&[f64], &mut Vec<Bucket>) -> (f64, bool),
        has_quantile: bool,
    },
}

pub struct OverTime {
    pub leaf: fn(&Window<'_>) -> Option<f64>,
    /// The result is still the metric.
    pub keeps_name: bool,
    /// Only makes sense on counters; another name is worth a hint.
    pub wants_counter: bool,
    /// The first scalar is a φ; one outside of 0..1 is worth a warning.
    pub has_quantile: bool,
    /// The leaf copies the window.
    pub copies: bool,
}

/// What a leaf over a window sees.
pub struct Window<'a> {
    /// In `start_ms < t <= end_ms`, ascending, without stale markers.
    pub samples: &'a [Sample],
    pub start_ms: i64,
    pub end_ms: i64,
    /// The step's own time, which `offset` and `@` do not move.
    pub at_ms: i64,
    pub scalars: &'a [f64],
}

impl Function {
    pub fn argument_count_min(&self) -> usize {
        self.arguments.len() - usize::from(self.count != Count::All)
    }

    /// `None`: any number.
    pub fn argument_count_max(&self) -> Option<usize> {
        (self.count != Count::LastRepeated).then_some(self.arguments.len())
    }

    /// The type wanted at `index`; beyond the table the last one repeats.
    pub fn argument_type(&self, index: usize) -> ValueType {
        self.arguments.get(index).or(self.arguments.last()).copied().unwrap_or(Scalar)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl core::fmt::Debug for Function {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}

pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|index| &FUNCTIONS[index])
}

const fn map(name: &'static str, leaf: fn(f64) -> f64, help: &'static str) -> Function {
    row(name, &[Vector], Vector, Shape::Map(leaf), help)
}

const fn date(name: &'static str, leaf: fn(f64) -> f64, help: &'static str) -> Function {
    let row = row(name, &[Vector], Vector, Shape::Date(leaf), help);
    Function { count: Count::LastOptional, ..row }
}

const OVER_TIME: OverTime =
    OverTime { leaf: over_time::last, keeps_name: false, wants_counter: false, has_quantile: false, copies: false };

const fn over(name: &'static str, leaf: fn(&Window<'_>) -> Option<f64>, help: &'static str) -> Function {
    row(name, &[Matrix], Vector, Shape::OverTime(OverTime { leaf, ..OVER_TIME }), help)
}

const fn over_as(name: &'static str, over: OverTime, help: &'static str) -> Function {
    row(name, &[Matrix], Vector, Shape::OverTime(over), help)
}

const fn row(
    name: &'static str,
    arguments: &'static [ValueType],
    returns: ValueType,
    shape: Shape,
    help: &'static str,
) -> Function {
    Function { name, arguments, count: Count::All, returns, shape, experimental: false, help }
}

/// Sorted by name.
pub static FUNCTIONS: &[Function] = &[
    map("abs", libm::fabs, "absolute value"),
    row("absent", &[Vector], Vector, Shape::Absent, "1 where the vector is empty, labelled by its equality matchers"),
    row("absent_over_time", &[Matrix], Vector, Shape::AbsentOverTime, "1 where the range has no sample at all"),
    map("acos", libm::acos, "arc cosine, radians"),
    map("acosh", libm::acosh, "inverse hyperbolic cosine"),
    map("asin", libm::asin, "arc sine, radians"),
    map("asinh", libm::asinh, "inverse hyperbolic sine"),
    map("atan", libm::atan, "arc tangent, radians"),
    map("atanh", libm::atanh, "inverse hyperbolic tangent"),
    over("avg_over_time", over_time::avg, "mean of the samples"),
    map("ceil", libm::ceil, "rounded up"),
    over("changes", rate::changes, "how often the value changed"),
    row("clamp", &[Vector, Scalar, Scalar], Vector, Shape::MapWith(pointwise::clamp), "kept between the two scalars"),
    row("clamp_max", &[Vector, Scalar], Vector, Shape::MapWith(pointwise::clamp_max), "at most the scalar"),
    row("clamp_min", &[Vector, Scalar], Vector, Shape::MapWith(pointwise::clamp_min), "at least the scalar"),
    map("cos", libm::cos, "cosine of radians"),
    map("cosh", libm::cosh, "hyperbolic cosine"),
    over("count_over_time", over_time::count, "number of samples"),
    date("day_of_month", date::day_of_month, "1 to 31, UTC"),
    date("day_of_week", date::day_of_week, "0 (Sunday) to 6, UTC"),
    date("day_of_year", date::day_of_year, "1 to 366, UTC"),
    date("days_in_month", date::days_in_month, "28 to 31, UTC"),
    map("deg", pointwise::deg, "radians to degrees"),
    over("delta", rate::delta, "difference over the range, extrapolated to its edges; for gauges"),
    over("deriv", rate::deriv, "slope per second of the least-squares line; for gauges"),
    map("exp", libm::exp, "e to the power of the value"),
    over_as(
        "first_over_time",
        OverTime { leaf: over_time::first, keeps_name: true, ..OVER_TIME },
        "oldest sample, with its name",
    ),
    map("floor", libm::floor, "rounded down"),
    row(
        "histogram_fraction",
        &[Scalar, Scalar, Vector],
        Vector,
        Shape::Buckets { leaf: histogram::bucket_fraction, has_quantile: false },
        "share of a classic histogram's observations between two values",
    ),
    row(
        "histogram_quantile",
        &[Scalar, Vector],
        Vector,
        Shape::Buckets { leaf: histogram::bucket_quantile, has_quantile: true },
        "φ-quantile of classic histograms, by their le labels",
    ),
    date("hour", date::hour, "0 to 23, UTC"),
    over("idelta", rate::idelta, "difference of the last two samples; for gauges"),
    over_as(
        "increase",
        OverTime { leaf: rate::increase, wants_counter: true, ..OVER_TIME },
        "growth of a counter over the range, extrapolated to its edges",
    ),
    over("irate", rate::irate, "growth per second of a counter between the last two samples"),
    Function {
        count: Count::LastRepeated,
        ..row(
            "label_join",
            &[Vector, String, String, String],
            Vector,
            Shape::LabelJoin,
            "sets a label to others' values, joined",
        )
    },
    row(
        "label_replace",
        &[Vector, String, String, String, String],
        Vector,
        Shape::LabelReplace,
        "sets a label to a template where another's value matches a regular expression",
    ),
    over_as(
        "last_over_time",
        OverTime { leaf: over_time::last, keeps_name: true, ..OVER_TIME },
        "newest sample, with its name",
    ),
    map("ln", libm::log, "natural logarithm"),
    map("log10", libm::log10, "decimal logarithm"),
    map("log2", libm::log2, "binary logarithm"),
    Function {
        experimental: true,
        ..over_as(
            "mad_over_time",
            OverTime { leaf: over_time::mad, copies: true, ..OVER_TIME },
            "median distance from the median",
        )
    },
    over("max_over_time", over_time::max, "largest sample"),
    over("min_over_time", over_time::min, "smallest sample"),
    date("minute", date::minute, "0 to 59, UTC"),
    date("month", date::month, "1 to 12, UTC"),
    row("pi", &[], Scalar, Shape::Constant(core::f64::consts::PI), "the number π"),
    Function {
        arguments: &[Matrix, Scalar],
        ..over(
            "predict_linear",
            rate::predict_linear,
            "value in so many seconds, by the least-squares line; for gauges",
        )
    },
    over("present_over_time", over_time::present, "1 where the range has a sample"),
    Function {
        arguments: &[Scalar, Matrix],
        ..over_as(
            "quantile_over_time",
            OverTime { leaf: over_time::quantile_over_time, has_quantile: true, copies: true, ..OVER_TIME },
            "φ-quantile of the samples",
        )
    },
    map("rad", pointwise::rad, "degrees to radians"),
    over_as(
        "rate",
        OverTime { leaf: rate::rate, wants_counter: true, ..OVER_TIME },
        "growth per second of a counter over the range, extrapolated to its edges",
    ),
    over("resets", rate::resets, "how often a counter fell"),
    Function {
        count: Count::LastOptional,
        ..row(
            "round",
            &[Vector, Scalar],
            Vector,
            Shape::MapWith(pointwise::round),
            "to the nearest multiple of the scalar, by default 1; halves go up",
        )
    },
    row("scalar", &[Vector], Scalar, Shape::ToScalar, "the vector's only value, else NaN"),
    map("sgn", pointwise::sgn, "-1, 0 or 1"),
    map("sin", libm::sin, "sine of radians"),
    map("sinh", libm::sinh, "hyperbolic sine"),
    row("sort", &[Vector], Vector, Shape::Sort { descending: false }, "ascending by value; for instant queries"),
    row("sort_desc", &[Vector], Vector, Shape::Sort { descending: true }, "descending by value; for instant queries"),
    map("sqrt", libm::sqrt, "square root"),
    over("stddev_over_time", over_time::stddev, "population standard deviation of the samples"),
    over("stdvar_over_time", over_time::stdvar, "population variance of the samples"),
    over("sum_over_time", over_time::sum, "sum of the samples"),
    map("tan", libm::tan, "tangent of radians"),
    map("tanh", libm::tanh, "hyperbolic tangent"),
    row("time", &[], Scalar, Shape::Time, "seconds since 1970 of the step"),
    row("timestamp", &[Vector], Vector, Shape::Timestamp, "seconds since 1970 of the samples"),
    row("vector", &[Scalar], Vector, Shape::ToVector, "the scalar as a vector without labels"),
    date("year", date::year, "the year, UTC"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_row_is_found() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(FUNCTIONS.iter().all(|function| find(function.name) == Some(function)));
        assert!(later::FUNCTIONS.iter().all(|name| find(name).is_none()));
        assert_eq!(find("nope"), None);
    }
}
