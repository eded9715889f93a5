"""The outcomes of all checks as a table of features by clients. Fails unless every cell is right.

    table.py [--clients js,py,ruby,perl] [--without-outage] RESULTS...

A cell is right if its check passed, or the client says that it does not have the feature. One without an outcome was
not run, which is as wrong as a failure.
"""

import argparse
import sys
from pathlib import Path

CLIENTS = {
    "js": ("@stomp/stompjs", ["1.0", "1.1", "1.2", "binary"]),
    "py": ("stomp.py", ["1.0", "1.1", "1.2", "ws", "ws-binary"]),
    "ruby": ("Ruby stomp", ["1.0", "1.1", "1.2"]),
    "perl": ("Net::Stomp", ["1.0", "1.1", "1.2"]),
}
FEATURES = [
    "connect", "disconnect", "subscribe", "utf-8", "binary body", "large body", "split frames",
    "ack auto", "ack client", "ack individual", "nack", "transaction commit", "transaction abort", "receipts",
    "error destination", "error duplicate id", "error transaction",
    "topics", "wildcards", "competing", "reply-to",
    "heart-beats", "silent client", "silent server", "reconnect",
]
OUTAGE = ["silent server", "reconnect"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--without-outage", action="store_true")
    parser.add_argument("results", nargs="+", type=Path)
    arguments = parser.parse_args()

    clients = {name: CLIENTS[name] for name in arguments.clients.split(",")}
    features = [feature for feature in FEATURES if not (arguments.without_outage and feature in OUTAGE)]
    outcomes, odd = read(arguments.results)
    columns = [f"{name}-{column}" for name, (_, columns) in clients.items() for column in columns]
    wrong = [
        f"{column}, {feature}: {reason}"
        for column in columns
        for feature in features
        for outcome, reason in [outcomes.get((column, feature), NOT_RUN)]
        if outcome not in ("ok", "-")
    ]
    odd += [f"no such cell: {column}, {feature}" for column, feature in outcomes
            if column not in columns or feature not in features]
    print_table(clients, features, outcomes)
    for line in wrong + odd:
        print(line)
    cells = len(columns) * len(features)
    absent = sum(outcome == "-" for outcome, _ in outcomes.values())
    print(f"STOMP clients: {cells - len(wrong) - absent} of {cells - absent} cells are right", end="")
    print(f", {absent} are of features that a client does not have")
    sys.exit(1 if wrong or odd else 0)


NOT_RUN = ("FAIL", "not run")


def read(paths):
    """What the programs said, by column and feature, and the lines that are no outcome."""
    outcomes, odd = {}, []
    for path in paths:
        for line in path.read_text(errors="replace").splitlines():
            fields = line.split("\t")
            if len(fields) == 4 and (fields[0], fields[1]) not in outcomes:
                outcomes[fields[0], fields[1]] = fields[2], fields[3]
            else:
                odd.append(f"{path.name}: {line}")
    return outcomes, odd


def print_table(clients, features, outcomes):
    width = max(map(len, features)) + 2
    heads, names = "", ""
    for head, columns in clients.values():
        row = "".join(f"{column:<{cell_width(column)}}" for column in columns)
        heads += f"{head:<{max(len(row), len(head) + 2)}}"
        names += f"{row:<{max(len(row), len(head) + 2)}}"
    print(" " * width + heads.rstrip())
    print(" " * width + names.rstrip())
    for feature in features:
        line = f"{feature:<{width}}"
        for name, (head, columns) in clients.items():
            row = "".join(
                f"{outcomes.get((f'{name}-{column}', feature), NOT_RUN)[0]:<{cell_width(column)}}" for column in columns
            )
            line += f"{row:<{max(len(row), len(head) + 2)}}"
        print(line.rstrip())


def cell_width(column):
    return max(len(column), len("FAIL")) + 2


main()
