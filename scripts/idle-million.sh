#!/usr/bin/env bash
# Holds a million idle connections and says what they cost: memory, processor time, latency of the others.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly out=target/idle
# Memory of a connection: both ends in the kernel, and both processes. Then what the rest of a ring takes.
readonly CONNECTION_BYTES=$((2 * 4300 + 300)) TABLE_SLACK=64 TABLE_MAX=1048576
# The kernel fills rings unevenly by a per cent or two.
readonly UNEVEN_PERCENT=2
# Descriptors of each worker, and those that the server has besides.
readonly WORKER_FILES=3 OWN_FILES=32
# Bare sockets that tell the server's end of the kernel's memory from the load's. Each is a descriptor.
readonly BARE_MAX=10000
# The load takes a source address for so many connections, and ports of one parity.
readonly CONNECTIONS_PER_SOURCE=4096
# Every step that could hang has a limit; connections are opened and closed at a tenth of the usual speed at least.
readonly BUILD_SECONDS=1800 ALONE_SECONDS=10 START_SECONDS=60 SLOWEST_PER_SECOND=1500 REST_SECONDS=120

command="scripts/idle-million.sh $*"
connections=1000000 hold='' settle='' heartbeat=ping interval=25s workers='' tune='' write=yes output=perf/idle.md check=''
binary=${RINGSOCK_BIN:-} alone_began='' alone_ended='' load_began='' load_ended=''
inside=() children=() restore=() reniced=() tuned=() server='' load='' sampler='' holder='' failed='' url=''

usage() {
    cat <<'HELP'
Usage: scripts/idle-million.sh [--connections N] [--hold TIME] [--heartbeat ping|tcp|both|off] [options]

Starts the server on one processor and `ringsock bench --mode idle` on another, has connections opened, held
and closed over loopback, and prints what they took. Writes perf/idle.md with a plot beside it. A million
need 9 GB of memory and about ten minutes.

  --connections N   how many; the default is 1000000
  --hold TIME       how long, such as 90s or 10m, 5s at least; the default is 5m, or 30s up to 200000 connections
  --settle TIME     how long they are held before that, until what opening has left undone, such as pings, is made
                    up for; the default is 40s, or 1s up to 200000 connections
  --heartbeat KIND  ping (the default), tcp, both, or off, as of `ringsock serve`
  --interval TIME   after how long a quiet peer is asked; the default is 25s
  --workers N       rings of the server; the default is as many as the limit on open files calls for
  --tune            as root: in a network namespace of its own, with settings that suit; what is the whole
                    machine's is set only where it is too low, and put back
  --check           fail if a connection is lost, there are errors, a socket is left after closing, or the
                    server's process takes more than 160 bytes for each of 100000 connections or more
  --no-write        only print
  --output FILE.md  instead of perf/idle.md; the plot has the same name
  --help            print this text

Environment:
  RINGSOCK_BIN   the ringsock to measure instead of a fresh release build

What is measured while it runs stays in target/idle.
HELP
}

die() {
    echo "idle-million.sh: $*" >&2
    exit 1
}

main() {
    parse_options "$@"
    command -v python3 >/dev/null || die 'this needs python3; install the package python3'
    command -v taskset >/dev/null || die 'this needs taskset; install the package util-linux'
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    rm -rf "$out"
    mkdir -p "$out"
    find_binary
    choose_processors
    choose_workers
    [[ -z $tune ]] || tune_machine
    check_machine
    measure_alone
    measure_load
    stop_server
    write_facts
    echo
    local options=()
    [[ -z $write ]] || options+=(--output "$output")
    [[ -z $check ]] || options+=(--check)
    python3 -B perf/idle.py report "$out" "${options[@]}" || failed=yes
    [[ -z $failed ]]
}

