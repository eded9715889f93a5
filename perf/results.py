"""Measurements as rows of CSV, and what they say about ringsock against the others."""

import csv
import math
import statistics
from collections import defaultdict, namedtuple

COLUMNS = [
    "date", "commit", "machine", "kernel", "server", "version", "size", "connections", "depth", "round",
    "seconds", "messages_per_s", "mb_per_s", "server_cpu_us_per_message", "server_cpu_share",
    "load_cpu_share", "others_cpu_share", "p50_us", "p99_us", "server_rss_mib", "errors", "deflate", "reply_share",
]
OURS = "ringsock"
FLOOR = "floor"
# Above this share of its processor the load is what limits a cell, if the server had time left.
BUSY = 0.97
# What others may use of a processor during a measurement that counts as undisturbed.
QUIET = 0.05
# The fields that make a cell, and so make two rows comparable. `deflate` is what the load offers, or empty.
Cell = namedtuple("Cell", "size connections depth deflate", defaults=[""])
Ratio = namedtuple("Ratio", "median least most")


def size_name(size):
    for unit, name in ((1 << 20, "Mi"), (1 << 10, "Ki")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


def cell_name(cell):
    name = f"{size_name(cell.size)}x{cell.connections}x{cell.depth}"
    return f"{name} {cell.deflate}" if cell.deflate else name


def read(path):
    """Reads rows; numbers become numbers, what was not measured None."""
    texts = {"date", "commit", "machine", "kernel", "server", "version", "deflate"}
    wholes = {"size", "connections", "depth", "round", "errors"}
    rows = []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise SystemExit(f"{path}: not a file of measurements: its first line is not {','.join(COLUMNS)}")
        for row in reader:
            for name, value in row.items():
                if name not in texts:
                    row[name] = None if value == "" else int(value) if name in wholes else float(value)
            rows.append(row)
    return rows


class Results:
    """Rows by cell and server."""

    def __init__(self, rows):
        self.rows = rows
        self.groups = defaultdict(list)
        for row in rows:
            cell = Cell(row["size"], row["connections"], row["depth"], row["deflate"])
            self.groups[cell, row["server"]].append(row)
        self.cells = sorted({cell for cell, _ in self.groups})
        names = list(dict.fromkeys(row["server"] for row in rows))
        first = [name for name in (OURS, FLOOR) if name in names]
        self.servers = first + [name for name in names if name not in first]

    def good(self, cell, server):
        """The rows that measured something and nothing went wrong in."""
        rows = self.groups.get((cell, server), [])
        return [row for row in rows if row["errors"] == 0 and row["messages_per_s"]]

    def errors(self, cell, server):
        return sum(row["errors"] for row in self.groups.get((cell, server), []))

    def median(self, cell, server, column):
        values = [row[column] for row in self.good(cell, server) if row[column] is not None]
        return statistics.median(values) if values else None

    def ratio(self, cell, server, column):
        """How many times better ringsock was, round by round: rates are better high, the rest low."""
        ours = {(row["date"], row["round"]): row[column] for row in self.good(cell, OURS)}
        ratios = []
        for row in self.good(cell, server):
            mine, theirs = ours.get((row["date"], row["round"])), row[column]
            if mine and theirs:
                ratios.append(mine / theirs if column == "messages_per_s" else theirs / mine)
        return Ratio(statistics.median(ratios), min(ratios), max(ratios)) if ratios else None

    def disturbed(self, cell, server):
        return any((row["others_cpu_share"] or 0) > QUIET for row in self.good(cell, server))

    def load_was_the_limit(self, cell, server):
        load, own = (self.median(cell, server, name) for name in ("load_cpu_share", "server_cpu_share"))
        return load is not None and own is not None and load >= BUSY > own


def verdict(results, cell, server):
    """What ringsock loses in a row; with a question mark if the rounds disagree."""
    lost = []
    for name, column in (("rate", "messages_per_s"), ("CPU", "server_cpu_us_per_message")):
        ratio = results.ratio(cell, server, column)
        if ratio and ratio.median < 1:
            lost.append(name + ("?" if ratio.most >= 1 else ""))
    return lost


def table(results, write=print):
    """Prints medians, ratios with their spread, and what is lost."""
    lost, compared = [], 0
    means = defaultdict(list)
    for cell in results.cells:
        write("")
        offer = f", deflate with {cell.deflate}" if cell.deflate else ""
        write(f"{size_name(cell.size)} B, {cell.connections} connections, {cell.depth} under way on each{offer}")
        write(f"  {'':20}{'messages/s':>12}  {'ringsock is':19}{'CPU us/msg':>11}  {'ringsock is':19}"
              f"{'p50 us':>9}{'p99 us':>10}" + (f"{'replies':>10}" if cell.deflate else ""))
        for server in results.servers:
            if (cell, server) not in results.groups:
                continue
            rate, cpu = (results.median(cell, server, name) for name in ("messages_per_s", "server_cpu_us_per_message"))
            errors = results.errors(cell, server)
            if rate is None:
                write(f"  {server:20}not measured: {errors} errors")
                continue
            ratios = [results.ratio(cell, server, name) for name in ("messages_per_s", "server_cpu_us_per_message")]
            if server == OURS:
                ratios = [None, None]
            p50, p99 = (results.median(cell, server, name) for name in ("p50_us", "p99_us"))
            star = "*" if results.load_was_the_limit(cell, server) else " "
            share = results.median(cell, server, "reply_share")
            share = "" if share is None else f"{share:>10.1%}"
            note = f"  {errors} errors in other rounds" if errors else ""
            if results.disturbed(cell, server):
                note += "  disturbed"
            if server != FLOOR and not server.startswith(OURS) and ratios[0]:
                compared += 1
                means[server].append(ratios)
                what = verdict(results, cell, server)
                if what:
                    note += "  LOST: " + ", ".join(what)
                    lost.append((cell, server, what))
            write(f"  {server:20}{rate:>11,.0f}{star}  {spread(ratios[0]):19}{number(cpu):>11}  "
                  f"{spread(ratios[1]):19}{number(p50):>9}{number(p99):>10}{share}{note}")
    write("")
    write("'ringsock is 1.20 (1.15-1.26)': 1.20 times as fast, or as cheap, as the median of the rounds has it,")
    write("between 1.15 and 1.26 in single rounds. Below 1 the row is LOST; with ? the rounds disagree.")
    write("disturbed: other programs took more than a twentieth of a processor in at least one round.")
    write("*: the load was the limit and the server had time left, so compare CPU, not the rate.")
    if any(cell.deflate for cell in results.cells):
        write("replies: what is left of them when they are compressed.")
    if means:
        write("")
        write("geometric means over the cells measured")
        for server, ratios in sorted(means.items(), key=lambda item: geometric(item[1], 1) or 0):
            rate, cpu = (geometric(ratios, which) for which in (0, 1))
            write(f"  {server:20}rate {number(rate):>6}   CPU {number(cpu):>6}   ({len(ratios)} cells)")
    write("")
    write(f"ringsock loses {len(lost)} of {compared} rows" + (":" if lost else ""))
    for cell, server, what in lost:
        write(f"  {cell_name(cell):26}{server:20}{', '.join(what)}")


def geometric(ratios, which):
    values = [pair[which].median for pair in ratios if pair[which]]
    return math.exp(statistics.fmean(map(math.log, values))) if values else None


def spread(ratio):
    return f"{ratio.median:.2f} ({ratio.least:.2f}-{ratio.most:.2f})" if ratio else ""


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
