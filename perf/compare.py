#!/usr/bin/env python3
"""Measures servers in turn under the same load. Started by compare.sh, which says what is what."""

import argparse
import contextlib
import csv
import ctypes
import datetime
import itertools
import json
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time

import results
from results import FLOOR, Cell, cell_name

START_SECONDS = 20
STOP_SECONDS = 5
# Beside one descriptor for each connection.
FILES_BESIDE = 256
# What a run may take of memory: this many copies of all that is under way, on both sides and in the kernel.
COPIES = 8
MEMORY_MAX = 16 << 30
# How often a measurement is made at most, if others use the processors meanwhile.
ATTEMPTS = 3
# What a run takes beside its window, as far as one can tell before.
BESIDE_SECONDS = 0.9
BESIDE_SECONDS_PER_CONNECTION = 0.00025

QUICK = ["16x64x1", "128x1000x1", "128x64x16", "16Kix64x1", "1Mix1x1"]
SMOKE = ["16x64x1"]
# Those with compression, for each of these offers.
DEFLATE = ["1Kix1x1", "1Kix64x1", "1Kix64x16", "1Kix1000x1", "16Kix64x1", "1Mix4x1"]
OFFERS = ["no-takeover", "takeover"]
# Of what comes back, so much has to be compressed.
COMPRESSED_MIN = 0.99


def full_cells():
    for size in ("16", "128", "1Ki"):
        yield from (f"{size}x{connections}x{depth}" for connections in (1, 64, 1000) for depth in (1, 16))
        yield f"{size}x10000x1"
    yield from (f"16Ki{rest}" for rest in ("x1x1", "x1x16", "x64x1", "x64x16", "x1000x1"))
    yield from (f"64Ki{rest}" for rest in ("x1x1", "x1x16", "x64x1", "x64x16"))
    yield from (f"1Mi{rest}" for rest in ("x1x1", "x1x16", "x64x1"))


def main():
    options = parse_options()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    if options.report:
        results.table(results.Results(results.read(options.report)))
        return
    # The rows would be there for nothing if they had no file to go to: so that comes first.
    with open_csv(options.csv) as file:
        date = run(options, csv.DictWriter(file, results.COLUMNS, lineterminator="\n"), file)
    results.table(results.Results([row for row in results.read(options.csv) if row["date"] == date]))
    print(f"\nrows: {options.csv}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", action="append", default=[], metavar="NAME@VERSION=COMMAND",
                        help="a server to start; {port} in its command is where it listens")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=URL,PID", help="a server that runs already")
    parser.add_argument("--load", help="the binary with the subcommand bench")
    parser.add_argument("--cells", default="full", help="full, quick, smoke, deflate or SIZExCONNECTIONSxDEPTH,...")
    parser.add_argument("--deflate", action="store_true", help="offer compression")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--warmup", type=float, default=0.4)
    parser.add_argument("--server-cpu", type=int)
    parser.add_argument("--load-cpu", type=int)
    parser.add_argument("--commit", default="")
    parser.add_argument("--csv")
    parser.add_argument("--logs", default=".")
    parser.add_argument("--report", metavar="CSV")
    options = parser.parse_args()
    if options.report:
        return options
    lists = {"full": list(full_cells()), "quick": QUICK, "smoke": SMOKE, "deflate": DEFLATE}
    names = lists.get(options.cells) or options.cells.split(",")
    options.cells = [cell_of(name, offer) for offer in (OFFERS if options.deflate else [""]) for name in names]
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        die("this takes two processors, one for the server and one for the load")
    # The first processor often has interrupts to serve: it goes to the load.
    options.load_cpu = cpus[0] if options.load_cpu is None else options.load_cpu
    options.server_cpu = cpus[-1] if options.server_cpu is None else options.server_cpu
    for cpu in (options.server_cpu, options.load_cpu):
        if cpu not in cpus:
            die(f"processor {cpu} is not among those allowed: {cpus}")
    if options.server_cpu == options.load_cpu:
        die("the server and the load need a processor each")
    options.servers = [StartedServer(text, options) for text in options.server]
    options.servers += [ForeignServer(text) for text in options.peer]
    return options


def cell_of(name, offer):
    match = re.fullmatch(r"(\d+)(Ki|Mi)?x(\d+)x(\d+)", name)
    if not match:
        die(f"a cell is SIZExCONNECTIONSxDEPTH, such as 16x64x1 or 1Kix1000x16, not '{name}'")
    unit = {None: 1, "Ki": 1 << 10, "Mi": 1 << 20}[match[2]]
    cell = Cell(int(match[1]) * unit, int(match[3]), int(match[4]), offer)
    if min(cell.size, cell.connections, cell.depth) < 1:
        die(f"'{name}' has a zero in it")
    if cell.size * cell.connections * cell.depth * COPIES > MEMORY_MAX:
        die(f"'{name}' may take more than {MEMORY_MAX >> 30} GiB of memory")
    return cell