parse_options() {
    while (($#)); do
        case $1 in
            --connections | --hold | --settle | --heartbeat | --interval | --workers | --output)
                (($# > 1)) || die "$1 needs a value; see --help"
                take_value "$1" "$2"
                shift
                ;;
            --tune) tune=yes ;;
            --check) check=yes ;;
            --no-write) write='' ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) die "unknown option '$1'; see --help" ;;
        esac
        shift
    done
    if [[ -z $hold ]]; then
        hold=5m
        ((connections > 200000)) || hold=30s
    fi
    if [[ -z $settle ]]; then
        settle=40s
        ((connections > 200000)) || settle=1s
    fi
    (($(seconds "$hold") >= 5)) || die '--hold takes 5s or more'
}

take_value() {
    case $1 in
        --connections | --workers)
            [[ $2 =~ ^[1-9][0-9]{0,7}$ ]] || die "$1 takes a number above 0, not '$2'"
            ;;&
        --hold | --settle | --interval)
            [[ $2 =~ ^[1-9][0-9]{0,5}[smh]?$ ]] || die "$1 takes a time such as 90s or 10m, not '$2'"
            ;;&
        --connections) connections=$2 ;;
        --workers) workers=$2 ;;
        --hold) hold=$2 ;;
        --settle) settle=$2 ;;
        --interval) interval=$2 ;;
        --output)
            [[ $2 == *.md ]] || die "--output takes a file that ends in .md, not '$2'"
            output=$2
            ;;
        --heartbeat)
            [[ $2 =~ ^(ping|tcp|both|off)$ ]] || die "--heartbeat takes ping, tcp, both or off, not '$2'"
            heartbeat=$2
            ;;
    esac
}

seconds() {
    local number=${1%[smh]}
    case $1 in
        *h) echo $((number * 3600)) ;;
        *m) echo $((number * 60)) ;;
        *) echo "$number" ;;
    esac
}

find_binary() {
    [[ -z $binary ]] || return 0
    echo 'building the release binary'
    timeout --foreground --kill-after=10 "$BUILD_SECONDS" cargo build --release --locked --quiet ||
        die "the build failed or took longer than $BUILD_SECONDS s"
    binary=target/release/ringsock
}

