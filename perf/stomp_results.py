"""Measurements of STOMP servers as rows of CSV, and what they say about each against RabbitMQ."""

import csv
import statistics
from collections import defaultdict

from results import BUSY, QUIET, Ratio, number, spread

COLUMNS = [
    "date", "commit", "machine", "kernel", "server", "version", "transport", "workload", "options", "round",
    "seconds", "deliveries_per_s", "deliveries_per_cpu_s", "server_cpu_s", "server_cpu_share", "load_cpu_share",
    "others_cpu_share", "p50_us", "p99_us", "p99_9_us", "max_us", "server_rss_mib", "errors",
]
TEXTS = {"date", "commit", "machine", "kernel", "server", "version", "transport", "workload", "options"}
BASE = "rabbitmq"
# What is compared, and whether more of it is better.
COMPARED = {"deliveries_per_s": True, "deliveries_per_cpu_s": True, "p50_us": False, "p99_us": False}
HEAD = ["server", "deliveries/s", "least to most", "deliveries/CPU s", "least to most", "p50", "p99", "server CPU",
        "load CPU", "MiB", "rate ×", "CPU ×", "p50 ×", "p99 ×", ""]


def read(path):
    """Reads rows; numbers become numbers, what was not measured None."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise SystemExit(f"{path}: not a file of measurements: its first line is not {','.join(COLUMNS)}")
        return [typed(row) for row in reader]


def typed(row):
    return {name: value if name in TEXTS else float(value) if value != "" else None for name, value in row.items()}


class Results:
    """Rows by workload and server."""

    def __init__(self, rows):
        self.groups = defaultdict(list)
        for row in rows:
            self.groups[row["workload"], row["server"]].append(row)
        self.workloads = list(dict.fromkeys(row["workload"] for row in rows))
        self.servers = list(dict.fromkeys(row["server"] for row in rows))
        self.transports = {row["server"]: row["transport"] for row in rows}
        self.versions = {row["server"]: row["version"] for row in rows}
        self.options = {row["workload"]: row["options"] for row in rows}

    def good(self, workload, server):
        """The rows that measured something and nothing went wrong in."""
        rows = self.groups.get((workload, server), [])
        return [row for row in rows if row["errors"] == 0 and row["deliveries_per_s"]]

    def errors(self, workload, server):
        return sum(row["errors"] for row in self.groups.get((workload, server), []))

    def values(self, workload, server, column):
        return [row[column] for row in self.good(workload, server) if row[column] is not None]

    def median(self, workload, server, column):
        values = self.values(workload, server, column)
        return statistics.median(values) if values else None

    def span(self, workload, server, column):
        values = self.values(workload, server, column)
        return f"{number(min(values))} to {number(max(values))}" if values else ""

    def base(self, server):
        """RabbitMQ by the same transport, if it was measured."""
        bases = [name for name in self.servers if name.partition("-")[0] == BASE]
        alike = [name for name in bases if self.transports[name] == self.transports[server]]
        return next(iter(alike + bases), None)

    def ratio(self, workload, server, column):
        """How many times better a server was than RabbitMQ, round by round."""
        base = self.base(server)
        if base in (None, server):
            return None
        theirs = {(row["date"], row["round"]): row[column] for row in self.good(workload, base)}
        ratios = []
        for row in self.good(workload, server):
            mine, other = row[column], theirs.get((row["date"], row["round"]))
            if mine and other:
                ratios.append(mine / other if COMPARED[column] else other / mine)
        return Ratio(statistics.median(ratios), min(ratios), max(ratios)) if ratios else None

    def note(self, workload, server):
        notes = []
        errors = self.errors(workload, server)
        if errors:
            notes.append(f"{errors:.0f} errors")
        if any((row["others_cpu_share"] or 0) > QUIET for row in self.good(workload, server)):
            notes.append("disturbed")
        load, own = (self.median(workload, server, name) for name in ("load_cpu_share", "server_cpu_share"))
        if load is not None and own is not None and load >= BUSY > own:
            notes.append("the load was the limit")
        return ", ".join(notes)


def cells(results, workload, server):
    rate = results.median(workload, server, "deliveries_per_s")
    if rate is None:
        return [server, "not measured"] + [""] * (len(HEAD) - 3) + [results.note(workload, server)]
    shares = [results.median(workload, server, f"{who}_cpu_share") for who in ("server", "load")]
    row = [server]
    for column in ("deliveries_per_s", "deliveries_per_cpu_s"):
        row += [number(results.median(workload, server, column)), results.span(workload, server, column)]
    row += [microseconds(results.median(workload, server, column)) for column in ("p50_us", "p99_us")]
    row += ["" if share is None else f"{share:.0%}" for share in shares]
    row += [number(results.median(workload, server, "server_rss_mib"))]
    row += [spread(results.ratio(workload, server, column)) for column in COMPARED]
    return row + [results.note(workload, server)]


def table(results, write=print):
    """Writes a table for each workload, in Markdown that can be read as it stands."""
    for workload in results.workloads:
        servers = [server for server in results.servers if (workload, server) in results.groups]
        rows = [HEAD] + [cells(results, workload, server) for server in servers]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        rows.insert(1, ["-" * width for width in widths])
        write(f"\n### {workload}: `{results.options[workload]}`\n")
        for row in rows:
            write("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |")
    write("")
    write("Medians of the rounds, with the least and the most. The columns with × say how many times better than")
    write("RabbitMQ, over the same transport, a server was: its rate and its deliveries for a second of processor over")
    write("RabbitMQ's, RabbitMQ's latency over its. *disturbed*: other programs took more than a twentieth of a")
    write("processor in at least one round.")


def microseconds(value):
    if value is None:
        return "-"
    return f"{value / 1000:,.3g} ms" if value >= 1000 else f"{value:.3g} µs"
