//! The project's text files.

use std::fs;
use std::path::Path;

/// Reads all text files of the project at `root`, as path (relative, with `/`) and content.
///
/// Files that are not UTF-8 are no text and left out, as are hidden and generated folders.
pub(crate) fn read(root: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        read_folder(root, folder, &mut files);
    }
    for file in FILES {
        read_file(root, file, &mut files);
    }
    files
}

fn read_folder(root: &Path, folder: &str, files: &mut Vec<(String, String)>) {
    // A folder that the project does not have yet.
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return;
    };
    for entry in entries {
        let entry = entry.expect("an open folder can be listed");
        let name = entry.file_name();
        let name = name.to_str().expect("file names of the project are UTF-8");
        if name.starts_with('.') || GENERATED.contains(&name) {
            continue;
        }
        let path = format!("{folder}/{name}");
        if entry.path().is_dir() {
            read_folder(root, &path, files);
        } else {
            read_file(root, &path, files);
        }
    }
}

fn read_file(root: &Path, path: &str, files: &mut Vec<(String, String)>) {
    if let Ok(text) = fs::read_to_string(root.join(path)) {
        files.push((path.to_owned(), text));
    }
}

const FOLDERS: &[&str] = &["src", "tests", "scripts", "perf", "benches"];
const FILES: &[&str] = &["README.md", "CHANGELOG.md"];
const GENERATED: &[&str] = &["target", "__pycache__", "node_modules"];
