#!/usr/bin/env bash
# Opens the page of `ringsock serve` in a browser, twice, and has the two talk to each other over STOMP.
set -euo pipefail

# Every step that could hang has a limit. The test has one of its own, a bit shorter, with better messages.
readonly BUILD_SECONDS=1800 FETCH_SECONDS=300 TEST_SECONDS=70

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root work=$root/target/page-test source=$root/scripts/page-test
chromium='' binary=''

usage() {
    cat <<'HELP'
Usage: scripts/page-test.sh

Starts the release binary and has pages in a headless Chromium chat over it, publish prices, go offline, and
outlive a restart of the server. Prints a line for each check, and fails if one does. Takes less than a minute,
after the build, and stays on the loopback interface. Needs Node.js with npm, and Chromium.

  --help        print this text

Environment:
  RINGSOCK_BIN  the server to start instead of a fresh release build
  CHROMIUM      the browser, if it is not in the path as chromium

The server's log, and pictures of the pages if a check failed, are in target/page-test.
HELP
}

die() {
    echo "page-test.sh: $*" >&2
    exit 1
}

main() {
    if (($#)); then
        [[ $1 == --help || $1 == -h ]] || die "unknown option '$1'; see --help"
        usage
        exit 0
    fi
    find_tools
    mkdir -p "$work"
    rm -f "$work"/*.png
    install_driver
    find_binary
    # In the foreground, so that Ctrl-C still reaches the test, which ends what it has started.
    timeout --foreground --kill-after=10 "$TEST_SECONDS" \
        node "$source/page-test.mjs" "$binary" "$chromium" "$work"
}

find_tools() {
    command -v node >/dev/null || die 'this needs Node.js; install the package nodejs'
    command -v npm >/dev/null || die 'this needs npm; install the package npm'
    chromium=$(command -v "${CHROMIUM:-chromium}") ||
        die "there is no browser '${CHROMIUM:-chromium}'; install the package chromium"
}

# What drives the browser. The lock file says which version, and what its archive hashes to.
install_driver() {
    cmp -s "$source/package-lock.json" "$work/package-lock.json" && [[ -d $work/node_modules ]] && return
    echo 'fetching playwright-core from npm (once)'
    rm -rf "$work/node_modules"
    cp "$source/package.json" "$work/"
    (cd "$work" && cp "$source/package-lock.json" . &&
        timeout --foreground --kill-after=10 "$FETCH_SECONDS" npm ci --ignore-scripts --no-audit --no-fund) \
        >"$work/npm.log" 2>&1 || {
        rm -f "$work/package-lock.json" # or the next run would take it for done
        tail -n 10 "$work/npm.log" >&2
        die "npm could not fetch it; all of its output: $work/npm.log"
    }
}

find_binary() {
    if [[ -n ${RINGSOCK_BIN:-} ]]; then
        binary=$(realpath --no-symlinks -- "$RINGSOCK_BIN")
    else
        echo 'building the release binary'
        (cd "$root" && timeout --foreground --kill-after=10 "$BUILD_SECONDS" cargo build --release --locked) ||
            die "the release build failed or took longer than $BUILD_SECONDS s"
        binary=$(cd "$root" && realpath "${CARGO_TARGET_DIR:-target}/release/ringsock")
    fi
    [[ -x $binary ]] || die "there is no executable at '$binary'"
}

main "$@"
