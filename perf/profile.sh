#!/usr/bin/env bash
# Where the server's time goes: instructions for a message, and user space's share of the processor.
set -euo pipefail

readonly BUILD_SECONDS=1800 START_SECONDS=60 LOAD_SECONDS=60 STOP_SECONDS=30

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root work=$root/target/perf/profile

load=${RINGSOCK_LOAD:-} binary=${RINGSOCK_BIN:-}
seconds=5 connections=64 size=16 depth=1 callgrind=yes
server_pid='' url=''

usage() {
    cat <<'HELP'
Usage: perf/profile.sh [--connections N] [--size BYTES] [--depth N] [--seconds N] [--no-callgrind]

Prints, for ringsock under the load of one cell:
  - the share of its processor time that is user space's, from /proc/PID/stat;
  - its instructions in user space for a message, by callgrind, and the functions they are spent in.
    The server runs twice, for a short and a long load: what both have in common, the start and the
    opening of connections, cancels out. Where valgrind cannot run it, the script says so.

  --connections N  the default is 64
  --size BYTES     the default is 16
  --depth N        messages under way on each connection; the default is 1
  --seconds N      how long to look at user space's share; the default is 5
  --no-callgrind   only the share
  --load BINARY    the binary whose subcommand bench makes the load; the default is the server's
  --help           print this text

Environment:
  RINGSOCK_BIN   the ringsock to look at instead of a fresh release build
  RINGSOCK_LOAD  the same as --load
HELP
}

die() {
    echo "profile.sh: $*" >&2
    exit 1
}

main() {
    parse_options "$@"
    trap end_server EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir -p "$work"
    find_binary
    echo "$size bytes, $connections connections, $depth under way on each"
    user_share
    [[ -z $callgrind ]] || instructions
}

parse_options() {
    while (($#)); do
        case $1 in
            --connections | --size | --depth | --seconds | --load)
                (($# > 1)) || die "$1 needs a value; see --help"
                [[ $1 == --load || $2 =~ ^[1-9][0-9]{0,7}$ ]] || die "$1 takes a number above 0, not '$2'"
                case $1 in
                    --connections) connections=$2 ;;
                    --size) size=$2 ;;
                    --depth) depth=$2 ;;
                    --seconds) seconds=$2 ;;
                    --load) load=$2 ;;
                esac
                shift
                ;;
            --no-callgrind) callgrind='' ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) die "unknown option '$1'; see --help" ;;
        esac
        shift
    done
}

find_binary() {
    if [[ -z $binary ]]; then
        timeout --foreground --kill-after=10 "$BUILD_SECONDS" \
            cargo build --release --locked --quiet --manifest-path "$root/Cargo.toml" || die 'the build failed'
        binary=$root/target/release/ringsock
    fi
    load=${load:-$binary}
    timeout 10 "$load" bench --help >/dev/null 2>&1 || die "$load has no subcommand bench; name one that has by --load"
    command -v python3 >/dev/null || die 'this needs python3; install the package python3'
    command -v taskset >/dev/null || die 'this pins with taskset; install the package util-linux'
}

# --- user space's share --------------------------------------------------------------------------

user_share() {
    start_server
    run_load $((seconds + 2)) & # the share is taken in the midst of it
    local load_pid=$! before after
    sleep 1
    before=$(cpu_ticks)
    sleep "$seconds"
    after=$(cpu_ticks)
    wait "$load_pid" || die 'the load failed'
    end_server
    awk -v before="$before" -v after="$after" -v seconds="$seconds" -v hz="$(getconf CLK_TCK)" '
        BEGIN {
            split(before, b); split(after, a)
            user = a[1] - b[1]; system_ = a[2] - b[2]; sum = user + system_
            if (sum == 0) { print "user space: the server used no time that could be measured"; exit }
            printf "user space: %.1f %% of the server'\''s CPU (%.2f s of %.2f s in %d s)\n", 100 * user / sum, user / hz, sum / hz, seconds
        }'
}

# utime and stime. The name in front of them is in parentheses, and may have spaces.
cpu_ticks() {
    sed 's/.*) //' "/proc/$server_pid/stat" | awk '{ print $12, $13 }'
}

