//! Prometheus' HTTP API, both ways: requests read into types, answers written as JSON.
//!
//! What the answers hold is gathered by `daemon`, which alone sees all stages.

pub mod json;
pub mod params;
pub mod routes;

pub use {
    json::Json,
    params::Params,
    routes::{Route, RouteError, route},
};

use alloc::string::String;

/// Prometheus' error types, with the status each is answered with (web/api/v1, "Format overview" of the API's page).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    BadData,
    Execution,
    Timeout,
    Canceled,
    NotFound,
    Unavailable,
    Internal,
}

impl ErrorType {
    pub fn text(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    pub fn status(self) -> u16 {
        match self {
            Self::BadData => 400,
            Self::Execution => 422,
            Self::Timeout | Self::Canceled | Self::Unavailable => 503,
            Self::NotFound => 404,
            Self::Internal => 500,
        }
    }
}

/// A request that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub kind: ErrorType,
    pub message: String,
}

impl ApiError {
    pub fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub fn bad_data(message: impl Into<String>) -> Self {
        Self::new(ErrorType::BadData, message)
    }

    /// The error as the API's envelope.
    pub fn body(&self) -> Json {
        let mut json = Json::default();
        json.object(|json| {
            json.key("status").text("error");
            json.key("errorType").text(self.kind.text());
            json.key("error").text(&self.message);
        });
        json
    }
}
