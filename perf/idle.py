#!/usr/bin/env python3
"""The figures of scripts/idle-million.sh, which runs it; it is seldom called by hand.

Usage: perf/idle.py sample FILE.csv SERVER_PID LOAD_PID SERVER_CPU LOAD_CPU
       perf/idle.py bare ws://ADDRESS:PORT/ COUNT
       perf/idle.py last FILE.csv
       perf/idle.py report DIRECTORY [--output FILE.md] [--check]

`sample` writes a row a second, more often among the first connections, until it is ended: sockets, memory and
processor time; LOAD_PID is 0 where there is no load. `bare` opens connections that only the server has in a
ring, and holds them until its standard input ends. `last` says where a run is. `report` prints what DIRECTORY
has of a run, and writes it as Markdown with a plot beside it.
"""

import csv
import json
import os
import pathlib
import re
import signal
import socket
import sys
import time

import plot

PAGE = 4096
# So many connections are the first ones, of which more is to be seen than a row a second shows.
FIRST, FIRST_INTERVAL_S, INTERVAL_S = 120_000, 0.2, 1.0
# Slab caches that may belong to connections. Those of file systems grow and shrink by themselves.
CACHES = re.compile(
    r"TCP|(request|tw)_sock_TCP|sock_inode_cache|filp|bfilp|dentry|lsm_(file|inode)_cache|io_kiocb|kmalloc-\w+"
    r"|kmalloc-(cg|rcl)-\w+|eventpoll_\w+|ep_head|tcp_bind2?_bucket|skbuff_\w+|inet_peer\w*|:[\w-]+")
# The end that connects has an entry for its port; the one that accepts shares that of the listener.
OF_THE_LOAD = {"tcp_bind_bucket", "tcp_bind2_bucket"}
# Below so many objects for a connection it is something else that came and went.
LEAST_OBJECTS = 0.1
# The run with bare sockets is small, so more of what it shows is something else.
FEW_OBJECTS = 0.25
# In the window of a run, so much at both ends is left out, since its bounds are known from outside.
MARGIN_S = 1.5
# So much of the server's processor beside its process is more than interrupts take.
DISTURBED_SHARE = 0.2
SERVER_BYTES_MAX, SERVER_BYTES_FROM = 160, 100_000
STOPPED = re.compile(r"stopped: (\d+) connections, (\d+) messages, (\d+) refused requests, (\d+) protocol errors,"
                     r" (\d+) pings, (\d+) connections silent")


def main():
    command, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if command == "sample" and len(arguments) == 5:
        sample(arguments[0], *map(int, arguments[1:]))
    elif command == "bare" and len(arguments) == 2:
        bare(arguments[0], int(arguments[1]))
    elif command == "last" and len(arguments) == 1:
        last(arguments[0])
    elif command == "report" and arguments:
        return report(arguments)
    else:
        sys.exit(__doc__)
    return 0


# --- what is read ---------------------------------------------------------------------------------

def parse_slabinfo(text, aliases=()):
    """{cache: (objects, size, pages)} of those that may belong to connections.

    A cache that is merged with one of the load's own goes by that one's name: {name shown: name meant}.
    """
    caches = {}
    for line in text.splitlines():
        words = line.split()
        if line.startswith(("slabinfo", "#")) or len(words) < 15:
            continue
        name = dict(aliases).get(words[0], words[0])
        if CACHES.fullmatch(name):
            objects, size, pages_each, slabs = (int(words[index]) for index in (1, 3, 5, 14))
            caches[name] = objects, size, slabs * pages_each
    return caches


def find_aliases(directory="/sys/kernel/slab"):
    """Caches of one size are merged, and slabinfo shows one of their names: which it is that we look for."""
    try:
        links = {name: os.readlink(os.path.join(directory, name)) for name in os.listdir(directory)
                 if os.path.islink(os.path.join(directory, name))}
    except OSError:
        return {}
    meant = {links[name]: name for name in sorted(OF_THE_LOAD, reverse=True) if name in links}
    return {name: meant[target] for name, target in links.items() if target in meant}


