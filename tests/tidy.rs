//! Rules about the source text that neither rustc nor clippy can check.
//!
//! Every rule reads one file and returns what is wrong with it, so each is tested on small bad
//! examples beside its definition. `the_tree_is_tidy` applies all of them to the project.

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/sans_io.rs"]
mod sans_io;
#[path = "tidy/scan.rs"]
mod scan;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/tree.rs"]
mod tree;

use std::fs;
use std::path::Path;

use source::{Rule, Source};

/// The rows of the design, from high to low: a module imports only from rows below its own.
pub(crate) const LAYERS: &[(u8, &[&str])] = &[
    (9, &["main"]),
    (8, &["cli"]),
    (7, &["server"]),
    (6, &["config"]),
    (5, &["control", "load"]),
    (4, &["worker"]),
    (3, &["handler"]),
    (2, &["broker"]),
    (1, &["proto", "proto::http", "proto::ws", "proto::stomp", "tls", "ring", "sys"]),
    (0, &["buf", "simd", "slab", "timer"]),
];

/// Imports within one row that are wanted nevertheless: importer, imported, reason.
pub(crate) const ALLOWED: &[(&str, &str, &str)] = &[
    ("ring", "sys", "setting up a ring needs kernel facts (limits, page size) that `sys` asks for once"),
    (
        "proto::ws",
        "proto::http",
        "an extension is agreed on in the handshake: its words are read there, and mean something here",
    ),
];

/// All rules, in the order of the chapters in which they are defined.
const RULES: &[Rule] = &[
    layers::imports_point_down,
    layers::one_module_per_use,
    sans_io::no_io_names,
    code::unsafe_in_its_place,
    code::no_unwrap,
    code::no_ignored_test,
    code::no_assertion_on_elapsed_time,
    text::file_length,
    text::module_doc,
    text::telling_file_name,
    text::no_leftovers,
];

/// Fewer source files than this mean that the walk went wrong, not that the project shrank.
const SOURCE_FILES_MIN: usize = 20;
/// The same for the files that the sans-IO rule looks at.
const SANS_IO_FILES_MIN: usize = 5;

#[test]
fn the_tree_is_tidy() {
    let files = tree::read(Path::new(env!("CARGO_MANIFEST_DIR")));
    let count = |wanted: fn(&str) -> bool| files.iter().filter(|file| wanted(&file.0)).count();
    let source_files = count(|path| path.starts_with("src/"));
    let sans_io_files = count(sans_io::applies_to);
    assert!(source_files > SOURCE_FILES_MIN, "read only {source_files} files under src");
    assert!(sans_io_files > SANS_IO_FILES_MIN, "read only {sans_io_files} sans-IO files");
    assert_eq!(count(|path| path == "tests/tidy.rs"), 1);

    let violations = violations(&files);
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

/// One line for each violation in `files`, sorted by path and line.
fn violations(files: &[(String, String)]) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, text) in files {
        let source = Source::new(path, text);
        violations.extend(RULES.iter().flat_map(|rule| rule(&source)));
    }
    violations.sort();
    violations.dedup();
    violations.iter().map(ToString::to_string).collect()
}

#[test]
fn every_rule_reports_a_bad_tree_read_from_disk() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad-tree");
    let _ = fs::remove_dir_all(&root);
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("src/buf/pool.rs", "//! Fine.\nuse std::fmt;\n");
    write("src/timer.rs", "use crate::worker::Turn;\n");
    write("src/proto/ws/util.rs", "//! Doc.\nuse crate::{buf, timer};\nuse std::net::TcpStream;\n");
    write("src/server.rs", "//! Doc.\nfn f() {\n    unsafe { g() }.unwrap()\n}\n");
    write("tests/slow.rs", "#[ignore]\nfn f() {\n    assert!(t.elapsed() < x);\n}\n");
    write("perf/long.rs", &"\n".repeat(601));
    write("README.md", concat!("Fine.\nTO", "DO\n"));
    write("target/out.rs", "use crate::nowhere;\n");
    fs::write(root.join("tests/blob"), [0xff, 0xfe, 0x00]).unwrap();

    let lines = violations(&tree::read(&root));
    let places: Vec<&str> = lines.iter().map(|line| line.split(": ").next().unwrap()).collect();
    let expect = [
        "README.md:2",
        "perf/long.rs:601",
        "src/proto/ws/util.rs:1",
        "src/proto/ws/util.rs:2",
        "src/proto/ws/util.rs:3",
        "src/server.rs:3",
        "src/server.rs:3",
        "src/timer.rs:1",
        "src/timer.rs:1",
        "tests/slow.rs:1",
        "tests/slow.rs:3",
    ];
    assert_eq!(places, expect, "{}", lines.join("\n"));
}

#[test]
fn every_module_has_one_row() {
    let mut names: Vec<&str> = LAYERS.iter().flat_map(|row| row.1).copied().collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(LAYERS.is_sorted_by(|above, below| above.0 > below.0), "high to low");
}

#[test]
fn exceptions_stay_within_a_row_and_have_a_reason() {
    for (from, to, reason) in ALLOWED {
        assert!(layers::row(from).is_some(), "{from} is in the table");
        assert_eq!(layers::row(from), layers::row(to), "{from} and {to}");
        assert!(!reason.is_empty(), "{from} and {to}");
        let reverse = ALLOWED.iter().any(|other| (other.0, other.1) == (to, from));
        assert!(!reverse, "{from} and {to} import each other");
    }
}
