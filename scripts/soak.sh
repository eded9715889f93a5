#!/usr/bin/env bash
# Runs the soak test long and large against the release binary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Descriptors beside one for each connection: the check after the soak, /proc, pipes, slack.
readonly FILES_BESIDE=256
# Every step that could hang has a limit; the test has shorter ones of its own, with better messages.
readonly BUILD_SECONDS=1800 REST_SECONDS=600

seconds=60 connections=1000 size_max=1048576 seed=''

usage() {
    cat <<'HELP'
Usage: scripts/soak.sh [--seconds N] [--connections N] [--size-max BYTES] [--seed N]

Starts the release binary and has many connections echo random messages through it: text and
binary, fragmented, with pings, closes, resets and peers that do not read. Fails on any wrong byte,
if the server's memory grows, or if it does not get all of its slots back.

  --seconds N       how long; the default is 60. Memory is judged from 30 on
  --connections N   how many at a time; the default is 1000
  --size-max BYTES  the longest message; the default is 1048576
  --seed N          repeats what the connections of an earlier run said
  --help            print this text
HELP
}

die() {
    echo "soak.sh: $*" >&2
    exit 1
}

main() {
    parse_options "$@"
    check_open_files
    echo 'building the release binary and the test'
    bounded "$BUILD_SECONDS" cargo test --release --locked --test soak --no-run ||
        die "the build failed or took longer than $BUILD_SECONDS s"

    export RINGSOCK_SOAK_SECONDS=$seconds RINGSOCK_SOAK_CONNECTIONS=$connections RINGSOCK_SOAK_SIZE_MAX=$size_max
    [[ -z $seed ]] || export RINGSOCK_SOAK_SEED=$seed
    echo "soaking for $seconds s with $connections connections"
    bounded $((seconds + REST_SECONDS)) cargo test --quiet --release --locked --test soak ||
        die 'failed; the reason is above'
}

parse_options() {
    while (($#)); do
        case $1 in
            --seconds | --connections | --size-max | --seed)
                (($# > 1)) || die "$1 needs a value; see --help"
                [[ $2 =~ ^(0|[1-9][0-9]{0,19})$ ]] || die "$1 takes a number, not '$2'"
                case $1 in
                    --seconds) seconds=$2 ;;
                    --connections) connections=$2 ;;
                    --size-max) size_max=$2 ;;
                    --seed) seed=$2 ;;
                esac
                shift
                ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) die "unknown option '$1'; see --help" ;;
        esac
        shift
    done
}

# Both ends need a descriptor for each connection. The server raises its own limit as far as it may;
# here the same is done for the test.
check_open_files() {
    local needed=$((connections + FILES_BESIDE)) soft hard
    soft=$(ulimit -Sn) hard=$(ulimit -Hn)
    if [[ $hard != unlimited ]] && ((hard < needed)); then
        die "the limit on open files is $hard and $connections connections need $needed.
  Raise it for this shell as root: 'prlimit --pid $PPID --nofile=$needed:$needed', or for good with
  '* hard nofile $needed' in /etc/security/limits.conf; or use fewer: --connections $((hard > FILES_BESIDE ? hard - FILES_BESIDE : 1))"
    fi
    [[ $soft == unlimited ]] || ((soft >= needed)) || ulimit -Sn "$needed"
}

# In the foreground, so that Ctrl-C still reaches the command.
bounded() {
    timeout --foreground --kill-after=10 "$@"
}

main "$@"
