//! Whether an answer is an exposition at all: status and content type, in Prometheus' words.

use alloc::string::String;
use core::fmt;

/// Why an answer is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentError {
    Status {
        status: u16,
    },
    TypeBlank,
    TypeBroken {
        content_type: String,
    },
    TypeUnsupported {
        content_type: String,
    },
    /// A format Prometheus knows, sent though only `text/plain` was asked for.
    TypeNotAskedFor {
        content_type: String,
    },
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status } => {
                write!(f, "server returned HTTP status {status}")?;
                match reason_phrase(*status) {
                    "" => Ok(()),
                    phrase => write!(f, " {phrase}"),
                }
            }
            Self::TypeBlank => f.write_str(
                "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
            ),
            Self::TypeBroken { content_type } => {
                write!(f, "cannot parse Content-Type {content_type:?} and no fallback_scrape_protocol for target")
            }
            Self::TypeUnsupported { content_type } => write!(
                f,
                "received unsupported Content-Type {content_type:?} and no fallback_scrape_protocol specified for target"
            ),
            Self::TypeNotAskedFor { content_type } => write!(
                f,
                "received Content-Type {content_type:?} where only text/plain was asked for; make the target honour the Accept header"
            ),
        }
    }
}

/// Checks the head of an answer.
pub(super) fn check_head(status: u16, content_type: &str) -> Result<(), ContentError> {
    if status != 200 {
        return Err(ContentError::Status { status });
    }
    if content_type.is_empty() {
        return Err(ContentError::TypeBlank);
    }
    let content_type_owned = || content_type.chars().take(200).collect();
    let media_type = content_type.split(';').next().unwrap_or("").trim();
    if !is_media_type(media_type) {
        return Err(ContentError::TypeBroken { content_type: content_type_owned() });
    }
    let is = |name: &str| media_type.eq_ignore_ascii_case(name);
    if is("text/plain") {
        Ok(())
    } else if is("application/openmetrics-text") || is("application/vnd.google.protobuf") {
        Err(ContentError::TypeNotAskedFor { content_type: content_type_owned() })
    } else {
        Err(ContentError::TypeUnsupported { content_type: content_type_owned() })
    }
}

/// A token, optionally a slash and a second token (RFC 9110 §8.3.1, as Go's `mime.ParseMediaType` takes it).
fn is_media_type(text: &str) -> bool {
    let is_token = |token: &str| {
        !token.is_empty()
            && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    match text.split_once('/') {
        Some((kind, sub)) => is_token(kind) && is_token(sub),
        None => is_token(text),
    }
}

/// RFC 9110 §15, as far as scrape targets and proxies before them answer.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        422 => "Unprocessable Entity",
        425 => "Too Early",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn plain_text_is_read_whatever_its_parameters() {
        for content_type in ["text/plain", "Text/Plain; version=0.0.4; charset=utf-8", " text/plain ;escaping=values"] {
            assert_eq!(check_head(200, content_type), Ok(()), "{content_type}");
        }
    }

    #[test]
    fn other_answers_are_refused_in_prometheus_words() {
        for (status, content_type, words) in [
            (500, "text/plain", "server returned HTTP status 500 Internal Server Error"),
            (299, "text/plain", "server returned HTTP status 299"),
            (
                200,
                "",
                "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
            ),
            (
                200,
                "text/html",
                "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target",
            ),
            (200, "text/", "cannot parse Content-Type \"text/\" and no fallback_scrape_protocol for target"),
            (
                200,
                "application/openmetrics-text; version=1.0.0",
                "received Content-Type \"application/openmetrics-text; version=1.0.0\" where only text/plain was asked for; make the target honour the Accept header",
            ),
        ] {
            assert_eq!(check_head(status, content_type).unwrap_err().to_string(), words);
        }
    }
}
