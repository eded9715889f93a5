#!/usr/bin/env bash
# Measures ringsock and its peers in turn under the same load, and prints what came of it.
set -euo pipefail

readonly ALL=(ringsock floor fastwebsockets tokio-tungstenite tokio-websockets wtx ws bun picows beast)
# Those that can compress.
readonly DEFLATE=(ringsock ringsock-shared sockudo-ws yawc ws bun)
readonly RUST=(floor fastwebsockets tokio-tungstenite tokio-websockets wtx sockudo-ws yawc)
# Every step that could hang has a limit.
readonly BUILD_SECONDS=1800 INSTALL_SECONDS=600

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root perf=$root/perf peers=$root/target/peers logs=$root/target/perf/logs

mode=full servers='' rounds='' seconds='' cells='' csv='' report='' build_only='' child=''
load=${RINGSOCK_LOAD:-} binary=${RINGSOCK_BIN:-}
deflate='' foreign=() cpus=() commands=() rust_built=''

usage() {
    cat <<'HELP'
Usage: perf/compare.sh [--quick | --smoke | --deflate] [options]
       perf/compare.sh --report FILE

Starts ringsock and each peer in turn on one processor, with the same load from another, in several
rounds with the order turning. Prints medians and ratios with their spread, marks what ringsock
loses, and keeps every row as CSV. Builds or installs the peers into target/peers as needed and
leaves out, with a word, what cannot be had. Without an option it measures everything: over an hour.

  --quick            a few cells and 3 rounds: under 10 minutes
  --deflate          the servers that can compress, with permessage-deflate: without context takeover and
                     with; text that can be compressed, and all of it is, at each server's fastest level
                     where that can be set: under 15 minutes
  --smoke            ringsock and the floor, one cell, one round: does it all still work?
  --servers LIST     of ringsock, floor, fastwebsockets, tokio-tungstenite, tokio-websockets, wtx, ws,
                     bun, picows, beast; with --deflate of ringsock (with windows), ringsock-shared
                     (without), sockudo-ws, yawc, ws, bun; separated by commas
  --peer NAME=URL,PID
                     also measure a server that runs already, on loopback; may be repeated. Pin it to
                     the processor of the servers yourself
  --cells LIST       SIZExCONNECTIONSxDEPTH, such as 16x64x1,1Kix1000x16
  --rounds N         how often each server is measured in each cell; the default is 5
  --seconds N        how long each time; the default is 1
  --csv FILE         where the rows go, added to what is there; the default is
                     target/perf/DATE-TIME.csv
  --server-cpu N     the processor of the servers; the default is the last one
  --load-cpu N       the processor of the load; the default is the first one
  --load BINARY      the binary whose subcommand bench makes the load; the default is the server's
  --build            only build and install the peers
  --report FILE      print the table of rows that were kept
  --help             print this text

Environment:
  RINGSOCK_BIN   the ringsock to measure instead of a fresh release build
  RINGSOCK_LOAD  the same as --load
HELP
}

die() {
    echo "compare.sh: $*" >&2
    exit 1
}

skip() {
    echo "skipping $1: $2" >&2
}

main() {
    parse_options "$@"
    trap end_child EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    command -v python3 >/dev/null || die 'this needs python3; install the package python3'
    if [[ -n $report ]]; then
        exec python3 "$perf/compare.py" --report "$report"
    fi

    mkdir -p "$peers" "$logs"
    find_binary
    local name
    for name in ${servers//,/ }; do
        prepare "$name"
    done
    ((${#commands[@]} + ${#foreign[@]} > 0)) || die 'there is nothing to measure'
    [[ -z $build_only ]] || return 0

    # From here on Python minds the processes, and ends them on any exit.
    trap - EXIT
    # shellcheck disable=SC2086 # no quotes: an option that is not there leaves nothing
    exec python3 "$perf/compare.py" --load "$load" --commit "$(commit)" --csv "$csv" --logs "$logs" \
        --cells "${cells:-$mode}" --rounds "$rounds" ${seconds:+--seconds $seconds} ${deflate:+--deflate} \
        "${cpus[@]}" "${commands[@]}" "${foreign[@]}"
}

parse_options() {
    while (($#)); do
        case $1 in
            --servers | --peer | --cells | --rounds | --seconds | --csv | --server-cpu | --load-cpu | --load | --report)
                (($# > 1)) || die "$1 needs a value; see --help"
                take_value "$1" "$2"
                shift
                ;;
            --quick) mode=quick ;;
            --smoke) mode=smoke ;;
            --deflate) mode=deflate deflate=deflate ;;
            --build) build_only=yes ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) die "unknown option '$1'; see --help" ;;
        esac
        shift
    done
    local name
    if [[ -z $servers ]]; then
        servers=$(IFS=,; echo "${ALL[*]}")
        [[ $mode != smoke ]] || servers=ringsock,floor
        [[ -z $deflate ]] || servers=$(IFS=,; echo "${DEFLATE[*]}")
    fi
    for name in ${servers//,/ }; do
        [[ " ${ALL[*]} ${DEFLATE[*]} " == *" $name "* ]] || die "there is no server '$name'; see --help"
        [[ -z $deflate || " ${DEFLATE[*]} " == *" $name "* ]] || die "$name can't compress, or is not told how to"
    done
    case $mode in
        full) rounds=${rounds:-5} ;;
        quick | deflate) rounds=${rounds:-3} ;;
        smoke) rounds=${rounds:-1} seconds=${seconds:-0.5} ;;
    esac
    csv=${csv:-$root/target/perf/$(date -u +%Y-%m-%d-%H%M%S).csv}
}