# --- instructions --------------------------------------------------------------------------------

instructions() {
    command -v valgrind >/dev/null || die 'this counts with callgrind; install the package valgrind'
    local short long
    count short 2
    count long 5
    short=$(<"$work/short.count") long=$(<"$work/long.count")
    awk -v short="$short" -v long="$long" '
        BEGIN {
            split(short, s); split(long, l)
            if (l[2] <= s[2]) { print "instructions: the longer load brought no more messages"; exit 1 }
            printf "instructions: %.0f in user space for a message (%d messages more, %d instructions more)\n",
                (l[1] - s[1]) / (l[2] - s[2]), l[2] - s[2], l[1] - s[1]
        }'
    echo 'where, of the longer load (with the start):'
    # The first table of the listing: the ten functions that take most.
    callgrind_annotate "$work/long.callgrind" 2>/dev/null |
        awk '/file:function/ { on = 1; next } on && NF > 2 && !/^-/ && shown < 10 { print "  " substr($0, 1, 110); shown++ }' ||
        true
}

# count NAME SECONDS: writes the instructions and the messages of one run to NAME.count.
count() {
    local out=$work/$1.callgrind total messages
    rm -f "$out"
    start_server valgrind --tool=callgrind --fair-sched=yes --callgrind-out-file="$out"
    # The server is told to stop while the load goes on. Under valgrind one thread runs at a time, and a
    # worker that waits in the kernel would keep the one that minds signals from its turn. So the load
    # may well end with errors; what counts is how many messages the server says it had.
    run_load $(($2 + STOP_SECONDS)) 2>/dev/null &
    local load_pid=$!
    sleep "$2"
    end_server
    kill "$load_pid" 2>/dev/null || true
    wait "$load_pid" 2>/dev/null || true
    total=$(awk '/^(summary|totals):/ { print $2; exit }' "$out" 2>/dev/null) || true
    messages=$(sed -n 's/^stopped: .* connections, \([0-9]*\) messages.*/\1/p' "$work/server.log")
    [[ -n $total && -n $messages ]] || die "callgrind could not count here; the server's log: $work/server.log"
    echo "$total $messages" >"$work/$1.count"
}

# --- processes -----------------------------------------------------------------------------------

# start_server [PROGRAM TO RUN IT UNDER...]
start_server() {
    local port deadline=$((SECONDS + START_SECONDS))
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    url=ws://127.0.0.1:$port/
    # Not pinned under valgrind: counts don't need it, and on one processor its threads starve.
    local pinned=(taskset -c "$(last_cpu)")
    (($# == 0)) || pinned=()
    "${pinned[@]}" "$@" "$binary" serve --listen "127.0.0.1:$port" --workers 1 >"$work/server.log" 2>&1 &
    server_pid=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        kill -0 "$server_pid" 2>/dev/null || die "the server ended at once; its log: $work/server.log"
        ((SECONDS < deadline)) || die "the server does not listen; its log: $work/server.log"
        sleep 0.1
    done
}

run_load() {
    local options=()
    ((depth == 1)) || options=(--depth "$depth")
    timeout --kill-after=10 $((LOAD_SECONDS + $1)) "$load" bench "$url" --pin "$(first_cpu)" -c "$connections" -s "$size" \
        "${options[@]}" -d "$1s" -w 500ms >/dev/null
}

end_server() {
    [[ -n $server_pid ]] || return 0
    kill "$server_pid" 2>/dev/null || true
    # Not by `wait` alone, which has no limit; a child that has ended is a zombie until it is waited for.
    local waited state
    for ((waited = 0; waited < STOP_SECONDS * 10; waited++)); do
        state=$(sed 's/.*) //; s/ .*//' "/proc/$server_pid/stat" 2>/dev/null) || break
        [[ $state != Z ]] || break
        sleep 0.1
    done
    kill -KILL "$server_pid" 2>/dev/null || true
    wait "$server_pid" 2>/dev/null || true
    server_pid=''
}

first_cpu() {
    python3 -c 'import os; print(min(os.sched_getaffinity(0)))'
}

last_cpu() {
    python3 -c 'import os; print(max(os.sched_getaffinity(0)))'
}

main "$@"
