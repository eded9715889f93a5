#!/usr/bin/env bash
# Runs STOMP clients that others wrote against the release binary, over WebSocket and TCP.
set -euo pipefail

readonly STOMPJS_VERSION=7.5.0 WS_VERSION=8.18.3
readonly STOMP_PY_VERSION=9.0.0 WEBSOCKET_CLIENT_VERSION=1.9.2 DOCOPT_VERSION=0.6.2

# Every step that could hang has a limit.
readonly FETCH_SECONDS=300 BUILD_SECONDS=1800 START_SECONDS=10 CHECKS_SECONDS=110 OUTAGE_SECONDS=90 STOP_SECONDS=10
# How long the server is frozen: clients that asked for a heart-beat each second must have missed them by then.
readonly FROZEN_SECONDS=6

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root work=$root/target/stomp-interop programs=$root/scripts/stomp-interop
readonly server_log=$work/server.log

clients=js,py,ruby,perl deflate=dedicated ws='' tcp='' control='' vhost='' prepare_only='' frozen=''
binary='' server_pid='' program_pids=()

usage() {
    cat <<'HELP'
Usage: scripts/stomp-interop.sh [--clients LIST] [--deflate POLICY] [--prepare]
       scripts/stomp-interop.sh --ws URL --tcp HOST:PORT [--control COMMAND] [--vhost NAME] [--clients LIST]

Runs @stomp/stompjs, stomp.py, Ruby's gem stomp and Perl's Net::Stomp as they are against the release binary, each
in all its versions of STOMP. Prints a table of features by clients and fails unless every cell is right.
Meanwhile the server is frozen once, and restarted once. Logs: target/stomp-interop/.

  --clients LIST     some of js, py, ruby and perl, separated by commas; the default is all
  --deflate POLICY   how the server compresses: off, shared or dedicated[:BITS]; the default is dedicated. Only
                     @stomp/stompjs offers it here, through the package ws
  --ws URL           test a server that is already running, such as ws://127.0.0.1:15674/ws
  --tcp HOST:PORT    where the same server takes STOMP over TCP
  --control COMMAND  called with freeze, thaw or restart, does so to that server; without it clients are not tested
                     in an outage. After restart it returns when the server listens
  --vhost NAME       the virtual host that clients ask for; by default what they take by themselves
  --prepare          only install what is missing
  --help             print this text

Environment:
  RINGSOCK_BIN       the server to start instead of a fresh release build
HELP
}

die() {
    echo "stomp-interop.sh: $*" >&2
    exit 1
}

