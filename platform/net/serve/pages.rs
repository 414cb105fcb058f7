//! Files of the built-in page: stored compressed, sent compressed to those who can read it.

use super::{answer::RequestHeaders, static_bytes};
use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{self, HeaderValue},
};

/// Bounds what a file may inflate to.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A file as it lies in the binary.
#[derive(Clone, Copy, Debug)]
pub struct PageFile {
    pub gzip: &'static [u8],
    pub content_type: &'static str,
    /// With its quotes.
    pub etag: &'static str,
    /// Its name changes with its contents, so it may be kept for ever.
    pub immutable: bool,
}

/// The table of files, by path.
pub type Pages = fn(path: &str) -> Option<PageFile>;

/// Status, headers and body of a page's answer.
pub fn answer(file: Option<PageFile>, request: &RequestHeaders) -> (StatusCode, HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    let Some(file) = file else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        return (StatusCode::NOT_FOUND, headers, static_bytes(b"404 page not found\n"));
    };
    headers.insert(header::ETAG, HeaderValue::from_static(file.etag));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let caching = if file.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    if request.if_none_match.as_ref().is_some_and(|known| matches_etag(known, file.etag)) {
        return (StatusCode::NOT_MODIFIED, headers, Bytes::new());
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if request.accept_encoding.as_ref().is_some_and(accepts_gzip) {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return (StatusCode::OK, headers, static_bytes(file.gzip));
    }
    match gunzip(file.gzip) {
        Some(plain) => (StatusCode::OK, headers, Bytes::from(plain)),
        None => {
            log::error!("a file of the built-in page cannot be inflated");
            (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new(), Bytes::new())
        }
    }
}

/// RFC 9110, 13.1.2: a list, or a star; compared weakly.
fn matches_etag(known: &HeaderValue, etag: &str) -> bool {
    let Ok(known) = known.to_str() else { return false };
    known.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

/// RFC 9110, 12.5.3: named (or a star) with a weight that is not zero.
fn accepts_gzip(accepted: &HeaderValue) -> bool {
    let Ok(accepted) = accepted.to_str() else { return false };
    let weight = |wanted: &str| {
        accepted.split(',').find_map(|one| {
            let (coding, parameters) = one.split_once(';').unwrap_or((one, ""));
            let is_named = coding.trim().eq_ignore_ascii_case(wanted);
            let weight = parameters.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.trim().parse::<f32>().ok());
            weight.filter(|_| is_named)
        })
    };
    weight("gzip").or_else(|| weight("*")).is_some_and(|weight| weight > 0.0)
}

/// RFC 1952: header, deflated bytes, checksum and length. Our own files, so the checksum is not computed again.
fn gunzip(gzip: &[u8]) -> Option<Vec<u8>> {
    const HEADER_BYTES: usize = 10;
    const TRAILER_BYTES: usize = 8;
    // No extra fields, name or comment: build.rs writes none.
    if !gzip.starts_with(&[0x1f, 0x8b, 8, 0]) || gzip.len() < HEADER_BYTES + TRAILER_BYTES {
        return None;
    }
    let deflated = &gzip[HEADER_BYTES..gzip.len() - TRAILER_BYTES];
    miniz_oxide::inflate::decompress_to_vec_with_limit(deflated, FILE_BYTES_MAX).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_goes_to_those_who_accept_it() {
        for (accepted, expected) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("gzip; q=0.0", false),
            ("br", false),
            ("gzipped", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(&HeaderValue::from_static(accepted)), expected, "{accepted:?}");
        }
    }

    #[test]
    fn entity_tags_are_compared_weakly_within_lists() {
        for (known, expected) in
            [("\"a\"", true), ("\"x\", W/\"a\"", true), ("*", true), ("\"ab\"", false), ("a", false), ("", false)]
        {
            assert_eq!(matches_etag(&HeaderValue::from_static(known), "\"a\""), expected, "{known:?}");
        }
    }

    #[test]
    fn what_is_no_gzip_does_not_inflate() {
        for bytes in [&b""[..], b"\x1f\x8b\x08\x00", b"\x1f\x8b\x08\x08aaaaaaaaaaaaaaaaaaaa", &[0xff; 40]] {
            assert!(gunzip(bytes).is_none());
        }
    }
}