def parse_sockstat(text):
    """{protocol: {field: number}}"""
    parts = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    pairs = ((name, words.split()) for name, words in parts)
    return {name: dict(zip(words[::2], map(int, words[1::2]))) for name, words in pairs}


def parse_fields(text):
    """{field: kilobytes} of /proc/meminfo or /proc/PID/status."""
    return {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def parse_processor(text, number):
    """{kind: ticks} of a processor in /proc/stat."""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == [f"cpu{number}"]:
            kinds = "user nice system idle iowait irq softirq steal".split()
            return dict(zip(kinds, map(int, words[1:])))
    return {}


def parse_process(text):
    """(user, system) ticks in /proc/PID/stat, whose second field may have spaces and parentheses in it."""
    words = text.rpartition(")")[2].split()
    return int(words[11]), int(words[12])


def read(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# --- while it runs --------------------------------------------------------------------------------

def sample(path, server, load, server_cpu, load_cpu):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    aliases, tick, columns = find_aliases(), os.sysconf("SC_CLK_TCK"), None
    base = None
    with open(path, "w", newline="", encoding="utf-8") as file:
        while os.path.exists(f"/proc/{server}"):
            began = time.time()
            row = reading(server, load, server_cpu, load_cpu, aliases, tick)
            columns = columns or list(row)
            csv.writer(file).writerows([columns] * (base is None) + [[row.get(name, 0) for name in columns]])
            file.flush()
            base = row["sockets"] if base is None else base
            connections = (row["sockets"] - base) / 2
            interval = FIRST_INTERVAL_S if connections < FIRST else INTERVAL_S
            time.sleep(max(0.0, began + interval - time.time()))


def reading(server, load, server_cpu, load_cpu, aliases, tick):
    tcp = parse_sockstat(read(f"/proc/{server}/net/sockstat")).get("TCP", {})
    row = {
        "time": round(time.time(), 3),
        "sockets": tcp.get("inuse", 0),
        "time_wait": tcp.get("tw", 0),
        "tcp_pages": tcp.get("mem", 0),
        "mem_available_kb": parse_fields(read("/proc/meminfo")).get("MemAvailable", 0),
    }
    stat = read("/proc/stat")
    for name, pid, cpu in (("server", server, server_cpu), ("load", load, load_cpu)):
        text = read(f"/proc/{pid}/stat") if pid else ""
        user, system = parse_process(text) if text else (0, 0)
        row[f"{name}_rss_kb"] = parse_fields(read(f"/proc/{pid}/status")).get("VmRSS", 0) if pid else 0
        row[f"{name}_user_s"], row[f"{name}_system_s"] = user / tick, system / tick
        ticks = parse_processor(stat, cpu)
        for kind in ("user", "system", "irq", "softirq", "steal"):
            row[f"{name}_cpu_{kind}_s"] = ticks.get(kind, 0) / tick
    for name, (objects, size, pages) in sorted(parse_slabinfo(read("/proc/slabinfo"), aliases).items()):
        row[f"objects:{name}:{size}"], row[f"pages:{name}"] = objects, pages
    return row


def bare(url, count):
    """Only sockets: nothing is armed at this end, so what a ring takes is the server's alone."""
    host, port = re.fullmatch(r"ws://([\d.]+):(\d+)/", url).groups()
    request = (f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").encode()
    connections = []
    for _ in range(count):
        connection = socket.create_connection((host, int(port)), timeout=10)
        connection.sendall(request)
        connections.append(connection)
    for connection in connections:
        answer = b""
        # A ping may follow at once.
        while b"\r\n\r\n" not in answer:
            part = connection.recv(4096)
            if not part:
                sys.exit("the server closed a connection that was to be held")
            answer += part
    print("open", flush=True)
    sys.stdin.read()


def last(path):
    rows = read_rows(path, tail=True)
    if len(rows) < 2:
        return
    row, base = rows[-1], rows[0]["sockets"]
    print(f"{(row['sockets'] - base) / 2:,.0f} connections, server {row['server_rss_kb'] / 1024:,.0f} MiB,"
          f" load {row['load_rss_kb'] / 1024:,.0f} MiB, {row['mem_available_kb'] / 2**20:,.1f} GiB available")


def read_rows(path, tail=False):
    lines = read(path).splitlines(keepends=True)
    # The last line may be half written.
    lines = [line for line in lines if line.endswith("\n")]
    if tail and len(lines) > 3:
        lines = lines[:2] + lines[-1:]
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]


# --- the figures ----------------------------------------------------------------------------------

class Run:
    """Rows of a run, and what its load said."""

    def __init__(self, rows, load, began, ended):
        self.rows, self.load = rows, load
        before = [row for row in rows if row["time"] < began] or rows[:1]
        self.first = before[-1]
        opened = began + load["opening_s"] + load["options"]["warmup_s"] + MARGIN_S
        closing = ended - load["closing_s"] - MARGIN_S
        self.hold = [row for row in rows if opened <= row["time"] <= closing]
        if len(self.hold) < 2:
            sys.exit("the run was too short: hold for 5 s at least")
        self.ended = ended

    def connections(self, row):
        return max(0.0, (row["sockets"] - self.first["sockets"]) / 2)

    def share(self, *columns):
        """Of a processor while holding."""
        first, final = self.hold[0], self.hold[-1]
        spent = sum(final[column] - first[column] for column in columns)
        return spent / (final["time"] - first["time"])

    def busy(self, name):
        return self.share(*(f"{name}_cpu_{kind}_s" for kind in ("user", "system", "irq", "softirq")))

    def is_disturbed(self):
        return self.busy("server") - self.process() > DISTURBED_SHARE

    def process(self):
        """What the server's process used of its processor."""
        return self.share("server_user_s", "server_system_s")

    def middle(self):
        return self.hold[len(self.hold) // 2]

    def connection_seconds(self):
        pairs = zip(self.rows, self.rows[1:])
        return sum((self.connections(a) + self.connections(b)) / 2 * (b["time"] - a["time"])
                   for a, b in pairs if b["time"] <= self.ended)

    def opening(self):
        """Rows up to the first of those that hold."""
        return [row for row in self.rows if self.first["time"] <= row["time"] <= self.hold[0]["time"]]

    def bytes_at(self, count, column="server_rss_kb"):
        """Growth for each of `count` connections while they were opened, between the two rows around it."""
        rows = self.opening()
        for a, b in zip(rows, rows[1:]):
            below, above = self.connections(a), self.connections(b)
            if below < count <= above:
                part = (count - below) / (above - below)
                at = a[column] + (b[column] - a[column]) * part
                return (at - self.first[column]) * 1024 / count
        return None


def slab_growth(before, after, count):
    """{cache: (objects, bytes, bytes of pages)} for each connection."""
    growth = {}
    for column in after:
        if column.startswith("objects:"):
            name, size = column[len("objects:"):].rsplit(":", 1)
            objects = (after[column] - before[column]) / count
            pages = (after[f"pages:{name}"] - before[f"pages:{name}"]) * PAGE / count
            if objects >= LEAST_OBJECTS:
                growth[name] = objects, objects * int(size), pages
    return growth


def server_part(both, alone):
    """What part of each cache's growth is the server's, given that of a run with bare sockets at the other end.

    What those have two of for a connection is in both ends alike. What they have one of is the server's ring,
    but for ports, which are of the end that connects. All else is the load's.
    """
    parts = {}
    for name, (objects, _, _) in both.items():
        found = alone.get(name, (0.0, 0.0, 0.0))[0]
        if name in OF_THE_LOAD or found < FEW_OBJECTS:
            parts[name] = 0.0
        elif found >= 1.5:
            parts[name] = 0.5
        else:
            parts[name] = min(found / objects, 1.0)
    return parts


def report(arguments):
    directory, output, check = pathlib.Path(arguments[0]), None, "--check" in arguments
    if "--output" in arguments:
        output = pathlib.Path(arguments[arguments.index("--output") + 1])
    facts = dict(line.split("=", 1) for line in read(directory / "facts").splitlines())
    figures = Figures(directory, facts)
    for name, value in figures.table():
        print(f"  {name:34} {value}")
    print("\n" + "\n".join(figures.caches_text()))
    if output:
        output.write_text(figures.markdown(output.with_suffix(".svg").name), encoding="utf-8")
        output.with_suffix(".svg").write_text(draw(figures), encoding="utf-8")
        print(f"\nwritten: {output} and {output.with_suffix('.svg')}")
    if not check:
        return 0
    wrong = figures.wrong()
    print("\n" + "\n".join([f"check failed: {sentence}" for sentence in wrong] or ["check passed"]))
    return 1 if wrong else 0


class Figures:
    def __init__(self, directory, facts):
        load, alone = (json.loads((directory / f"{name}.json").read_text()) for name in ("load", "alone"))
        self.facts, self.load = facts, load
        time_of = lambda name: float(facts[name])
        self.run = Run(read_rows(directory / "load.csv"), load, time_of("load_began"), time_of("load_ended"))
        self.alone = Run(read_rows(directory / "alone.csv"), alone, time_of("alone_began"), time_of("alone_ended"))
        stopped = STOPPED.search(read(directory / "server.log"))
        self.stopped = [int(number) for number in stopped.groups()] if stopped else None
        totals = load["totals"]
        self.asked, self.opened, self.held = int(facts["connections"]), totals["opened"], totals["held"]
        self.lost = self.opened - self.held
        self.sockets_left = int(facts["sockets_after"]) - int(facts["sockets_before"])
        count = max(self.held, 1)
        rss = [row["server_rss_kb"] for row in self.run.hold]
        self.server_growth = (max(rss) - self.run.first["server_rss_kb"]) * 1024
        self.server_bytes = self.server_growth / count
        self.load_bytes = (self.run.middle()["load_rss_kb"] * 1024) / count
        self.slabs = slab_growth(self.run.first, self.run.middle(), count)
        bare_rows = read_rows(directory / "bare.csv")
        bare_count = int(facts["bare"])
        self.bare = slab_growth(bare_rows[0], bare_rows[-1], bare_count) if len(bare_rows) > 1 else {}
        self.parts = server_part(self.slabs, self.bare)
        self.available = (self.run.first["mem_available_kb"] - self.run.middle()["mem_available_kb"]) * 1024 / count

    def slab_sum(self, which, server_only=False):
        return sum(growth[which] * (self.parts[name] if server_only else 1) for name, growth in self.slabs.items())

    def pings(self):
        """A second while holding, as all pings over the time that connections were open tell."""
        pings = self.stopped[4] if self.stopped else 0
        return pings / self.run.connection_seconds() * self.held if pings else 0.0

    def ping_cost(self):
        """What was used beyond the run without idle connections, in words."""
        beyond = (self.run.process() - self.alone.process(), self.run.busy("server") - self.alone.busy("server"))
        process, processor = (f"{share / self.pings() * 1e6:.1f} µs" if share > 0 else "too little to tell"
                              for share in beyond)
        return f"{process} of the server's process" + (
            "" if self.run.is_disturbed() or self.alone.is_disturbed() else f", {processor} of its processor")

    def wrong(self):
        """What --check objects to. Nothing of it depends on time."""
        sentences = []
        if self.opened != self.asked:
            sentences.append(f"{self.opened:,} of {self.asked:,} connections were opened")
        if self.lost:
            sentences.append(f"{self.lost:,} connections were lost")
        if self.load["error_count"]:
            sentences.append(f"{self.load['error_count']:,} errors: " + error_names(self.load))
        if self.sockets_left > 0:
            sentences.append(f"{self.sockets_left:,} sockets were left after closing")
        if not self.stopped:
            sentences.append("the server did not say what it had done")
        elif self.stopped[0] != self.opened or self.stopped[3] or self.stopped[5]:
            sentences.append("the server counted %d connections, %d protocol errors, %d silent"
                             % (self.stopped[0], self.stopped[3], self.stopped[5]))
        if self.held >= SERVER_BYTES_FROM and self.server_bytes > SERVER_BYTES_MAX:
            sentences.append(f"the server's process grew by {self.server_bytes:.0f} bytes a connection, not"
                             f" {SERVER_BYTES_MAX} at most")
        return sentences

    def table(self):
        run, load, facts = self.run, self.load, self.facts
        user, system = (run.share(f"server_{kind}_s") for kind in ("user", "system"))
        busy = run.busy("server")
        disturbed = " (disturbed: take the figures of the process)" if run.is_disturbed() else ""
        rows = [
            ("connections", f"{self.asked:,} asked for, {self.opened:,} opened, {self.held:,} held, {self.lost:,} lost"),
            ("errors", f"{load['error_count']:,} {error_names(load)}".strip()),
            ("opened in", f"{load['opening_s']:.1f} s: {load['opens_per_s'] or 0:,.0f} a second"),
            ("closed in", f"{load['closing_s']:.1f} s; sockets left: {max(self.sockets_left, 0)}"),
            ("server's last line", "stopped: %d connections, %d messages, %d refused, %d protocol errors, %d pings, %d silent"
             % tuple(self.stopped) if self.stopped else "none"),
            ("server process, at its start", mib(run.first["server_rss_kb"] * 1024)),
            ("server process, growth", f"{mib(self.server_growth)}: {self.server_bytes:.0f} B a connection"),
            ("load process, all of it", f"{mib(run.middle()['load_rss_kb'] * 1024)}: {self.load_bytes:.0f} B a connection"),
            ("kernel, both ends", self.kernel_text()),
            ("kernel, the server's end", self.kernel_text(server_only=True)),
            ("fall of MemAvailable", f"{self.available:,.0f} B a connection: both ends, processes and kernel"),
            ("server process while holding", f"{percent(user)} user, {percent(system)} system"),
            ("server's whole processor", f"{percent(busy)}; the process's user space is {percent(user / busy if busy else 0)} of that"),
            ("beside the process", f"{percent(max(busy - user - system, 0))}: interrupts and other programs" + disturbed),
            ("the same with the active alone", percent(self.alone.busy("server")) + (" (disturbed)" if self.alone.is_disturbed() else "")),
            ("load's whole processor", percent(run.busy("load"))),
        ]
        if self.pings():
            answered, sent = load["totals"]["pings"], self.stopped[4]
            rows += [("pings", f"{sent:,} sent, {answered:,} answered; {self.pings():,.0f} a second while holding"),
                     ("a ping and its pong", self.ping_cost())]
        latency, bare = load["latency_us"], self.alone.load["latency_us"]
        rows += [
            ("echoes of the active ones", f"{load['options']['active']} connections, {load['operations_per_s']:,.0f} a second"),
            ("p50, p99, longest", latency_text(latency)),
            ("the same without idle ones", latency_text(bare)),
            ("p99 among them to alone", f"{latency['p99'] / bare['p99']:.2f}" if bare["p99"] else "unknown"),
            ("idle ones verified", f"{load['verified_latency_us']['count']:,} by an echo; p99 {microseconds(load['verified_latency_us']['p99'])}"),
            ("stolen by the host", f"{percent(run.share('server_cpu_steal_s'))} of the server's processor, {percent(run.share('load_cpu_steal_s'))} of the load's"),
            ("server", facts["server"]),
            ("load", facts["load"]),
            ("set for it", facts["tuned"]),
            ("machine", facts["machine"]),
            ("version", facts["version"]),
        ]
        return rows

    def kernel_text(self, server_only=False):
        if not self.slabs:
            return "unknown: only root may read /proc/slabinfo"
        return (f"{self.slab_sum(1, server_only):,.0f} B a connection in objects,"
                f" {self.slab_sum(2, server_only):,.0f} B in pages")

    def cache_rows(self):
        for name, (objects, size, pages) in sorted(self.slabs.items(), key=lambda item: -item[1][1]):
            yield name, f"{objects:.2f}", f"{self.bare.get(name, (0,))[0]:.2f}", f"{size:,.0f}", f"{pages:,.0f}", \
                f"{size * self.parts[name]:,.0f}"

    def caches_text(self):
        form = "  {:<20} {:>8} {:>12} {:>8} {:>10} {:>14}"
        return [form.format(*row) for row in [CACHE_HEAD, *self.cache_rows()]] if self.slabs else []

    def flatness(self):
        counts = [count for count in (10_000, 100_000) if count < self.held * 0.9]
        at = [(count, self.run.bytes_at(count)) for count in counts]
        return [(count, value) for count, value in at if value is not None] + [(self.held, self.server_bytes)]

    def markdown(self, svg):
        flat = self.flatness()
        return MARKDOWN.format(
            held=f"{self.held:,}", date=self.facts["date"], command=self.facts["command"],
            hold=f"{self.load['window_s']:g} s", settle=f"{self.load['options']['warmup_s']:g} s", active=self.load["options"]["active"], bare=f"{int(self.facts['bare']):,}",
            svg=svg, table=table_text([("", "")] + self.table()), caches=table_text([CACHE_HEAD, *self.cache_rows()]),
            flat=table_text([["connections"] + [f"{count:,}" for count, _ in flat],
                             ["bytes for each"] + [f"{value:.0f}" for _, value in flat]]))


CACHE_HEAD = ("cache", "objects", "bare run", "bytes", "in pages", "server's bytes")
MARKDOWN = """# {held} idle connections

Written by `scripts/idle-million.sh` on {date}; every figure is from that run. To repeat it:

```sh
{command}
```

The server is on one processor, the load on another, and they speak over loopback. The load opens the
connections, lets them settle for {settle} (pings that fell due while all was busy with opening are made up for),
holds them for {hold} more, with {active} of them carrying echoes, verifies a sample of the others by an echo, and
closes all. Before, the same {active} are measured without any others.

{table}

"Whole processor" is user, system and interrupts, whoever ran there, since the network's work of the server's
connections is done there too. What a ping and its pong cost is what was used beyond the run without idle
connections, over the pings. How many there were in a second follows from all pings and the time that all
connections were open.

## Memory over connections

![memory over the number of connections]({svg})

Growth of the server's process for each connection, as they were opened and when all were:

{flat}

What comes once for all of them, such as receive buffers, is in it and weighs more the fewer there are.

## In the kernel

Objects and bytes for each connection, as slab caches grew between the start and the middle of the hold. What
both ends have is measured. The server's part is told by a run with {bare} bare sockets, at whose end no
ring is: what there is two of there belongs to both ends alike, which is assumed to be half and half; what there
is one of is the server's ring, but for the port, which the connecting end has. What is outside of slabs (the
rings' tables, the hash of connections) is only in the fall of MemAvailable, and so is whatever else the
machine did meanwhile.

{caches}
"""


def error_names(load):
    names = ", ".join(f"{error['name']} {error['count']:,}" for error in load["errors"])
    return f"({names})" if names else ""


def table_text(rows):
    lines = [list(row) for row in rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def latency_text(latency):
    return ", ".join(microseconds(latency[name]) for name in ("p50", "p99", "max"))


def microseconds(value):
    return f"{value:.0f} µs" if value < 1e3 else f"{value / 1e3:.2f} ms" if value < 1e6 else f"{value / 1e6:.2f} s"


def mib(count):
    return f"{count / 2**20:,.1f} MiB"


def percent(share):
    return f"{share * 100:.1f} %"


# --- the plot -------------------------------------------------------------------------------------

PANEL_WIDTH, PANEL_HEIGHT, LEFT, TOP, GAP = 400, 260, 66, 78, 90
PANELS = [("of the processes, MiB", 2**20, [("server", "#d1495b"), ("load", "#00798c")]),
          ("of the kernel, both ends, GiB", 2**30, [("slabs", "#2e4057"), ("fall of MemAvailable", "#edae49")])]


def draw(figures):
    run = figures.run
    rows = run.opening()
    points = {
        "server": [(run.connections(row), (row["server_rss_kb"] - run.first["server_rss_kb"]) * 1024) for row in rows],
        "load": [(run.connections(row), row["load_rss_kb"] * 1024) for row in rows],
        "slabs": [(run.connections(row), slab_pages(row) - slab_pages(run.first)) for row in rows],
        "fall of MemAvailable": [(run.connections(row), (run.first["mem_available_kb"] - row["mem_available_kb"]) * 1024)
                                 for row in rows],
    }
    width, height = LEFT + 2 * PANEL_WIDTH + GAP + 30, TOP + PANEL_HEIGHT + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        plot.text(12, 20, "Memory over connections, while they are opened", size=15),
        plot.text(12, 38, f"{figures.facts['machine']}, {figures.facts['date']}", fill="#666"),
    ]
    for number, (title, unit, series) in enumerate(PANELS):
        left = LEFT + number * (PANEL_WIDTH + GAP)
        parts += panel(left, title, unit, [(name, colour, points[name]) for name, colour in series])
    return "\n".join(parts) + "\n</svg>\n"


def slab_pages(row):
    return sum(value for column, value in row.items() if column.startswith("pages:")) * PAGE


def panel(left, title, unit, series):
    bottom = TOP + PANEL_HEIGHT
    most_x = max(x for _, _, points in series for x, _ in points) or 1
    most_y = max(max(y for _, _, points in series for _, y in points) / unit, 1e-3)
    step_x, step_y = nice_step(most_x), nice_step(most_y)
    scale_x, scale_y = PANEL_WIDTH / most_x, PANEL_HEIGHT / most_y
    parts = [plot.text(left, TOP - 12, title, weight="bold")]
    for index in range(int(most_y / step_y) + 1):
        y = bottom - index * step_y * scale_y
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + PANEL_WIDTH}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(plot.text(left - 6, y + 4, f"{index * step_y:g}", anchor="end", fill="#666"))
    for index in range(int(most_x / step_x) + 1):
        x = left + index * step_x * scale_x
        parts.append(plot.text(x, bottom + 16, f"{index * step_x:,.0f}", anchor="middle", fill="#666"))
    parts.append(plot.text(left + PANEL_WIDTH / 2, bottom + 34, "connections", anchor="middle", fill="#666"))
    for index, (name, colour, points) in enumerate(series):
        line = " ".join(f"{left + x * scale_x:.1f},{bottom - max(y, 0) / unit * scale_y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [plot.dot(left + 16, TOP + 14 + index * 18, colour, name), plot.text(left + 26, TOP + 18 + index * 18, name)]
    return parts


def nice_step(most):
    """A round number of which there are four to ten up to `most`."""
    power = 1.0
    while power * 10 <= most:
        power *= 10
    while power > most:
        power /= 10
    return next(power * part for part in (0.2, 0.25, 0.5, 1, 2) if most / (power * part) <= 5.0)


if __name__ == "__main__":
    sys.exit(main())
