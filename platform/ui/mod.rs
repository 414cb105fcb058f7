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

#[cfg(test)]
mod tests {
    use super::{PAGE_FILES, PageFile, page};

    const PAGE_GZIP_BYTES_MAX: usize = 40 * 1024;

    fn text(file: PageFile) -> String {
        // RFC 1952: ten bytes of header without options, deflate, CRC-32, length.
        let (header, rest) = file.gzip.split_at(10);
        assert_eq!(header[..4], [0x1f, 0x8b, 8, 0]);
        let (deflate, trailer) = rest.split_at(rest.len() - 8);
        let content = miniz_oxide::inflate::decompress_to_vec(deflate).unwrap();
        assert_eq!(trailer[4..], u32::try_from(content.len()).unwrap().to_le_bytes());
        String::from_utf8(content).unwrap()
    }

    fn index() -> String {
        text(page("/").unwrap())
    }

    /// What stands between each `before` and the next `after`.
    fn between<'t>(text: &'t str, before: &str, after: char) -> Vec<&'t str> {
        text.split(before).skip(1).filter_map(|rest| rest.split_once(after)).map(|(found, _)| found).collect()
    }

    #[test]
    fn overview_and_graph_are_one_page_that_must_be_revalidated() {
        let file = page("/").unwrap();
        assert_eq!(page("/graph"), Some(file));
        assert_eq!(file.content_type, "text/html; charset=utf-8");
        assert!(!file.immutable);
        assert!(index().starts_with("<!doctype html>"));
    }

    #[test]
    fn what_is_no_file_of_the_page_is_not_found() {
        for path in ["", "graph", "/graph/", "/assets/", "/assets/HASH/app.js", "/app.js", "/../Cargo.toml", "/metrics"]
        {
            assert_eq!(page(path), None, "{path}");
        }
    }

    #[test]
    fn every_file_that_the_index_names_exists_and_may_be_kept_for_ever() {
        let index = index();
        let mut named: Vec<&str> = between(&index, "=\"assets/", '"');
        named.sort_unstable();
        named.dedup();
        assert_eq!(named.len() + 1, PAGE_FILES.len(), "each file but the index is named there: {named:?}");
        for name in named {
            let file = page(&format!("/assets/{name}")).unwrap_or_else(|| panic!("{name}"));
            assert!(file.immutable);
        }
    }

    #[test]
    fn every_import_of_a_module_exists() {
        let mut import_count = 0;
        for (path, file) in PAGE_FILES.iter().filter(|(path, _)| path.ends_with(".js")) {
            assert_eq!(file.content_type, "text/javascript; charset=utf-8");
            let folder = path.rsplit_once('/').unwrap().0;
            for name in between(&text(*file), "from \"./", '"') {
                assert!(page(&format!("{folder}/{name}")).is_some(), "{path} imports {name}");
                import_count += 1;
            }
        }
        assert!(import_count > 10, "{import_count}");
    }

    #[test]
    fn no_address_is_absolute_so_that_any_route_prefix_works_and_nothing_comes_from_elsewhere() {
        let index = index();
        for attribute in ["href=\"", "src=\"", "action=\""] {
            for address in between(&index, attribute, '"') {
                assert!(!address.starts_with('/') && !address.contains("//"), "{address}");
            }
        }
        for (path, file) in PAGE_FILES.iter().filter(|(path, _)| path.ends_with(".js")) {
            let text = text(*file);
            for start in ["fetch(\"/", "fetch(`/", "from \"/", "http://", "https://", "innerHTML"] {
                assert!(!text.contains(start), "{path} has {start}");
            }
        }
    }

    #[test]
    fn etags_are_quoted_and_tell_the_files_apart() {
        let mut etags: Vec<&str> = PAGE_FILES.iter().map(|(_, file)| file.etag).collect();
        assert!(etags.iter().all(|etag| etag.len() == 18 && etag.starts_with('"') && etag.ends_with('"')), "{etags:?}");
        etags.sort_unstable();
        etags.dedup();
        assert_eq!(etags.len(), PAGE_FILES.len());
    }

    #[test]
    fn the_whole_page_stays_small() {
        let bytes: usize = PAGE_FILES.iter().map(|(_, file)| file.gzip.len()).sum();
        assert!(bytes <= PAGE_GZIP_BYTES_MAX, "{bytes} bytes");
    }
}
