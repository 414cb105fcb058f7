//! The built-in page: files that `build.rs` has compressed and numbered by content, embedded in the binary.
//!
//! `index.html` is the only file with a lasting name; it names the others by their content hash, relative to itself, so
//! that they may be cached for ever and the page works under any route prefix.

/// One file of the page, ready to be served with `Content-Encoding: gzip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFile {
    /// The content as a gzip member (RFC 1952).
    pub gzip: &'static [u8],
    pub content_type: &'static str,
    /// With its quotes, as it stands in the header.
    pub etag: &'static str,
    /// The path names the content: serve with `Cache-Control: public, max-age=31536000, immutable`. Otherwise `no-cache`.
    pub immutable: bool,
}

include!(concat!(env!("OUT_DIR"), "/page_files.rs"));

/// The file for a request path (without query, without route prefix, with its leading slash), or None for a 404.
pub fn page(path: &str) -> Option<PageFile> {
    let path = match path {
        "/" | "/graph" => "/index.html",
        other => other,
    };
    PAGE_FILES.iter().find(|(name, _)| *name == path).map(|(_, file)| *file)
}