class StartedServer:
    """A server that is started for each measurement, on a port of its own."""

    def __init__(self, text, options):
        name, _, self.command = text.partition("=")
        self.name, _, self.version = name.partition("@")
        self.cpu = options.server_cpu
        self.log = os.path.join(options.logs, self.name + ".log")

    @contextlib.contextmanager
    def running(self):
        port = free_port()
        command = [part.replace("{port}", str(port)) for part in shlex.split(self.command)]
        with open(self.log, "ab") as log:
            process = start(command, self.cpu, stdout=log, stderr=log)
        try:
            await_port(process, port)
            yield f"ws://127.0.0.1:{port}/", process.pid
        finally:
            stop(process)


class ForeignServer:
    """A server that somebody else started, and ends."""

    def __init__(self, text):
        match = re.fullmatch(r"([A-Za-z0-9._-]+)=(ws://(?:127\.0\.0\.1|localhost|\[::1\]):\d+/\S*),(\d+)", text)
        if not match:
            die(f"--peer takes NAME=ws://127.0.0.1:PORT/PATH,PID (loopback only), not '{text}'")
        self.name, self.url, self.pid, self.version = match[1], match[2], int(match[3]), "unknown"
        if not os.path.exists(f"/proc/{self.pid}/stat"):
            die(f"--peer {self.name}: there is no process {self.pid}")

    @contextlib.contextmanager
    def running(self):
        yield self.url, self.pid


class Failure(Exception):
    """A server or a load that did not do what it should."""


def run(options, writer, file):
    files_max = raise_open_files()
    cells = [cell for cell in options.cells if enough_files(cell, files_max)]
    servers = [server for server in options.servers if answers_right(server, options)]
    if not cells or not servers:
        die("nothing is left to measure")
    beside = BESIDE_SECONDS + options.warmup + options.seconds
    seconds = options.rounds * len(servers) * sum(
        beside + BESIDE_SECONDS_PER_CONNECTION * cell.connections for cell in cells)
    print(f"{len(cells)} cells, {options.rounds} rounds, {len(servers)} servers: about {seconds / 60:.0f} minutes;"
          f" servers on processor {options.server_cpu}, load on {options.load_cpu}", flush=True)
    facts = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": options.commit, "machine": machine(), "kernel": os.uname().release.split("-")[0],
    }
    started = time.monotonic()
    for done, cell in enumerate(cells):
        print(f"[{(time.monotonic() - started) / 60:5.1f} min] {cell_name(cell)} ({done + 1} of {len(cells)})", flush=True)
        for turn in range(options.rounds):
            # Each server has its turn in each place.
            shift = turn % len(servers)
            for server in servers[shift:] + servers[:shift]:
                row = facts | {"server": server.name, "version": server.version, "round": turn + 1,
                               "seconds": options.seconds} | cell._asdict() | measure(server, cell, options)
                writer.writerow(row)
                file.flush()
    return facts["date"]


def answers_right(server, options):
    """Whether it echoes text and binary of many sizes, byte for byte. The floor need only answer."""
    try:
        # The floor's text is still masked, and so not text.
        kinds = ("--binary",) if server.name == FLOOR else ("--binary", "--text")
        offers = [f"--deflate={offer}" for offer in OFFERS] if options.deflate else [""]
        for kind, offer in itertools.product(kinds, offers):
            with server.running() as (url, pid):
                check = "--no-validate" if server.name == FLOOR else "--validate"
                report = load(url, pid, options, ["-c", "4", "-s", "16:8,128:4,1024:4,65536:2,1048576:1", "--depth", "4",
                                                  "-d", "300ms", "-w", "100ms", kind, check] + [offer] * bool(offer), 30)
                if report["error_count"] or not report["operations"]:
                    raise Failure("its echo is not what was sent: " + json.dumps(report["errors"])[:300])
    except Failure as failure:
        print(f"skipping {server.name}: {failure}", flush=True)
        return False
    return True


