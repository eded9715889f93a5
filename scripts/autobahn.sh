#!/usr/bin/env bash
# Runs the Autobahn|Testsuite: its fuzzing client against the release binary, or its fuzzing server with
# the client role.
set -euo pipefail

readonly SUITE_VERSION=0.8.2
readonly IMAGE=crossbario/autobahn-testsuite:$SUITE_VERSION

# Every step that could hang has a limit.
readonly FETCH_SECONDS=300 BUILD_SECONDS=900 START_SECONDS=10 SUITE_SECONDS=1800 STOP_SECONDS=10

# The suite is Python 2 only and asks for "any" version of most packages, the newest of which have
# moved on; these are the last ones that work together. Installed with --no-deps, because what is
# declared but never loaded by the fuzzing client (klein, Werkzeug, ujson, service_identity) would
# only add downloads. wsaccel is the one package that is compiled: without it masking and checking
# 16 MiB messages in plain Python is slow enough to trip the suite's own timeouts.
readonly PINS=(
    "autobahntestsuite==$SUITE_VERSION" autobahn==0.10.9 txaio==2.1.0 wsaccel==0.6.3
    Twisted==20.3.0 zope.interface==5.4.0 constantly==15.1.0 incremental==21.3.0 Automat==20.2.0
    hyperlink==21.0.0 attrs==21.4.0 idna==2.10 typing==3.10.0.0 six==1.17.0
    pyOpenSSL==21.0.0 cryptography==3.3.2 cffi==1.15.1 pycparser==2.21 enum34==1.1.10
    ipaddress==1.0.23 Jinja2==2.11.3 MarkupSafe==1.1.1
    unittest2==1.1.0 traceback2==1.4.0 linecache2==1.0.0
)
# The last virtualenv without dependencies that runs on Python 2.7. It carries its own pip, so it
# helps also where Python 2.7 has none.
readonly VIRTUALENV=virtualenv==16.7.12

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root work=$root/target/autobahn
readonly suite_log=$work/wstest.log server_log=$work/server.log

cases='*' url='' deflate=dedicated client='' prepare_only='' engine='' server_pid='' suite_pid=''
readonly container=ringsock-autobahn-$$

usage() {
    cat <<'HELP'
Usage: scripts/autobahn.sh [--cases LIST] [--client | --url URL | --deflate POLICY] [--prepare]

Runs the Autobahn|Testsuite fuzzing client against the release binary, prints a table by case
group and fails on any result but OK and INFORMATIONAL. Reports: target/autobahn/reports/.

  --cases LIST  case patterns separated by commas, such as '1.*,6.4.1'; the default is '*'
  --client      test the client role instead, against the suite's fuzzing server
  --url URL     test a server that is already running, such as ws://127.0.0.1:9001/
  --deflate POLICY
                how the server compresses: off, shared or dedicated[:BITS]; the default is dedicated
  --prepare     only make the suite ready (container image or virtual environment)
  --help        print this text

Environment:
  RINGSOCK_BIN  the server to start instead of a fresh release build
  PYTHON27      a Python 2.7 interpreter; also means: not in a container
HELP
}

die() {
    echo "autobahn.sh: $*" >&2
    exit 1
}

main() {
    parse_options "$@"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    mkdir -p "$work"
    prepare_suite
    [[ -z $prepare_only ]] || return 0

    if [[ -n $client ]]; then
        run_client
    else
        [[ -n $url ]] || start_server
        run_suite
    fi

    # The table comes last and in every case: it names the cases that a dead server left unrun.
    local failed=0
    [[ -z $server_pid ]] || stop_server || failed=1
    any_python "$root/scripts/autobahn_table.py" "$work/reports" "$suite_log" || failed=1
    ((failed == 0)) || die 'failed; the reasons are above'
}

