//! The part of Go's text/template that alert labels and annotations use.
