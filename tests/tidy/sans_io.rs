//! Protocol code does no I/O: it names no socket, thread, file or clock.

use crate::paths;
use crate::source::{Source, Violation};

/// Whether the file at `path` must do without I/O.
pub(crate) fn applies_to(path: &str) -> bool {
    let inside = |folder: &&str| {
        let rest = path.strip_prefix(*folder);
        rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    };
    FOLDERS.iter().any(inside)
}

/// Production code under `proto`, `broker` and `handler` owns nothing of the outside world.
pub(crate) fn no_io_names(source: &Source<'_>) -> Vec<Violation> {
    if !applies_to(source.path) {
        return Vec::new();
    }
    let paths = paths::paths(source);
    let production = paths.iter().filter(|path| !source.is_test(path.line));
    let violations = production.filter_map(|path| {
        let instead = instead_of(&path.segments)?;
        let name = path.segments.join("::");
        Some(source.violation(path.line, format!("`{name}` is I/O: {instead}")))
    });
    violations.collect()
}

/// What to write instead of a path that does I/O.
fn instead_of(path: &[&str]) -> Option<&'static str> {
    let matches =
        |name: &&[&str]| path.windows(name.len()).any(|part| part.iter().zip(*name).all(|(a, b)| a == b || *b == ANY));
    let found = OUTSIDE.iter().find(|(names, _)| names.iter().any(matches));
    found.map(|(_, instead)| *instead)
}

const FOLDERS: &[&str] = &["src/proto", "src/broker", "src/handler"];

const ANY: &str = "_";

/// Names, each a run of path segments that may appear anywhere in a path, and the way without.
const OUTSIDE: &[(&[&[&str]], &str)] = &[
    (
        &[&["Instant"], &["SystemTime"], &["UNIX_EPOCH"], &["std", "time", "*"], &["sleep"]],
        "take the time as an argument",
    ),
    (
        &[
            &["std", "net"],
            &["std", "os"],
            &["TcpStream"],
            &["TcpListener"],
            &["UdpSocket"],
            &["UnixStream"],
            &["UnixListener"],
            &["UnixDatagram"],
            &["crate", "ring"],
            &["crate", "sys"],
            &["io_uring"],
            &["libc"],
            &["mio"],
            &["rustix"],
            &["socket2"],
            &["tokio"],
            &["tokio_uring"],
        ],
        "take bytes and return effects (addresses are in `core::net`)",
    ),
    (
        &[&["std", "thread"], &["thread", ANY], &["thread_local"], &["JoinHandle"], &["std", "process"]],
        "leave threads and processes to the worker and the server",
    ),
    (
        &[
            &["std", "fs"],
            &["std", "env"],
            &["std", "*"],
            &["File"],
            &["OpenOptions"],
            &["io", "*"],
            &["io", "prelude"],
            &["io", "BufRead"],
            &["io", "Read"],
            &["io", "Seek"],
            &["io", "Write"],
            &["io", "copy"],
            &["stdin"],
            &["stdout"],
            &["stderr"],
            &["println"],
            &["eprintln"],
        ],
        "work on slices and buffers that the caller owns",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, expect: &[usize]) {
        crate::source::check(no_io_names, path, text, expect);
    }

    #[test]
    fn sockets_threads_files_and_clocks_are_caught() {
        for text in [
            "use std::net::SocketAddr;",
            "use std::{fmt, net};",
            "use std::time::{Duration, Instant};",
            "use std::time::{self, *};",
            "let now = time::Instant::now();",
            "fn f(now: SystemTime) {}",
            "use std::thread;",
            "s::thread::spawn(f);",
            "std::fs::read(path);",
            "use std::io::{self, Read};",
            "fn f(w: &mut impl io::Write) {}",
            "use std::io::prelude::*;",
            "let f: File = x;",
            "sleep(a);",
            "tokio::spawn(a);",
            "use tokio_uring as a;",
            "use io_uring::opcode;",
            "unsafe { libc::read(0) }",
            "use socket2::Socket;",
            "println!();",
            "use crate::ring::Op;",
            "use crate::sys;",
        ] {
            check("src/proto/ws/session.rs", &format!("\n{text}"), &[2]);
        }
    }

    #[test]
    fn values_and_traits_without_io_pass() {
        for text in [
            "use std::time::Duration;",
            "use std::fmt::Write;",
            "use core::net::IpAddr;",
            "use std::io;\nfn f() -> io::Result<()> {}",
            "let file = thread;",
            "let instant = Profile { net: 1, fs: 2 };",
            "use crate::tls::Session;\nuse crate::buf::Pool;",
            "// std::net\nconst A: &str = \"std::net\";",
        ] {
            check("src/handler/echo.rs", text, &[]);
        }
    }

    #[test]
    fn tests_may_do_io() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::time::Instant;\n}\n";
        check("src/broker/mod.rs", text, &[]);
        check("src/proto/ws/tests.rs", text, &[]);
        check("src/broker/mod.rs", &format!("{text}use std::fs;"), &[6]);
        check("src/broker/mod.rs", "#[cfg(test)]\nmod tests;\nuse std::fs;", &[3]);
    }

    #[test]
    fn the_rule_is_for_three_modules() {
        let text = "use std::net::TcpStream;";
        check("src/proto/http/upgrade.rs", "use std::net;", &[1]);
        check("src/broker.rs", "use std::net;", &[1]);
        check("src/handler/mod.rs", "use std::net;", &[1]);
        check("src/worker/mod.rs", text, &[]);
        check("src/handlers.rs", text, &[]);
        check("tests/proto.rs", text, &[]);
    }
}