main() {
    parse_options "$@"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    mkdir -p "$work"
    prepare_clients
    [[ -z $prepare_only ]] || return 0

    if [[ -z $ws ]]; then
        find_binary
        ws=ws://127.0.0.1:$(free_port)/stomp tcp=127.0.0.1:$(free_port)
        control=control_server
        : >"$server_log"
        start_server
    fi
    set_environment
    rm -rf "$work/results"
    mkdir -p "$work/results"

    local failed=0 table=(python3 -B "$programs/table.py" --clients "$clients")
    echo "testing $ws and $tcp"
    run_checks
    if [[ -n $control ]]; then
        run_outage
    else
        table+=(--without-outage)
    fi
    # The table comes in every case: it names what a dead server or program left unrun.
    [[ -z $server_pid ]] || stop_server || failed=1
    "${table[@]}" "$work"/results/*.tsv || failed=1
    report_logs
    ((failed == 0)) || die 'failed; the reasons are above'
}

parse_options() {
    while (($#)); do
        case $1 in
            --clients | --deflate | --ws | --tcp | --control | --vhost)
                (($# > 1)) || die "$1 needs a value; see --help"
                case $1 in
                    --clients) clients=$2 ;;
                    --deflate) deflate=$2 ;;
                    --ws) ws=$2 ;;
                    --tcp) tcp=$2 ;;
                    --control) control=$2 ;;
                    --vhost) vhost=$2 ;;
                esac
                shift
                ;;
            --prepare) prepare_only=yes ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) die "unknown option '$1'; see --help" ;;
        esac
        shift
    done
    [[ $clients =~ ^(js|py|ruby|perl)(,(js|py|ruby|perl))*$ ]] || die "--clients takes some of js,py,ruby,perl, not '$clients'"
    [[ -n $ws || -z $tcp$control ]] || die '--tcp and --control need --ws'
    [[ -z $ws || -n $tcp ]] || die '--ws needs --tcp'
    [[ -z $ws || $ws =~ ^ws://[^/[:space:]]+:[0-9]+/ ]] || die "--ws takes ws://HOST:PORT/PATH, not '$ws'"
    [[ -z $tcp || $tcp =~ ^[^:[:space:]]+:[0-9]+$ ]] || die "--tcp takes HOST:PORT, not '$tcp'"
}

has() {
    [[ ,$clients, == *,$1,* ]]
}

# --- the clients ---------------------------------------------------------------------------------

prepare_clients() {
    command -v python3 >/dev/null || die 'python3 is missing; install the package python3'
    if has js; then install_stompjs; fi
    if has py; then install_stomp_py; fi
    # These two are taken from the distribution.
    local missing=()
    if has ruby; then ruby -e 'require "stomp"' 2>/dev/null || missing+=(ruby-stomp); fi
    if has perl; then perl -MNet::Stomp -e 1 2>/dev/null || missing+=(libnet-stomp-perl); fi
    ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
}

install_stompjs() {
    command -v npm >/dev/null || die '@stomp/stompjs needs node and npm; install the packages nodejs and npm, or leave js out of --clients'
    install_once "$work/npm" "@stomp/stompjs@$STOMPJS_VERSION" "ws@$WS_VERSION"
}

fill_npm() {
    bounded "$FETCH_SECONDS" npm install --prefix "$work/npm" --no-save --ignore-scripts --no-audit --no-fund "$@"
}

install_stomp_py() {
    python3 -c 'import venv, ensurepip' 2>/dev/null || die 'stomp.py needs a virtual environment; install the package python3-venv, or leave py out of --clients'
    install_once "$work/venv" "stomp.py==$STOMP_PY_VERSION" "websocket-client==$WEBSOCKET_CLIENT_VERSION" \
        "docopt==$DOCOPT_VERSION"
}

fill_venv() {
    python3 -m venv "$work/venv" &&
        bounded "$FETCH_SECONDS" "$work/venv/bin/python" -m pip install --disable-pip-version-check --no-deps "$@"
}

# install_once FOLDER PINS...
install_once() {
    local folder=$1 log=$work/install.log
    shift
    # The list of pins is written last, so it marks a complete installation of just these versions.
    if printf '%s\n' "$@" | cmp -s - "$folder/pins"; then return; fi
    echo "installing $* (once)"
    rm -rf "$folder"
    mkdir -p "$folder"
    "fill_${folder##*/}" "$@" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "could not install $*; all of the output: $log"
    }
    printf '%s\n' "$@" >"$folder/pins"
}

install_packages() {
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        die "these packages are missing: $*; install them, or leave their clients out of --clients"
    fi
    echo "installing the packages $*"
    DEBIAN_FRONTEND=noninteractive bounded "$FETCH_SECONDS" apt-get -o DPkg::Lock::Timeout=120 \
        install -y -qq --no-install-recommends "$@" >"$work/install.log" 2>&1 || {
        tail -n 20 "$work/install.log" >&2
        die "could not install the packages $*; 'apt-get update' may help. All of the output: $work/install.log"
    }
}

set_environment() {
    export STOMP_WS=$ws STOMP_TCP=$tcp STOMP_MODULES=$work/npm/node_modules
    [[ -z $vhost ]] || export STOMP_VHOST=$vhost
    # Or stomp.py asks for the names of this machine.
    export STOMP_SKIP_HOSTNAME_SCAN=1
    # Headers and bodies are UTF-8 whatever the user speaks. Nothing is written beside the programs.
    export LC_ALL=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
}

# start_program NAME SECONDS MODE [DIRECTORY]
start_program() {
    local name=$1 seconds=$2 command
    shift 2
    case $name in
        js) command=(node "$programs/stompjs.mjs") ;;
        py) command=("$work/venv/bin/python" -B "$programs/stomp_py.py") ;;
        ruby) command=(ruby "$programs/ruby_stomp.rb") ;;
        perl) command=(perl "$programs/net_stomp.pl") ;;
    esac
    # With job control it has a process group of its own, which ends as a whole.
    set -m
    timeout --kill-after=5 "$seconds" "${command[@]}" "$@" \
        >"$work/results/$1-$name.tsv" 2>"$work/results/$1-$name.log" </dev/null &
    program_pids+=($!)
    set +m
}

