//! Whether a request is one of remote write 1.0: content type and encoding, in Prometheus' words.

use alloc::string::String;

/// Why a body is not looked at: 415.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadRefused {
    #[error("expected application/x-protobuf as the first (media) part, got {content_type} content-type")]
    Type { content_type: String },
    #[error("got {content_type} content type; unknown remote write protobuf message {message}, supported: {MESSAGE}")]
    UnknownMessage { content_type: String, message: String },
    #[error("{MESSAGE_2} protobuf message is not accepted by this server; only {MESSAGE} is: send remote write 1.0")]
    Version2,
    #[error(
        "{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable, and of it the block \
         format"
    )]
    Encoding { encoding: String },
}

const TYPE: &str = "application/x-protobuf";
const MESSAGE: &str = "prometheus.WriteRequest";
const MESSAGE_2: &str = "io.prometheus.write.v2.Request";

/// A head without a type or an encoding is taken as one of ours, as Prometheus does.
pub fn check_head(content_type: &str, content_encoding: &str) -> Result<(), HeadRefused> {
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    if !media.is_empty() && media != TYPE {
        return Err(HeadRefused::Type { content_type: content_type.into() });
    }
    for message in parts.filter_map(|part| part.strip_prefix("proto=")) {
        match message {
            MESSAGE => {}
            MESSAGE_2 => return Err(HeadRefused::Version2),
            _ => {
                return Err(HeadRefused::UnknownMessage { content_type: content_type.into(), message: message.into() });
            }
        }
    }
    if !content_encoding.is_empty() && !content_encoding.eq_ignore_ascii_case("snappy") {
        return Err(HeadRefused::Encoding { encoding: content_encoding.into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same heads were put to Prometheus 3.5.3, which takes remote write 2.0 beside them.
    #[test]
    fn heads_are_taken_and_refused_as_by_prometheus() {
        for (content_type, encoding) in [
            ("application/x-protobuf", "snappy"),
            ("application/x-protobuf;proto=prometheus.WriteRequest", "snappy"),
            ("application/x-protobuf; proto=prometheus.WriteRequest", "Snappy"),
            ("application/x-protobuf;foo=bar", ""),
            ("", ""),
        ] {
            assert_eq!(check_head(content_type, encoding), Ok(()), "{content_type} {encoding}");
        }
        for (content_type, encoding) in [
            ("application/json", "snappy"),
            ("application/X-Protobuf", "snappy"),
            ("application/x-protobuf;proto=x", "snappy"),
            ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy"),
            ("application/x-protobuf", "gzip"),
            ("application/x-protobuf", "x-snappy-framed"),
        ] {
            assert!(check_head(content_type, encoding).is_err(), "{content_type} {encoding}");
        }
    }
}