parse_options() {
    while (($#)); do
        case $1 in
            --cases | --url | --deflate)
                (($# > 1)) || die "$1 needs a value; see --help"
                case $1 in
                    --cases) cases=$2 ;;
                    --url) url=$2 ;;
                    --deflate) deflate=$2 ;;
                esac
                shift
                ;;
            --client) client=yes ;;
            --prepare) prepare_only=yes ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) die "unknown option '$1'; see --help" ;;
        esac
        shift
    done
    # Both end up inside a JSON string.
    [[ $cases =~ ^[0-9.*]+(,[0-9.*]+)*$ ]] || die "--cases takes patterns such as '1.*,6.4.1', not '$cases'"
    [[ -z $url || $url =~ ^wss?://[^\"\\[:space:]]+$ ]] || die "--url takes ws://HOST:PORT/, not '$url'"
}

# --- the suite -----------------------------------------------------------------------------------

prepare_suite() {
    if [[ -z ${PYTHON27:-} ]] && find_engine; then
        echo "Autobahn|Testsuite $SUITE_VERSION in a container ($engine)"
    else
        make_venv
        echo "Autobahn|Testsuite $SUITE_VERSION under Python 2.7"
    fi
}

# Sets `engine`. A client without an engine behind it, or one that cannot get the image, does not count.
find_engine() {
    local candidate
    for candidate in docker podman; do
        command -v "$candidate" >/dev/null || continue
        timeout 20 "$candidate" info >/dev/null 2>&1 || continue
        if "$candidate" image inspect "$IMAGE" >/dev/null 2>&1 ||
            timeout "$FETCH_SECONDS" "$candidate" pull --quiet "$IMAGE" >/dev/null; then
            engine=$candidate
            return 0
        fi
        echo "autobahn.sh: $candidate works but has no $IMAGE; looking further" >&2
    done
    return 1
}

make_venv() {
    local venv=$work/venv log=$work/install.log python
    # The list of pins is written last, so it marks a complete installation of just these versions.
    if printf '%s\n' "${PINS[@]}" | cmp -s - "$venv/pins" &&
        "$venv/bin/python" -W ignore -c 'import autobahntestsuite' >/dev/null 2>&1; then
        return
    fi
    python=$(find_python27)
    echo "installing the suite for $python (once)"
    rm -rf "$venv" "$work/bootstrap"
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_PYTHON_VERSION_WARNING=1 PYTHONWARNINGS=ignore
    {
        bounded "$FETCH_SECONDS" "$(find_pip_host "$python")" -m pip install --quiet --no-deps \
            --target "$work/bootstrap" "$VIRTUALENV" &&
            bounded 60 "$python" "$work/bootstrap/virtualenv.py" --no-download "$venv" &&
            bounded "$FETCH_SECONDS" "$venv/bin/python" -m pip install --no-deps "${PINS[@]}"
    } >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "could not install the suite (it needs PyPI, a C compiler and the headers of Python 2.7); all of the output: $log"
    }
    rm -rf "$work/bootstrap"
    printf '%s\n' "${PINS[@]}" >"$venv/pins"
}

find_python27() {
    local candidate pyenv_root
    if [[ -n ${PYTHON27:-} ]]; then
        is_python27 "$PYTHON27" || die "PYTHON27 names '$PYTHON27', which does not run as Python 2.7"
        echo "$PYTHON27"
        return
    fi
    pyenv_root=$(pyenv root 2>/dev/null) || pyenv_root=${PYENV_ROOT:-${HOME:-}/.pyenv}
    for candidate in python2.7 "$pyenv_root"/versions/2.7.*/bin/python2.7; do
        if is_python27 "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    die 'the Autobahn|Testsuite needs Python 2.7 or a container engine, and neither is here.
  Do one of these and run the script again:
  - install Python 2.7 with its headers: "pyenv install 2.7.18", or the package python2.7-dev
    where the distribution still has it;
  - set PYTHON27 to an interpreter that is somewhere else;
  - start docker or podman, so that "docker info" succeeds.'
}

# Runs it, because a pyenv shim called python2.7 exists and fails when no 2.7 is selected.
is_python27() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' >/dev/null 2>&1
}

# An interpreter that can fetch one package, whichever Python it is for.
find_pip_host() {
    local candidate
    for candidate in "$1" python3; do
        if "$candidate" -m pip --version >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    die 'neither Python 2.7 nor python3 has pip; install the package python3-pip'
}

run_suite() {
    local status=0
    rm -rf "$work/reports"
    mkdir -p "$work/reports"
    printf '{"outdir": "reports", "servers": [{"agent": "ringsock", "url": "%s"}],
"cases": %s, "exclude-cases": [], "exclude-agent-cases": {}}\n' \
        "$url" "$(json_strings "${cases//,/ }")" >"$work/fuzzingclient.json"
    echo "testing $url, cases $cases"

    wstest fuzzingclient >"$suite_log" 2>&1 &
    suite_pid=$!
    while kill -0 "$suite_pid" 2>/dev/null; do
        # With nothing to do the suite waits for ever instead of ending.
        if grep -qs '^Ok, will run 0 test cases' "$suite_log"; then
            die "there is no case '$cases'"
        fi
        sleep 0.5
    done
    wait "$suite_pid" || status=$?
    suite_pid=''
    ((status == 0)) && return
    tail -n 5 "$suite_log" >&2
    ((status == 124)) && die "the suite did not finish within $SUITE_SECONDS s; the last case it began is above"
    die "the suite ended with exit code $status; all of its output: $suite_log"
}

