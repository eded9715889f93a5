#!/usr/bin/env python3
"""Draws rows of compare.sh as SVG: how much more CPU each server takes than ringsock, cell by cell.

Usage: perf/plot.py FILE.csv FILE.svg
"""

import math
import sys
from xml.sax.saxutils import escape

from results import FLOOR, OURS, Results, read, size_name

PANELS = [
    ("server CPU for a message: times ringsock's", "server_cpu_us_per_message"),
    ("messages a second: times fewer than ringsock's", "messages_per_s"),
]
COLOURS = ["#9a9a9a", "#d1495b", "#edae49", "#00798c", "#6a4c93", "#66a182", "#2e4057", "#e07a5f", "#3d85c6", "#8d5524"]
LEAST, MOST = 0.5, 32
LABELS, PANEL, GAP, ROW, TOP, BOTTOM = 190, 400, 30, 22, 92, 46


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    results = Results(read(sys.argv[1]))
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(draw(results))


def draw(results):
    others = [name for name in results.servers if name != OURS]
    colours = dict(zip(others, (COLOURS if FLOOR in others else COLOURS[1:]) * len(others)))
    width, height = LABELS + 2 * (PANEL + GAP), TOP + ROW * len(results.cells) + BOTTOM
    first = results.rows[0]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(12, 20, "ringsock and its peers: a dot right of the line is where ringsock is better", size=15),
        text(12, 38, f"{first['machine']}, Linux {first['kernel']}, {first['date'][:10]}, commit {first['commit']};"
                     " medians, and the span of the rounds", fill="#666"),
    ]
    at = 12
    for name in others:
        parts += [dot(at + 5, 56, colours[name], name), text(at + 14, 60, name)]
        at += 14 + 7.4 * len(name) + 16
    for row, cell in enumerate(results.cells):
        y = TOP + ROW * row + ROW / 2
        if row % 2 == 0:
            parts.append(f'<rect x="0" y="{y - ROW / 2}" width="{width}" height="{ROW}" fill="#f5f5f5"/>')
        label = f"{size_name(cell.size)} B, {cell.connections} conn., depth {cell.depth}"
        parts.append(text(LABELS - 12, y + 4, label, anchor="end"))
    for number, (title, column) in enumerate(PANELS):
        parts += panel(results, others, colours, title, column, LABELS + number * (PANEL + GAP))
    return "\n".join(parts) + "\n</svg>\n"


def panel(results, others, colours, title, column, left):
    end = TOP + ROW * len(results.cells)
    parts = [text(left, TOP - 12, title, weight="bold")]
    for exponent in range(int(math.log2(LEAST)), int(math.log2(MOST)) + 1):
        value = 2.0 ** exponent
        line = ("#333", 1.5) if value == 1 else ("#ddd", 1)
        x = left + place(value)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{end}" stroke="{line[0]}" stroke-width="{line[1]}"/>')
        parts.append(text(x, end + 16, f"{value:g}", anchor="middle", fill="#666"))
    for row, cell in enumerate(results.cells):
        for index, name in enumerate(others):
            ratio = results.ratio(cell, name, column)
            if not ratio:
                continue
            # Apart by a little, so that equals can be told.
            y = TOP + ROW * row + ROW / 2 + (index - (len(others) - 1) / 2) * 1.3
            x1, x, x2 = (left + place(value) for value in (ratio.least, ratio.median, ratio.most))
            parts.append(f'<line x1="{x1:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y:.1f}" stroke="{colours[name]}" opacity="0.5"/>')
            parts.append(dot(x, y, colours[name], f"{name}: {ratio.median:.2f} ({ratio.least:.2f} to {ratio.most:.2f})"))
    return parts


def place(value):
    """Logarithmic; what lies outside is drawn at the edge."""
    share = math.log(min(max(value, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return share * PANEL


def dot(x, y, colour, title):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.85"><title>{escape(title)}</title></circle>'


def text(x, y, words, anchor="start", fill="#222", size=12, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}"'
            f' font-weight="{weight}">{escape(words)}</text>')


if __name__ == "__main__":
    main()
