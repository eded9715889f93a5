#!/usr/bin/env bash
# Every check that a change must pass, in one command.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

current=start
trap '(($? == 0)) || echo "check.sh: failed: $current" >&2' EXIT

main() {
    # First, because with too old a toolchain everything below fails with a less helpful message.
    step 'minimum supported Rust version' check_msrv
    step 'formatting' cargo fmt --check
    step 'lints' cargo clippy --all-targets --locked -- -D warnings
    step 'documentation' document
    step 'documentation with private items' document --document-private-items
    step 'tests' cargo test --locked
    step 'tests of the programs in perf' python3 -B -m unittest discover perf
    echo
    echo 'all checks passed'
}

step() {
    current=$1
    printf '\n=== %s\n' "$current"
    "${@:2}"
}

document() {
    RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --locked "$@"
}

# Only one toolchain is at hand. When it is the promised one, every build below is the check. When it
# is newer, the best that is left is clippy's incompatible_msrv, which knows the standard library.
check_msrv() {
    command -v python3 >/dev/null || {
        echo 'this check reads JSON with python3; install the package python3' >&2
        return 1
    }
    local metadata
    metadata=$(cargo metadata --locked --format-version 1)
    python3 -c '
import json, subprocess, sys

def version(text):
    parts = [int(part) for part in text.split("-")[0].split(".")]
    return tuple(parts + [0] * (3 - len(parts)))

metadata = json.load(sys.stdin)
ours = next(p for p in metadata["packages"] if p["id"] == metadata["resolve"]["root"])
if not ours["rust_version"]:
    sys.exit("Cargo.toml promises no rust-version")
promised = version(ours["rust_version"])
running_text = subprocess.check_output(["rustc", "--version"]).decode().split()[1]
running = version(running_text)

if running < promised:
    sys.exit("rustc %s is older than the rust-version %s of Cargo.toml; run: rustup update stable"
             % (running_text, ours["rust_version"]))
if running[:2] == promised[:2]:
    print("rustc %s is the promised %s: the build is the check" % (running_text, ours["rust_version"]))
else:
    print("rustc %s is newer than the promised %s: of our code only the lint incompatible_msrv is checked"
          % (running_text, ours["rust_version"]))

others = [p for p in metadata["packages"] if p["id"] != ours["id"]]
too_new = sorted("%s %s needs Rust %s" % (p["name"], p["version"], p["rust_version"])
                 for p in others if p["rust_version"] and version(p["rust_version"]) > promised)
if too_new:
    sys.exit("dependencies that need more than our Rust %s: raise rust-version or hold them back\n  %s"
             % (ours["rust_version"], "\n  ".join(too_new)))
print("none of the %d dependencies needs more (%d of them say)"
      % (len(others), sum(1 for p in others if p["rust_version"])))
' <<<"$metadata"
}

main