# Starts the suite's server, and has the client role echo in every case.
run_client() {
    local port status=0
    rm -rf "$work/reports"
    mkdir -p "$work/reports"
    port=$(free_port)
    printf '{"outdir": "reports", "url": "ws://127.0.0.1:%s", "webport": 0, "cases": %s, "exclude-cases": [],
"exclude-agent-cases": {}}\n' "$port" "$(json_strings "${cases//,/ }")" >"$work/fuzzingserver.json"
    echo 'building the client'
    (cd "$root" && bounded "$BUILD_SECONDS" cargo test --release --locked --no-run --test autobahn_client) \
        >"$work/client.log" 2>&1 || die "the build of the client failed; all of its output: $work/client.log"
    wstest fuzzingserver >"$suite_log" 2>&1 &
    suite_pid=$!
    await_port "$port" "$suite_pid" "$suite_log" "the suite's server"
    echo "testing the client role, cases $cases"
    (cd "$root" && RINGSOCK_AUTOBAHN_SERVER=127.0.0.1:$port bounded "$SUITE_SECONDS" \
        cargo test --release --locked --test autobahn_client) >"$work/client.log" 2>&1 || status=$?
    kill "$suite_pid" 2>/dev/null || true
    wait "$suite_pid" 2>/dev/null || true
    suite_pid=''
    ((status == 0)) || {
        tail -n 20 "$work/client.log" >&2
        die "the client ended with exit code $status; all of its output: $work/client.log"
    }
}

# Ends in `exec`, so that the process to stop is `timeout`, which passes the signal on.
wstest() {
    local run # $1: the suite's mode, which is also the name of its configuration
    cd "$work"
    export PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore
    if [[ -z $engine ]]; then
        run=(venv/bin/python venv/bin/wstest)
    else
        run=("$engine" run --rm --init --name "$container" --network host --env PYTHONUNBUFFERED
            --volume "$work:/autobahn:z" --workdir /autobahn)
        # Without this the reports belong to root; podman without root maps the user by itself.
        [[ $engine == podman ]] || run+=(--user "$(id -u):$(id -g)")
        run+=("$IMAGE" wstest)
    fi
    exec timeout --kill-after=10 "$SUITE_SECONDS" "${run[@]}" -m "$1" -s "$1.json"
}

# --- the server ----------------------------------------------------------------------------------

start_server() {
    local binary port
    if [[ -n ${RINGSOCK_BIN:-} ]]; then
        binary=$(realpath --no-symlinks -- "$RINGSOCK_BIN")
    else
        echo 'building the release binary'
        (cd "$root" && bounded "$BUILD_SECONDS" cargo build --release --locked) ||
            die "the release build failed or took longer than $BUILD_SECONDS s"
        binary=$(cd "$root" && realpath "${CARGO_TARGET_DIR:-target}/release/ringsock")
    fi
    [[ -x $binary ]] || die "there is no executable at '$binary'"
    port=$(free_port)
    url=ws://127.0.0.1:$port/

    # A background job of a script ignores SIGINT from birth, unless job control is on.
    set -m
    "$binary" serve --listen "127.0.0.1:$port" --deflate "$deflate" >"$server_log" 2>&1 </dev/null &
    server_pid=$!
    set +m
    await_port "$port" "$server_pid" "$server_log" 'the server'
}

# Fails unless the server has lived until now, obeys SIGINT and reports success.
stop_server() {
    local status=0 tries=$((STOP_SECONDS * 10)) problem=''
    if ! kill -INT "$server_pid" 2>/dev/null; then
        problem='the server ended before the suite did'
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
    echo "autobahn.sh: $problem (exit code $status; its output: $server_log)" >&2
    return 1
}

# --- small parts ---------------------------------------------------------------------------------

clean_up() {
    # Cleaning up must not hide the exit code it runs after, so nothing here may fail.
    [[ -z $suite_pid ]] || kill "$suite_pid" 2>/dev/null || true
    [[ -z $engine || -z $suite_pid ]] || "$engine" rm --force "$container" >/dev/null 2>&1 || true
    [[ -z $server_pid ]] || kill -KILL "$server_pid" 2>/dev/null || true
}

# In the foreground, so that Ctrl-C still reaches the command.
bounded() {
    timeout --foreground --kill-after=10 "$@"
}

# await_port PORT PID LOG NAME
await_port() {
    local tries=$((START_SECONDS * 10))
    until (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
        if ! kill -0 "$2" 2>/dev/null || ((--tries == 0)); then
            tail -n 20 "$3" >&2
            die "$4 ended or did not listen on port $1 within $START_SECONDS s"
        fi
        sleep 0.1
    done
}

free_port() {
    any_python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

any_python() {
    if command -v python3 >/dev/null; then
        python3 "$@"
    elif [[ -x $work/venv/bin/python ]]; then
        "$work/venv/bin/python" "$@"
    else
        die 'python3 is missing; install the package python3'
    fi
}

# A JSON array of the words of one string: json_strings '1.* 2.*' -> ["1.*", "2.*"]
json_strings() {
    local words
    read -ra words <<<"$1" # unlike an unquoted expansion, does not match the stars against files
    printf -v words '"%s", ' "${words[@]}"
    echo "[${words%, }]"
}

main "$@"
