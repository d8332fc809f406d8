//! `from`: where lines come from, as it is written. Nothing is looked up or opened here.

use std::fmt;
use std::path::PathBuf;

/// Where lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    Stdin,
    File(PathBuf),
    /// A stream socket in the file system.
    Unix(PathBuf),
    Tcp(Address),
    Udp(Address),
}

/// `ADDR:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// An address or a name, without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

const ACCEPTED: &str =
    "accepted: \"stdin\", \"file:PATH\", \"unix:PATH\", \"tcp:ADDR:PORT\", \"udp:ADDR:PORT\"";
/// What a socket's address has room for, its last NUL left out.
const LONGEST: usize = 107;

/// Parses it.
pub(super) fn parse(text: &str) -> Result<From, String> {
    if text == "stdin" {
        return Ok(From::Stdin);
    }
    let Some((kind, rest)) = text.split_once(':') else {
        return Err(format!("{text:?} is no place that lines come from; {ACCEPTED}"));
    };
    let path = |what: &str| {
        if rest.is_empty() || rest.contains('\0') {
            return Err(format!("{text:?} names no {what}; {ACCEPTED}"));
        }
        Ok(PathBuf::from(rest))
    };
    match kind {
        "file" => path("file").map(From::File),
        "unix" if rest.len() > LONGEST => {
            Err(format!("a socket's path has at most {LONGEST} bytes, this one {}", rest.len()))
        }
        "unix" => path("socket").map(From::Unix),
        "tcp" => address(kind, rest).map(From::Tcp),
        "udp" => address(kind, rest).map(From::Udp),
        _ => Err(format!("{text:?} is no place that lines come from; {ACCEPTED}")),
    }
}

fn address(kind: &str, text: &str) -> Result<Address, String> {
    let wrong = |why: &str| {
        format!(
            "{:?}: {why}; accepted: \"{kind}:127.0.0.1:5140\", \"{kind}:[::1]:5140\", \
             \"{kind}:NAME:5140\"",
            format!("{kind}:{text}")
        )
    };
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(wrong("it has no port"));
    };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if bracketed.is_none() && host.contains(':') {
        return Err(wrong("an IPv6 address stands in brackets, before its port"));
    }
    let host = bracketed.unwrap_or(host);
    if let Some(h) = bracketed
        && h.split('%').next().is_none_or(|h| h.parse::<std::net::Ipv6Addr>().is_err())
    {
        return Err(wrong("in the brackets is no IPv6 address"));
    }
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "[]/\0".contains(c)) {
        return Err(wrong("it has no address (0.0.0.0 and [::] are all of this machine's)"));
    }
    let number = port.parse().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()));
    let port = number.ok_or_else(|| wrong("a port is a number up to 65535"))?;
    Ok(Address { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let at = |host: &str, port| Address { host: host.into(), port };
        for (text, from) in [
            ("stdin", From::Stdin),
            ("file:/a:b", From::File("/a:b".into())),
            ("unix:x.sock", From::Unix("x.sock".into())),
            ("tcp:127.0.0.1:514", From::Tcp(at("127.0.0.1", 514))),
            ("udp:[::1]:514", From::Udp(at("::1", 514))),
            ("udp:[fe80::1%eth0]:514", From::Udp(at("fe80::1%eth0", 514))),
            ("tcp:localhost:0", From::Tcp(at("localhost", 0))),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&from), "{text}");
        }
        for (text, words) in [
            ("", "accepted: \"stdin\""),
            ("http:x", "accepted: \"stdin\""),
            ("file:", "names no file"),
            ("unix:", "names no socket"),
            ("tcp:514", "it has no port"),
            ("tcp::514", "it has no address"),
            ("tcp:a:b", "a port is a number"),
            ("tcp:a:+5", "a port is a number"),
            ("tcp:a:65536", "a port is a number"),
            ("udp:::1:514", "stands in brackets"),
            ("udp:[x]:514", "no IPv6 address"),
        ] {
            assert!(parse(text).is_err_and(|e| e.contains(words)), "{text}: {:?}", parse(text));
        }
        assert!(parse(&format!("unix:{}", "x".repeat(108))).is_err());
    }
}