take_value() {
    case $1 in
        --rounds | --server-cpu | --load-cpu)
            [[ $2 =~ ^(0|[1-9][0-9]{0,3})$ ]] || die "$1 takes a number, not '$2'"
            ;;&
        --rounds)
            ((10#$2 > 0)) || die '--rounds takes a number above 0'
            rounds=$2
            ;;
        --seconds)
            [[ $2 =~ ^[0-9]{1,3}(\.[0-9]+)?$ ]] || die "--seconds takes a number, not '$2'"
            seconds=$2
            ;;
        --server-cpu | --load-cpu) cpus+=("$1" "$2") ;;
        --peer) foreign+=(--peer "$2") ;;
        --servers) servers=$2 ;;
        --cells) cells=$2 ;;
        --csv) csv=$2 ;;
        --load) load=$2 ;;
        --report) report=$2 ;;
    esac
}

# --- ringsock ------------------------------------------------------------------------------------

find_binary() {
    if [[ -z $binary ]]; then
        echo 'building ringsock'
        bounded "$BUILD_SECONDS" cargo build --release --locked --quiet --manifest-path "$root/Cargo.toml" ||
            die "the build failed or took longer than $BUILD_SECONDS s"
        binary=$root/target/release/ringsock
    fi
    load=${load:-$binary}
    # Not for the one or the other's sake: the load is what everything hangs on.
    bounded 10 "$load" bench --help >/dev/null 2>&1 || die "$load has no subcommand bench; name one that has by --load"
}

commit() {
    local name
    name=$(git -C "$root" rev-parse --short=10 HEAD 2>/dev/null) || name=unknown
    [[ -z $(git -C "$root" status --porcelain --untracked-files=no 2>/dev/null) ]] || name+=-changed
    [[ -z ${RINGSOCK_BIN:-} ]] || name+=-other-binary
    echo "$name"
}

# --- peers ---------------------------------------------------------------------------------------

# Adds the command of a server to `commands`, or says why not.
prepare() {
    case $1 in
        ringsock) add_ringsock ringsock "${deflate:+dedicated}" ;;
        ringsock-shared) add_ringsock ringsock-shared shared ;;
        floor | fastwebsockets | tokio-tungstenite | tokio-websockets | wtx | sockudo-ws | yawc) prepare_rust "$1" ;;
        ws | bun) prepare_js "$1" ;;
        picows) prepare_picows ;;
        beast) prepare_beast ;;
    esac
}

# add_ringsock NAME POLICY
add_ringsock() {
    add "$1" "$("$binary" --version | awk '{ print $2 }')" \
        "$(quoted "$binary") serve --listen 127.0.0.1:{port} --workers 1 --deflate ${2:-off}"
}

add() {
    commands+=(--server "$1@$2=$3")
}

quoted() {
    printf "'%s'" "${1//\'/\'\\\'\'}"
}

prepare_rust() {
    local log=$peers/rust.log package
    if [[ -z $rust_built ]]; then
        rust_built=yes
        echo "building ${#RUST[@]} programs in Rust"
        # One after the other: if one can't be had, the others still can. The directory matters: its
        # .cargo/config.toml has the flags.
        for package in "${RUST[@]}"; do
            (cd "$perf/peers" && exec timeout --kill-after=10 "$BUILD_SECONDS" \
                cargo build --release --locked --package "peer-$package") >"$log" 2>&1 &
            await $! || {
                rm -f "$peers/rust/release/peer-$package"
                tail -n 5 "$log" >&2
            }
        done
    fi
    if [[ -x $peers/rust/release/peer-$1 ]]; then
        add "$1" "$(locked_version "$1")" "$(quoted "$peers/rust/release/peer-$1") {port} $deflate"
    else
        skip "$1" 'it could not be built, see above'
    fi
}

