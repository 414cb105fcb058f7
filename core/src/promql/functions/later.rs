//! What Prometheus has and Holdfast does not have yet: refused by name instead of as a typing error.

/// Functions on native histograms, and experimental ones.
pub const FUNCTIONS: [&str; 22] = [
    "double_exponential_smoothing",
    "end",
    "histogram_avg",
    "histogram_count",
    "histogram_quantiles",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "holt_winters",
    "info",
    "max_of",
    "min_of",
    "range",
    "sort_by_label",
    "sort_by_label_desc",
    "start",
    "start_timestamp",
    "step",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

pub const AGGREGATIONS: [&str; 2] = ["limitk", "limit_ratio"];