def measure(server, cell, options):
    """One row's figures. A failure is a row, too: it must not vanish from the results."""
    arguments = ["-c", str(cell.connections), "-s", str(cell.size), "--no-validate",
                 "-d", f"{options.seconds * 1000:.0f}ms", "-w", f"{options.warmup * 1000:.0f}ms"]
    if cell.deflate:
        arguments += ["--text", f"--deflate={cell.deflate}"]
    else:
        arguments.append("--binary")
    if cell.depth > 1:
        arguments += ["--depth", str(cell.depth)]
    seconds_max = options.seconds + options.warmup + 30 + cell.connections / 200
    for attempt in range(ATTEMPTS):
        try:
            with server.running() as (url, pid):
                strangers = Strangers(pid, options)
                report = load(url, pid, options, arguments, seconds_max)
                share = strangers.share()
        except Failure as failure:
            print(f"  {server.name}: {failure}", flush=True)
            return {"errors": 1}
        if share <= results.QUIET:
            break
        again = "measuring again" if attempt + 1 < ATTEMPTS else "keeping the row, which says so"
        print(f"  {server.name}: other programs took {share:.0%} of a processor; {again}", flush=True)
    consumed, latency = report["server"] or {}, report["latency_us"]
    errors, reply_share = report["error_count"], ""
    if cell.deflate and report["totals"]["received"]:
        compressed, inflated, received = (
            report["totals"][name] for name in ("compressed_bytes", "inflated_bytes", "received_bytes"))
        if inflated < COMPRESSED_MIN * received:
            print(f"  {server.name}: it sent {1 - inflated / received:.0%} as it was", flush=True)
            errors += 1
        reply_share = rounded(compressed / max(inflated, 1))
    return {
        "others_cpu_share": f"{share:.3f}",
        "messages_per_s": f"{report['operations_per_s']:.1f}",
        "mb_per_s": f"{report['mb_per_s']:.2f}",
        "server_cpu_us_per_message": rounded(consumed.get("cpu_us_per_operation")),
        "server_cpu_share": rounded(consumed.get("cpu_share")),
        "load_cpu_share": rounded(report["client"]["cpu_share"]),
        "p50_us": rounded(latency["p50"]),
        "p99_us": rounded(latency["p99"]),
        "server_rss_mib": rounded(consumed.get("resident_bytes", 0) / (1 << 20)),
        "errors": errors,
        "reply_share": reply_share,
    }


class Strangers:
    """What else ran on the two processors during a measurement."""

    def __init__(self, pid, options):
        self.pid, self.cpus = pid, {f"cpu{cpu}" for cpu in (options.server_cpu, options.load_cpu)}
        self.before, self.time = self.ticks(), time.monotonic()

    def share(self):
        """As a share of one processor. A tick is too coarse for very short times."""
        ticks = self.ticks() - self.before
        return max(0.0, ticks / os.sysconf("SC_CLK_TCK") / (time.monotonic() - self.time))

    def ticks(self):
        """What was used on the processors, less what the server and our children that ended used."""
        with open("/proc/stat", encoding="utf-8") as file:
            lines = [line.split() for line in file]
        # All but idle and waiting. What the machine's host took away (steal) is a stranger's, too.
        busy = sum(sum(map(int, line[1:4] + line[6:9])) for line in lines if line[0] in self.cpus)
        try:
            with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            raise Failure("the server ended while it was measured; see its log") from None
        ended = os.times()
        children = (ended.children_user + ended.children_system) * os.sysconf("SC_CLK_TCK")
        return busy - int(fields[11]) - int(fields[12]) - children


def rounded(value):
    return "" if value is None else f"{value:.5g}"


def load(url, pid, options, arguments, seconds_max):
    command = [options.load, "bench", url, "--server-pid", str(pid), "--json", "-", "--pin", str(options.load_cpu)]
    process = start(command + arguments, options.load_cpu, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=seconds_max)
    except subprocess.TimeoutExpired:
        raise Failure(f"the load took longer than {seconds_max:.0f} s") from None
    finally:
        stop(process)
    try:
        return json.loads(out)
    except ValueError:
        words = " ".join(err.decode(errors="replace").split())
        raise Failure(f"the load failed (exit code {process.returncode}): {words[:300]}") from None


# --- processes -----------------------------------------------------------------------------------

def start(command, cpu, **streams):
    libc = ctypes.CDLL(None)

    def prepare():
        os.sched_setaffinity(0, {cpu})
        # If this script is killed outright, what it started goes too (PR_SET_PDEATHSIG).
        libc.prctl(1, signal.SIGKILL)

    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=prepare, **streams)
    except OSError as error:
        raise Failure(f"can't start {command[0]}: {error.strerror}") from None


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_port(process, port):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failure(f"it ended at once, with exit code {process.returncode}; see its log")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise Failure(f"it does not listen after {START_SECONDS} s; see its log")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def raise_open_files():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def enough_files(cell, files_max):
    if files_max == resource.RLIM_INFINITY or cell.connections + FILES_BESIDE <= files_max:
        return True
    print(f"skipping {cell_name(cell)}: the limit on open files is {files_max}; raise it with"
          f" 'prlimit --pid $$ --nofile={cell.connections + FILES_BESIDE}' as root")
    return False


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return f"{models[0] if models else os.uname().machine} ({os.cpu_count()} processors)"


def open_csv(path):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if os.path.exists(path) and os.path.getsize(path) > 0:
        results.read(path)  # must be of this kind, to be added to
        return open(path, "a", newline="", encoding="utf-8")
    file = open(path, "w", newline="", encoding="utf-8")
    csv.writer(file, lineterminator="\n").writerow(results.COLUMNS)
    return file


def die(message):
    sys.exit(f"compare.sh: {message}")


if __name__ == "__main__":
    main()