# The last processor is the server's, the first one the load's.
choose_processors() {
    local list
    list=$(awk '/^Cpus_allowed_list:/ { print $2 }' /proc/self/status)
    load_cpu=${list%%[-,]*} server_cpu=${list##*[-,]}
    [[ $load_cpu != "$server_cpu" ]] || echo 'warning: server and load share the only processor: times mean little'
}

# Each ring has a table that the limit on open files bounds.
choose_workers() {
    local limit table
    limit=$(ulimit -Hn)
    [[ $limit != unlimited ]] && ((limit < TABLE_MAX)) || limit=$TABLE_MAX
    table=$((limit - TABLE_SLACK))
    ((table > 0)) || die "the limit on open files is $limit -> 'ulimit -n $TABLE_MAX' as root"
    if [[ -z $workers ]]; then
        local wanted=$((connections + connections * UNEVEN_PERCENT / 100))
        workers=$(((wanted + table - 1) / table + 1))
    fi
    local files=$((workers * WORKER_FILES + OWN_FILES))
    ((files <= limit)) || die "the limit on open files is $limit; $workers workers need $files -> 'ulimit -n $TABLE_MAX' as root"
    bare=$((connections < BARE_MAX ? connections : BARE_MAX))
    ((bare < limit - 256)) || bare=$((limit > 512 ? limit - 256 : 256))
    # For the bare sockets; the server and the load raise it by themselves.
    ulimit -Sn "$(ulimit -Hn)"
}

# --- the machine ---------------------------------------------------------------------------------

setting() {
    "${inside[@]}" cat "/proc/sys/${1//.//}" 2>/dev/null || true
}

# set_globally NAME VALUE: until the end.
set_globally() {
    local path=/proc/sys/${1//.//} before
    before=$(cat "$path")
    # Known before it is changed, lest an interruption in between leave it.
    restore+=("$path=$before")
    echo "$2" >"$path" || return 1
    note "$1=$2 (was ${before//$'\t'/ }, is put back)"
}

# set_inside NAME VALUE: only in the namespace.
set_inside() {
    # shellcheck disable=SC2016 # the inner shell expands them
    "${inside[@]}" sh -c 'echo "$1" > "$2"' sh "$2" "/proc/sys/${1//.//}" || return 1
    note "$1=$2 in the namespace"
}

note() {
    tuned+=("$1")
    echo "set: $1"
}

# Whatever can't be set is found, and said, by the check that follows.
tune_machine() {
    ((EUID == 0)) || die '--tune needs root -> run it by sudo'
    local queued files
    read -r _ _ queued < <(setting net.ipv4.tcp_mem) || true
    if ((${queued:-0} < connections)); then
        set_globally net.ipv4.tcp_mem "$((connections / 2)) $((connections * 2 / 3)) $((connections + 1))" || true
    fi
    read -r files _ < <(setting fs.file-nr)
    if (($(digits fs.file-max) < 2 * connections + files + 10000)); then
        set_globally fs.file-max "$((2 * connections + files + 10000))" || true
    fi
    # The kernel's keepalive asks in bursts of 2 s, and drops what exceeds this on its way.
    if [[ $heartbeat == tcp || $heartbeat == both ]] && (($(digits net.core.netdev_max_backlog) < connections / 10)); then
        set_globally net.core.netdev_max_backlog "$((connections / 10))" || true
    fi
    calm_reclaim
    enter_namespace || echo 'warning: no network namespace could be made; goes on without'
    if ((${#inside[@]})); then
        set_inside net.ipv4.ip_local_port_range '1024 65535' || true
        set_inside net.core.somaxconn 4096 || true
        set_inside net.ipv4.tcp_max_syn_backlog 8192 || true
    fi
}

# Where the kernel looks for memory that nobody uses (DAMON), it does so for up to 100 ms every few seconds, the
# longer the more is in use, and in the meantime latencies tell of that.
calm_reclaim() {
    local pid before
    command -v pgrep >/dev/null && command -v renice >/dev/null || return 0
    for pid in $(pgrep '^kdamond\.' || true); do
        before=$(nice_of "$pid")
        [[ -n $before ]] || continue
        ((before < 19)) || continue
        reniced+=("$pid=$before")
        renice 19 -p "$pid" >/dev/null || continue
        note "kernel thread $(<"/proc/$pid/comm") at nice 19 (was $before, is put back)"
    done
}

nice_of() {
    awk '{ sub(/.*\) /, ""); print $17 }' "/proc/$1/stat" 2>/dev/null || true
}

# Only of what is still the thread that was changed.
restore_nice() {
    local entry pid
    for entry in "${reniced[@]}"; do
        pid=${entry%%=*}
        if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == kdamond.* ]]; then
            renice "${entry#*=}" -p "$pid" >/dev/null || echo "warning: process $pid could not be put back to nice ${entry#*=}" >&2
        fi
    done
}

# Numbers beyond what the shell counts are as good as the largest.
digits() {
    local value
    value=$(setting "$1")
    value=${value%%[[:space:]]*}
    [[ ${#value} -lt 19 ]] || value=999999999999999999
    echo "${value:-0}"
}

# A process holds the namespace; what runs in it enters by nsenter, which becomes that.
enter_namespace() {
    if ! command -v unshare >/dev/null || ! command -v nsenter >/dev/null || ! command -v ip >/dev/null; then
        echo 'warning: for a network namespace install the packages util-linux and iproute2'
        return 1
    fi
    local child=net.ipv4.tcp_child_ehash_entries entries=262144 before='' tries
    while ((entries < 2 * connections)); do entries=$((entries * 2)); done
    before=$(setting "$child")
    if [[ -n $before ]]; then
        echo "$entries" >"/proc/sys/${child//.//}" && restore+=("/proc/sys/${child//.//}=$before")
    fi
    unshare --net sh -c 'ip link set lo up && echo ready && exec sleep infinity' >"$out/namespace" 2>&1 &
    holder=$!
    children+=("$holder")
    for ((tries = 0; tries < 50; tries++)); do
        [[ ! -s $out/namespace ]] || break
        sleep 0.1
    done
    # Only the namespace that was made in between has the larger table.
    restore_settings "/proc/sys/${child//.//}="
    [[ $(<"$out/namespace") == ready ]] || return 1
    inside=(nsenter "--net=/proc/$holder/ns/net" --)
    note "a network namespace of its own, with $(setting net.ipv4.tcp_ehash_entries) entries for connections"
}

# Puts back what begins with $1, the last one first.
restore_settings() {
    local index entry
    for ((index = ${#restore[@]} - 1; index >= 0; index--)); do
        entry=${restore[index]:-}
        [[ -n $entry && $entry == "$1"* ]] || continue
        echo "${entry#*=}" >"${entry%%=*}" || echo "warning: ${entry%%=*} could not be put back to ${entry#*=}" >&2
        restore[index]=''
    done
}

# Everything that can't do is named before anything starts.
check_machine() {
    local wrong=() available needed first last used limit queued hash
    available=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
    needed=$((connections * CONNECTION_BYTES / 1024))
    ((available >= needed)) || wrong+=("memory: $((available / 1024)) MiB are available and $((needed / 1024)) are needed
    -> end other programs, or '--connections $((available * 1024 / CONNECTION_BYTES))'")
    read -r first last < <(setting net.ipv4.ip_local_port_range)
    ((last - first >= 2 * CONNECTIONS_PER_SOURCE + BARE_MAX)) || wrong+=("net.ipv4.ip_local_port_range is $first to $last
    -> 'sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"'")
    read -r used _ limit < <(setting fs.file-nr)
    [[ ${#limit} -lt 19 ]] || limit=999999999999999999
    if ! may_exceed_files && ((limit - used < 2 * connections + 1000)); then
        wrong+=("fs.file-max is $limit, $used are open and $((2 * connections)) are needed
    -> 'sysctl -w fs.file-max=$((2 * connections + used + 10000))'")
    fi
    used=$(digits net.netfilter.nf_conntrack_count) limit=$(digits net.netfilter.nf_conntrack_max)
    ((used == 0 || limit - used >= connections)) || wrong+=("net.netfilter.nf_conntrack_max is $limit, of which $used are in use
    -> 'sysctl -w net.netfilter.nf_conntrack_max=$((connections + used + 10000))'")
    if ((${#wrong[@]})); then
        printf 'idle-million.sh: %s\n' "${wrong[@]}" >&2
        exit 1
    fi

    queued=$(cut -f 3 /proc/sys/net/ipv4/tcp_mem 2>/dev/null || true)
    ((${queued:-$connections} >= connections)) || warn "net.ipv4.tcp_mem lets $queued connections have something queued at one time" \
        "sysctl -w net.ipv4.tcp_mem=\"$((connections / 2)) $((connections * 2 / 3)) $((connections + 1))\""
    (($(digits net.core.somaxconn) >= 1024)) || warn "net.core.somaxconn is $(setting net.core.somaxconn)" 'sysctl -w net.core.somaxconn=4096'
    hash=$(digits net.ipv4.tcp_ehash_entries)
    # Negative where it is another namespace's.
    hash=${hash#-}
    ((hash == 0 || hash >= connections)) || warn "the hash table of connections has $hash entries: looking them up takes longer" \
        "--tune, or boot with thash_entries=$connections"
    (($(digits net.ipv4.tcp_max_tw_buckets) >= connections)) ||
        echo "note: net.ipv4.tcp_max_tw_buckets is $(setting net.ipv4.tcp_max_tw_buckets): the kernel forgets the rest at once and logs that, which does no harm"
}

warn() {
    echo "warning: $1 -> '$2'"
}

# CAP_SYS_ADMIN, number 21, exempts from the limit.
may_exceed_files() {
    local effective
    effective=$(awk '/^CapEff:/ { print $2 }' /proc/self/status)
    (((16#$effective >> 21) & 1))
}

# --- the runs ------------------------------------------------------------------------------------

start_server() {
    local tries
    : >"$out/$1.log"
    "${inside[@]}" taskset -c "$server_cpu" "$binary" serve --listen 127.0.0.1:0 --workers "$workers" \
        --heartbeat "$heartbeat" --heartbeat-interval "$interval" >"$out/$1.log" 2>"$out/$1.err" </dev/null &
    server=$!
    children+=("$server")
    for ((tries = 0; tries < START_SECONDS * 10; tries++)); do
        url=$(sed -n 's|^ *echo *\(ws://[^ ]*/\) .*|\1|p' "$out/$1.log")
        [[ -z $url ]] || break
        kill -0 "$server" 2>/dev/null || die "the server did not start: $(tail -n 3 "$out/$1.err")"
        sleep 0.1
    done
    [[ -n $url ]] || die "the server was not ready after $START_SECONDS s; see $out/$1.err"
}

stop_server() {
    kill -TERM "$server" 2>/dev/null || true
    wait_for "$server" 30 || { kill -KILL "$server" 2>/dev/null || true; failed=yes; echo 'the server did not stop within 30 s'; }
    wait "$server" || { failed=yes; echo 'the server failed; see target/idle'; }
}

# wait_for PID SECONDS
wait_for() {
    local tries
    for ((tries = 0; tries < $2 * 10; tries++)); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}

# start_sampler NAME LOAD_PID
start_sampler() {
    taskset -c "$load_cpu" python3 -B perf/idle.py sample "$out/$1.csv" "$server" "$2" "$server_cpu" "$load_cpu" &
    sampler=$!
    children+=("$sampler")
}

stop_sampler() {
    kill -TERM "$sampler" 2>/dev/null || true
    wait "$sampler" || true
}

# start_load NAME CONNECTIONS ACTIVE TIME: in $load. It waits for a line in a pipe, so that the sampler sees
# the machine before.
start_load() {
    local warmup=1s
    [[ $1 != load ]] || warmup=$(seconds "$settle")s
    # shellcheck disable=SC2016 # the inner shell expands them
    "${inside[@]}" taskset -c "$load_cpu" sh -c 'until [ -e "$1" ]; do sleep 0.1; done; shift; exec "$@"' sh "$out/$1.go" \
        "$binary" bench "$url" --mode idle --connections "$2" --active "$3" --duration "$4" --warmup "$warmup" --timeout 30s \
        --server-pid "$server" --json "$out/$1.json" >"$out/$1.load.log" 2>"$out/$1.load.err" </dev/null &
    load=$!
    children+=("$load")
}

# The same load without idle connections, then bare sockets, both at a server of their own.
measure_alone() {
    local active=$((connections < 100 ? connections : 100))
    echo "measuring $active active connections alone for $ALONE_SECONDS s"
    start_server alone-server
    run_load alone "$active" "$active" "${ALONE_SECONDS}s" $((ALONE_SECONDS + REST_SECONDS)) quiet
    if [[ -r /proc/slabinfo ]]; then
        measure_bare
    else
        echo 'note: only root may read /proc/slabinfo, so memory of the kernel is told by MemAvailable alone'
        bare=0
    fi
    stop_server
}

measure_bare() {
    echo "measuring $bare bare sockets"
    local said='' input output pid
    start_sampler bare 0
    sleep 2
    coproc BARE { exec "${inside[@]}" taskset -c "$load_cpu" python3 -B perf/idle.py bare "$url" "$bare" 2>"$out/bare.err"; }
    pid=$BARE_PID input=${BARE[0]} output=${BARE[1]}
    children+=("$pid")
    read -r -t "$REST_SECONDS" said <&"$input" || true
    [[ $said == open ]] || die "bare sockets could not be opened: $(tail -n 1 "$out/bare.err")"
    # What was needed to open them has gone by then.
    sleep 5
    stop_sampler
    exec {output}>&-
    wait "$pid" || true
}

measure_load() {
    local hold_seconds limit
    hold_seconds=$(seconds "$hold")
    limit=$((hold_seconds + $(seconds "$settle") + 2 * connections / SLOWEST_PER_SECOND + REST_SECONDS))
    echo "holding $connections connections for $hold, with $workers workers; given up after $limit s"
    start_server server
    sockets_before=$(sockets)
    run_load load "$connections" $((connections < 100 ? connections : 100)) "$hold_seconds"s "$limit"
    # What has been closed last may still be on its way.
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        sockets_after=$(sockets)
        ((sockets_after > sockets_before)) || break
        sleep 0.1
    done
}

# run_load NAME CONNECTIONS ACTIVE TIME LIMIT [quiet]
run_load() {
    local status=0 deadline shown=0 now
    start_load "$1" "$2" "$3" "$4"
    start_sampler "$1" "$load"
    sleep 2
    printf -v "$1_began" %s "$(date +%s.%N)"
    deadline=$((SECONDS + $5)) shown=$SECONDS
    : >"$out/$1.go"
    while kill -0 "$load" 2>/dev/null; do
        now=$SECONDS
        ((now < deadline)) || die "the load was not through after $5 s; see $out/$1.load.err"
        if [[ -z ${6:-} ]]; then
            show_progress "$((now - shown))" && shown=$now
        fi
        sleep 0.2
    done
    wait "$load" || status=$?
    printf -v "$1_ended" %s "$(date +%s.%N)"
    sleep 1
    stop_sampler
    [[ -s $out/$1.json ]] || die "the load failed with exit code $status: $(tail -n 3 "$out/$1.load.err")"
    # Errors are in what it wrote: the report names them.
    ((status == 0)) || failed=yes
}

# A line that is drawn over on a terminal, and otherwise one every ten seconds.
show_progress() {
    if [[ -t 1 ]]; then
        (($1 >= 1)) || return 1
        printf '\r\033[K%s' "$(python3 -B perf/idle.py last "$out/load.csv")"
    else
        (($1 >= 10)) || return 1
        python3 -B perf/idle.py last "$out/load.csv"
    fi
}

sockets() {
    awk '$1 == "TCP:" { print $3 }' "/proc/$server/net/sockstat"
}

# What the report can't measure, a line each.
write_facts() {
    local model memory note='nothing'
    model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    memory=$(awk '/^MemTotal:/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)
    ((${#tuned[@]} == 0)) || note=$(printf '%s; ' "${tuned[@]}")
    cat >"$out/facts" <<FACTS
connections=$connections
bare=$bare
alone_began=$alone_began
alone_ended=$alone_ended
load_began=$load_began
load_ended=$load_ended
sockets_before=$sockets_before
sockets_after=$sockets_after
date=$(date -u '+%Y-%m-%d %H:%M UTC')
command=${command% }
server=processor $server_cpu: ringsock serve --workers $workers --heartbeat $heartbeat --heartbeat-interval $interval
load=processor $load_cpu: ringsock bench --mode idle --connections $connections --duration $(seconds "$hold")s --warmup $(seconds "$settle")s --timeout 30s
tuned=${note%; }
machine=${model:-unknown processor}, $(nproc --all) processors, $memory GiB, Linux $(uname -r)
version=$("$binary" --version), commit $(commit)
FACTS
}

commit() {
    local name
    name=$(git rev-parse --short=10 HEAD 2>/dev/null) || name=unknown
    [[ -z $(git status --porcelain --untracked-files=no 2>/dev/null) ]] || name+=-changed
    [[ -z ${RINGSOCK_BIN:-} ]] || name+=-other-binary
    echo "$name"
}

# Ends what was started here and nothing else.
clean_up() {
    local status=$? pid
    trap - EXIT
    # Nothing interrupts putting back.
    trap '' INT TERM HUP
    restore_settings ''
    restore_nice
    for pid in "${children[@]}"; do
        is_child "$pid" && kill -TERM "$pid" 2>/dev/null
    done
    for pid in "${children[@]}"; do
        is_child "$pid" || continue
        wait_for "$pid" 10 || kill -KILL "$pid" 2>/dev/null
    done
    case $status in
        0) ;;
        130 | 143) echo 'idle-million.sh: interrupted; what had been set is put back' >&2 ;;
        *) echo "idle-million.sh: failed; what was written meanwhile is in $out" >&2 ;;
    esac
    exit "$status"
}

# A number may have been given to another process meanwhile.
is_child() {
    [[ $(awk '{ sub(/.*\) /, ""); print $2 }' "/proc/$1/stat" 2>/dev/null) == "$$" ]]
}

main "$@"