# start_programs SECONDS MODE [DIRECTORY]
start_programs() {
    local name seconds=$1
    shift
    for name in ${clients//,/ }; do start_program "$name" "$seconds" "$@"; done
}

# What a program did not get to is missing in the table, so its exit code says nothing more.
wait_for_programs() {
    wait "${program_pids[@]}" || true
    program_pids=()
}

run_checks() {
    start_programs "$CHECKS_SECONDS" checks
    wait_for_programs
}

# All clients connect. Then the server is frozen, which those with heart-beats have to notice, and restarted, after
# which all of them have to come back.
run_outage() {
    local tries=$((START_SECONDS * 10)) ready=$work/ready count
    rm -rf "$ready"
    mkdir "$ready"
    count=$(awk -F, '{ print NF }' <<<"$clients")
    start_programs "$OUTAGE_SECONDS" outage "$ready"
    while (($(find "$ready" -name '*.ready' | wc -l) < count)) && ((tries-- > 0)); do sleep 0.1; done
    frozen=yes
    "$control" freeze
    sleep "$FROZEN_SECONDS"
    "$control" thaw
    frozen=''
    "$control" restart
    touch "$ready/restarted"
    wait_for_programs
}

# What the programs said beside their results. Clients complain of outages, so it counts only if something failed.
report_logs() {
    local log
    for log in "$work"/results/checks-*.log; do
        [[ ! -s $log ]] || echo "there is more in ${log#"$root"/}"
    done
}

# --- the server ----------------------------------------------------------------------------------

find_binary() {
    if [[ -n ${RINGSOCK_BIN:-} ]]; then
        binary=$(realpath --no-symlinks -- "$RINGSOCK_BIN")
    else
        echo 'building the release binary'
        (cd "$root" && bounded "$BUILD_SECONDS" cargo build --release --locked) ||
            die "the release build failed or took longer than $BUILD_SECONDS s"
        binary=$(cd "$root" && realpath "${CARGO_TARGET_DIR:-target}/release/ringsock")
    fi
    [[ -x $binary ]] || die "there is no executable at '$binary'"
}

start_server() {
    local address=${ws#ws://}
    # A background job of a script ignores SIGINT from birth, unless job control is on.
    set -m
    "$binary" serve --listen "${address%/stomp}" --stomp "$tcp" --deflate "$deflate" >>"$server_log" 2>&1 </dev/null &
    server_pid=$!
    set +m
    await_port "${address%/stomp}"
    await_port "$tcp"
}

control_server() {
    case $1 in
        freeze) kill -STOP "$server_pid" ;;
        thaw) kill -CONT "$server_pid" ;;
        restart)
            stop_server || die 'the server did not stop as it should'
            start_server
            ;;
    esac
}

# Fails unless the server has lived until now, obeys SIGINT and reports success.
stop_server() {
    local status=0 tries=$((STOP_SECONDS * 10)) problem=''
    if ! kill -INT "$server_pid" 2>/dev/null; then
        problem='the server ended before the clients did'
    else
        while kill -0 "$server_pid" 2>/dev/null && ((tries-- > 0)); do sleep 0.1; done
        if kill -KILL "$server_pid" 2>/dev/null; then
            problem="the server was still running $STOP_SECONDS s after SIGINT"
        fi
    fi
    wait "$server_pid" 2>/dev/null || status=$?
    server_pid=''
    if [[ -z $problem ]]; then
        ((status != 0)) || return 0
        problem='the server stopped on SIGINT'
    fi
    tail -n 20 "$server_log" >&2
    echo "stomp-interop.sh: $problem (exit code $status; its output: $server_log)" >&2
    return 1
}

# --- small parts ---------------------------------------------------------------------------------

clean_up() {
    # Cleaning up must not hide the exit code it runs after, so nothing here may fail.
    local pid
    for pid in "${program_pids[@]}"; do
        kill -KILL -- "-$pid" 2>/dev/null || true
    done
    [[ -z $frozen || -n $server_pid ]] || "$control" thaw || true
    [[ -z $server_pid ]] || kill -KILL "$server_pid" 2>/dev/null || true
}

# In the foreground, so that Ctrl-C still reaches the command.
bounded() {
    timeout --foreground --kill-after=10 "$@"
}

await_port() {
    local tries=$((START_SECONDS * 10))
    until (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; do
        if ! kill -0 "$server_pid" 2>/dev/null || ((--tries == 0)); then
            tail -n 20 "$server_log" >&2
            die "the server ended or did not listen on $1 within $START_SECONDS s"
        fi
        sleep 0.1
    done
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

main "$@"
