#!/usr/bin/env bash
# Measures ringsock's STOMP and that of RabbitMQ and ActiveMQ in turn under the same load.
set -euo pipefail

# Every step that could hang has a limit.
readonly BUILD_SECONDS=1800

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root perf=$root/perf logs=$root/target/perf/logs

child='' binary=${RINGSOCK_BIN:-} load=${RINGSOCK_LOAD:-}
quick='' rounds='' seconds='' report='' arguments=()

usage() {
    cat <<'HELP'
Usage: perf/stomp.sh [--quick] [options]
       perf/stomp.sh --report FILE.csv

Starts ringsock, RabbitMQ and ActiveMQ on one processor, all on loopback, and puts the same load on them in
turn from another, in several rounds with the order turning: topics with many subscribers, and queues whose
messages are acknowledged. Prints deliveries a second, deliveries for each second of processor that the
server used, latency from publish to delivery, and ratios to RabbitMQ. What cannot be had is left out, with
a word: RabbitMQ and ActiveMQ have to be installed (Debian: rabbitmq-server, activemq); what the packages
start is not used and is better stopped. Without an option it takes about half an hour.

  --quick            a few workloads and 3 rounds: about 5 minutes
  --only LIST        servers and workloads, separated by commas: ringsock, rabbitmq, activemq, or one
                     transport of them, such as rabbitmq-ws and rabbitmq-tcp (activemq has only tcp);
                     topic-1, topic-50, topic-1000, topic-1000-rate, queue-1, queue-8, queue-shared,
                     queue-rate
  --rounds N         how often each server is measured with each workload; the default is 5
  --seconds N        how long each time; the default is 3
  --out STEM         write the rows to STEM.csv and the tables to STEM.md, such as
                     perf/results/2026-11-23-stomp
  --server-cpu N     the processor of the servers; the default is the last one
  --load-cpu N       the processor of the load; the default is the first one
  --report FILE.csv  print the tables of rows that were kept
  --help             print this text

Environment:
  RINGSOCK_BIN   the ringsock to measure instead of a fresh release build
  RINGSOCK_LOAD  the binary whose subcommand bench makes the load; the default is the server's
HELP
}

die() {
    echo "stomp.sh: $*" >&2
    exit 1
}

main() {
    parse_options "$@"
    trap end_child EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    command -v python3 >/dev/null || die 'this needs python3; install the package python3'
    if [[ -n $report ]]; then
        exec python3 -B "$perf/stomp.py" --report "$report"
    fi
    mkdir -p "$logs"
    find_binary
    # From here on Python minds the processes, and ends them on any exit.
    trap - EXIT
    # shellcheck disable=SC2086 # no quotes: an option that is not there leaves nothing
    exec python3 -B "$perf/stomp.py" --ringsock "$binary" --load "$load" --commit "$(commit)" --logs "$logs" \
        --rounds "$rounds" $quick ${seconds:+--seconds $seconds} "${arguments[@]}"
}

parse_options() {
    while (($#)); do
        case $1 in
            --rounds | --seconds | --only | --out | --server-cpu | --load-cpu | --report)
                (($# > 1)) || die "$1 needs a value; see --help"
                take_value "$1" "$2"
                shift
                ;;
            --quick) quick=--quick ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) die "unknown option '$1'; see --help" ;;
        esac
        shift
    done
    rounds=${rounds:-$([[ -n $quick ]] && echo 3 || echo 5)}
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
        --only | --out | --server-cpu | --load-cpu) arguments+=("$1" "$2") ;;
        --report) report=$2 ;;
    esac
}

find_binary() {
    if [[ -z $binary ]]; then
        echo 'building ringsock'
        bounded "$BUILD_SECONDS" cargo build --release --locked --quiet --manifest-path "$root/Cargo.toml" ||
            die "the build failed or took longer than $BUILD_SECONDS s"
        binary=${CARGO_TARGET_DIR:-$root/target}/release/ringsock
    fi
    load=${load:-$binary}
    bounded 10 "$load" bench --help 2>/dev/null | grep -q -e --stomp ||
        die "$load has no bench --stomp; name one that has by RINGSOCK_LOAD"
}

commit() {
    local name
    name=$(git -C "$root" rev-parse --short=10 HEAD 2>/dev/null) || name=unknown
    [[ -z $(git -C "$root" status --porcelain --untracked-files=no 2>/dev/null) ]] || name+=-changed
    [[ -z ${RINGSOCK_BIN:-} ]] || name+=-other-binary
    echo "$name"
}

# Runs a command for at most so many seconds; it ends with this script, whatever ends that.
bounded() {
    local status=0
    timeout --kill-after=10 "$@" &
    child=$!
    wait "$child" || status=$?
    child=''
    return "$status"
}

end_child() {
    # timeout passes the signal on to what it runs.
    [[ -z $child ]] || kill "$child" 2>/dev/null || true
}

main "$@"