locked_version() {
    awk -v name="name = \"${1/#floor/peer-floor}\"" '$0 == name { getline; gsub(/version = |"/, ""); print; exit }' \
        "$perf/peers/Cargo.lock"
}

prepare_js() {
    local log=$peers/js.log
    command -v npm >/dev/null || { skip "$1" 'it needs npm'; return; }
    if ! cmp -s "$perf/peers/js/package.json" "$peers/js/installed.json"; then
        echo 'installing the programs in JavaScript'
        mkdir -p "$peers/js"
        cp "$perf/peers/js/package.json" "$perf/peers/js/package-lock.json" "$peers/js/"
        bounded "$INSTALL_SECONDS" npm ci --prefix "$peers/js" --no-audit --no-fund >"$log" 2>&1 ||
            { tail -n 5 "$log" >&2; skip "$1" "npm could not install it; all of its output: $log"; return; }
        # Written last, so it marks an installation that is complete.
        cp "$perf/peers/js/package.json" "$peers/js/installed.json"
    fi
    # Node looks for packages from where the program is.
    cp "$perf/peers/js/$1.js" "$peers/js/"
    local program=node version
    # The program itself, not npm's script around it: its process is what is measured.
    [[ $1 != bun ]] || program=$peers/js/node_modules/bun/bin/bun.exe
    bounded 20 "$program" --version >/dev/null 2>&1 || { skip "$1" "$program does not run"; return; }
    version=$(awk -F'"' '$2 == "version" { print $4; exit }' "$peers/js/node_modules/$1/package.json")
    add "$1" "$version" "$(quoted "$program") $(quoted "$peers/js/$1.js") {port} $deflate"
}

prepare_picows() {
    local venv=$peers/python log=$peers/python.log
    if ! cmp -s "$perf/peers/python/requirements.txt" "$venv/installed.txt"; then
        echo 'installing picows'
        rm -rf "$venv"
        if ! install_picows "$venv" >"$log" 2>&1; then
            tail -n 5 "$log" >&2
            skip picows "it could not be installed; all of the output: $log"
            return
        fi
        cp "$perf/peers/python/requirements.txt" "$venv/installed.txt"
    fi
    add picows "$(sed -n 's/^picows==//p' "$perf/peers/python/requirements.txt")" \
        "$(quoted "$venv/bin/python") $(quoted "$perf/peers/python/picows_echo.py") {port}"
}

install_picows() {
    bounded "$INSTALL_SECONDS" python3 -m venv "$1" &&
        bounded "$INSTALL_SECONDS" "$1/bin/python" -m pip install --quiet --disable-pip-version-check \
            --requirement "$perf/peers/python/requirements.txt"
}

prepare_beast() {
    local source=$perf/peers/beast/echo.cpp program=$peers/beast/beast-echo log=$peers/beast.log
    command -v g++ >/dev/null || { skip beast 'it needs g++'; return; }
    if ! has_boost; then
        install_boost || { skip beast 'it needs the headers of Boost; install the package libboost-dev'; return; }
    fi
    if [[ ! $program -nt $source ]]; then
        echo 'building the program with Boost.Beast'
        mkdir -p "$peers/beast"
        bounded "$BUILD_SECONDS" g++ -std=c++17 -O3 -march=native -DNDEBUG -pthread "$source" -o "$program" >"$log" 2>&1 ||
            { tail -n 5 "$log" >&2; skip beast "it could not be built; all of the output: $log"; return; }
    fi
    add beast "$(printf '#include <boost/version.hpp>\nBOOST_LIB_VERSION' | g++ -E -P -x c++ - | tail -n 1 | tr -d '"' | tr _ .)" \
        "$(quoted "$program") {port}"
}

has_boost() {
    echo '#include <boost/beast/version.hpp>' | g++ -E -x c++ - >/dev/null 2>&1
}

install_boost() {
    ((EUID == 0)) && command -v apt-get >/dev/null || return 1
    echo 'installing libboost-dev'
    export DEBIAN_FRONTEND=noninteractive
    { bounded "$INSTALL_SECONDS" apt-get update -qq &&
        bounded "$INSTALL_SECONDS" apt-get install -y -qq --no-install-recommends libboost-dev; } \
        >"$peers/boost.log" 2>&1 && has_boost
}

# --- processes -----------------------------------------------------------------------------------

# Runs a command for at most so many seconds; it ends with this script, whatever ends that.
bounded() {
    timeout --kill-after=10 "$@" &
    await $!
}

await() {
    local status=0
    child=$1
    wait "$child" || status=$?
    child=''
    return "$status"
}

end_child() {
    # timeout passes the signal on to what it runs.
    [[ -z $child ]] || kill "$child" 2>/dev/null || true
}

main "$@"
