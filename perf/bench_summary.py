#!/usr/bin/env python3
"""Prints what `cargo bench` has measured as Markdown tables, one for each group.

Usage: perf/bench_summary.py [CRITERION_DIRECTORY]     (target/criterion by default)

Cells are medians: gigabytes a second, or nanoseconds for each element where the benchmark counts
elements. The last column is how many times as fast `ringsock` is as the fastest rival. No rival is
what begins with `ringsock, ` (another way of ours) or is put in parentheses (a part of the work).
"""

import json
import pathlib
import re
import sys

OURS = "ringsock"
KIB = 1 << 10


def main(directory):
    groups = read(pathlib.Path(directory))
    if not groups:
        sys.exit("%s: no measurements; run: cargo bench" % directory)
    print("\n\n".join(table(name, groups[name]) for name in sorted(groups)))


def read(directory):
    """The measurements as {group: {row: {column: (nanoseconds, unit, count)}}}."""
    groups = {}
    for path in directory.glob("**/new/benchmark.json"):
        benchmark = json.loads(path.read_text())
        estimates = json.loads((path.parent / "estimates.json").read_text())
        ((unit, count),) = benchmark["throughput"].items()
        rows = groups.setdefault(benchmark["group_id"], {})
        columns = rows.setdefault(benchmark["value_str"], {})
        columns[benchmark["function_id"]] = (estimates["median"]["point_estimate"], unit, count)
    return groups


def table(name, rows):
    columns = sorted({column for row in rows.values() for column in row}, key=column_order)
    head = [name] + columns + ["%s / best rival" % OURS]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for row in sorted(rows, key=row_order):
        cells = [cell(rows[row][column]) if column in rows[row] else "" for column in columns]
        lines.append([row_name(row, rows[row])] + cells + [advantage(rows[row])])
    return "\n".join("| %s |" % " | ".join(line) for line in lines)


def cell(measurement):
    nanoseconds, unit, count = measurement
    if unit == "Bytes":
        return "%s GB/s" % significant(count / nanoseconds)
    return "%s ns" % significant(nanoseconds / count)


def advantage(row):
    """How many times as fast ours is as the fastest rival, and which that is."""
    rivals = {column: row[column][0] for column in row if is_rival(column)}
    if OURS not in row or not rivals:
        return ""
    best = min(rivals, key=rivals.get)
    return "%s × %s" % (significant(rivals[best] / row[OURS][0]), best)


def is_rival(column):
    return column != OURS and not column.startswith((OURS + ", ", "("))


def column_order(column):
    """Ours, the rivals, other ways of ours, parts of the work."""
    rank = 0 if column == OURS else 1 if is_rival(column) else 3 if column.startswith("(") else 2
    return rank, column


def row_order(row):
    """By the numbers in it: `9` before `10`, `1 KiB` after `125 B`."""
    match = re.match(r"(\d+)(?: ([KM])iB)?", row)
    if not match:
        return 1, 0, row
    return 0, int(match.group(1)) * {None: 1, "K": KIB, "M": KIB * KIB}[match.group(2)], row


def row_name(row, columns):
    """The length of what is measured in bytes, and any other row as it is."""
    if not row.isdigit() or any(unit != "Bytes" for _, unit, _ in columns.values()):
        return row
    length = int(row)
    for size, suffix in ((KIB * KIB, "MiB"), (KIB, "KiB")):
        if length >= size and length % size == 0:
            return "%d %s" % (length // size, suffix)
    return "%d B" % length


def significant(number):
    """Two digits at least, and no more behind the point than they need."""
    if number >= 9.95:
        return "%.0f" % number
    return "%.1f" % number if number >= 0.995 else "%.2f" % number


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    main(sys.argv[1] if len(sys.argv) == 2 else "target/criterion")
