//! The absolute `http://` URLs that scrapes and messages go to.

/// A URL taken apart as a request needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// A name or an address, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    /// Host and port as written: the `Host` header.
    pub authority: String,
    /// Begins with a slash.
    pub path_and_query: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("unsupported protocol scheme in {url:?}: this build speaks http only")]
    Scheme { url: String },
    #[error("{url:?} has credentials in it, which would end up in logs; remove them")]
    Credentials { url: String },
    #[error("{url:?} has no valid host and port: write http://host:port/path, and [address] for IPv6")]
    Authority { url: String },
    #[error("{url:?} has a character that must be percent-encoded")]
    Character { url: String },
}

impl HttpUrl {
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let named = || url.to_owned();
        let scheme_end = url.find("://").ok_or_else(|| UrlError::Scheme { url: named() })?;
        if !url[..scheme_end].eq_ignore_ascii_case("http") {
            return Err(UrlError::Scheme { url: named() });
        }
        let rest = &url[scheme_end + 3..];
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Character { url: named() });
        }
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::Credentials { url: named() });
        }
        let (host, port) = split_authority(authority, 80).ok_or_else(|| UrlError::Authority { url: named() })?;
        let tail = tail.split('#').next().unwrap_or_default();
        let path_and_query = if tail.starts_with('/') { tail.to_owned() } else { format!("/{tail}") };
        Ok(Self { host: host.to_owned(), port, authority: authority.to_owned(), path_and_query })
    }

    /// Where a `Location` header leads from here: absolute, or a path, or a name beside the present one.
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        if location.contains("://") {
            return Self::parse(location);
        }
        if let Some(authority_and_path) = location.strip_prefix("//") {
            return Self::parse(&format!("http://{authority_and_path}"));
        }
        let path = self.path_and_query.split('?').next().unwrap_or("/");
        let directory = &path[..=path.rfind('/').unwrap_or(0)];
        let target = match location.as_bytes().first() {
            Some(b'/') => location.to_owned(),
            Some(b'?') => format!("{path}{location}"),
            _ => format!("{directory}{location}"),
        };
        Self::parse(&format!("http://{}{target}", self.authority))
    }
}

impl std::fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path_and_query)
    }
}

/// `host`, `host:port`, `[address]` or `[address]:port`. The host is never empty.
pub fn split_authority(authority: &str, port_default: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (address, behind) = bracketed.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None | Some("") => port_default,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
        Some(_) => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, host: &str, port: u16, path_and_query: &str) {
        let parsed = HttpUrl::parse(url).expect(url);
        assert_eq!((parsed.host.as_str(), parsed.port, parsed.path_and_query.as_str()), (host, port, path_and_query));
    }

    #[test]
    fn urls_come_apart() {
        check("http://localhost:9100/metrics", "localhost", 9100, "/metrics");
        check("HTTP://10.0.0.1", "10.0.0.1", 80, "/");
        check("http://h?x=/y", "h", 80, "/?x=/y");
        check("http://[::1]:9100/a?b=c#d", "::1", 9100, "/a?b=c");
        check("http://[fe80::1]/", "fe80::1", 80, "/");
        check("http://h:/", "h", 80, "/");
    }

    #[test]
    fn what_cannot_be_asked_is_refused_by_kind() {
        assert!(matches!(HttpUrl::parse("https://h/"), Err(UrlError::Scheme { .. })));
        assert!(matches!(HttpUrl::parse("h:9100/metrics"), Err(UrlError::Scheme { .. })));
        assert!(matches!(HttpUrl::parse("http://me:secret@h/"), Err(UrlError::Credentials { .. })));
        for url in [
            "http:///x",
            "http://:80/",
            "http://h:65536/",
            "http://h:+1/",
            "http://::1/",
            "http://[::1/",
            "http://[h]/",
        ] {
            assert!(matches!(HttpUrl::parse(url), Err(UrlError::Authority { .. })), "{url}");
        }
        for url in ["http://h/a b", "http://h/\r\nHost: x", "http://h/é"] {
            assert!(matches!(HttpUrl::parse(url), Err(UrlError::Character { .. })), "{url:?}");
        }
    }

    #[test]
    fn a_location_is_followed_from_where_we_are() {
        let here = HttpUrl::parse("http://h:9100/a/b?c").expect("valid");
        for (location, there) in [
            ("/x", "http://h:9100/x"),
            ("x?y", "http://h:9100/a/x?y"),
            ("?z", "http://h:9100/a/b?z"),
            ("//other/x", "http://other/x"),
            ("http://other:1/x", "http://other:1/x"),
        ] {
            assert_eq!(here.join(location).expect(location).to_string(), there);
        }
        assert!(here.join("https://h/").is_err());
    }
}
