//! Evaluates a recording rule.
