"""Prints the result of an Autobahn|Testsuite run by case group and fails unless it is clean.

Usage: autobahn_table.py REPORTS_DIRECTORY SUITE_OUTPUT

Runs under Python 3 and 2.7: the machine that has the suite may have only the latter.
"""

from __future__ import print_function

import ast
import io
import json
import os
import re
import sys

GROUPS = {
    1: "Framing",
    2: "Pings/Pongs",
    3: "Reserved Bits",
    4: "Opcodes",
    5: "Fragmentation",
    6: "UTF-8 Handling",
    7: "Close Handling",
    9: "Limits/Performance",
    10: "Misc",
    12: "Compression (payloads)",
    13: "Compression (parameters)",
}
ACCEPTED = ("OK", "INFORMATIONAL")
ROW = "%-28s %5s %5s %14s %6s"


def main(reports, suite_output):
    expected = expected_cases(suite_output)
    results = read_json(os.path.join(reports, "index.json"))
    if len(results) != 1:
        sys.exit("autobahn: no case has a result; is there a server? The suite's output: " + suite_output)
    cases = list(results.values())[0]
    verdicts = dict((case, verdict(result)) for case, result in cases.items())

    print_table(verdicts)
    failed = sorted((c for c in verdicts if verdicts[c] == "other"), key=case_key)
    missing = sorted(set(expected) - set(cases), key=case_key)
    for case in failed:
        print_failure(case, cases[case], reports)
    if missing:
        print("\n%d of %d cases have no result: %s" % (len(missing), len(expected), ", ".join(missing)))
    count = list(verdicts.values()).count
    print("\nAutobahn: %d of %d cases run: %d OK, %d INFORMATIONAL, %d other" % (
        len(cases), len(expected), count("OK"), count("INFORMATIONAL"), count("other")))
    return 1 if failed or missing else 0


def expected_cases(suite_output):
    """The selection as the suite itself resolved it, so that a run cut short cannot pass."""
    with io.open(suite_output, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            match = re.match(r"Cases = (\[.*\])\s*$", line)
            if match:
                cases = ast.literal_eval(match.group(1))
                if cases:
                    return cases
    sys.exit("autobahn: the suite selected no case; its output: %s" % suite_output)


def read_json(path):
    try:
        with io.open(path, encoding="utf-8") as source:
            return json.load(source)
    except (IOError, ValueError) as error:
        sys.exit("autobahn: no usable report: %s" % error)


def verdict(result):
    behaviors = (result["behavior"], result["behaviorClose"])
    if any(behavior not in ACCEPTED for behavior in behaviors):
        return "other"
    return "INFORMATIONAL" if "INFORMATIONAL" in behaviors else "OK"


def print_table(verdicts):
    print()
    print(ROW % ("group", "run", "OK", "INFORMATIONAL", "other"))
    for group in sorted(set(case_key(case)[0] for case in verdicts)):
        name = "%d %s" % (group, GROUPS.get(group, ""))
        print_row(name, [v for case, v in verdicts.items() if case_key(case)[0] == group])
    print_row("all", list(verdicts.values()))


def print_row(name, verdicts):
    print(ROW % (name, len(verdicts),
                 verdicts.count("OK"), verdicts.count("INFORMATIONAL"), verdicts.count("other")))


def print_failure(case, result, reports):
    detail = read_json(os.path.join(reports, result["reportfile"]))
    print("\n%s: %s, close %s" % (case, result["behavior"], result["behaviorClose"]))
    print("  case:     " + plain(detail["description"]))
    print("  expected: " + plain(detail["expectation"]))
    print("  result:   " + plain(detail["result"]))
    print("  close:    %s (code %s)" % (plain(detail["resultClose"]), detail["remoteCloseCode"]))


def plain(text):
    """One line of ASCII out of the suite's HTML: some cases quote text that a terminal would choke on."""
    words = " ".join(re.sub(r"<[^>]*>", " ", text or "-").split())
    words = words.encode("ascii", "backslashreplace").decode("ascii")
    return words if len(words) <= 400 else words[:400] + " ..."


def case_key(case):
    return [int(part) for part in case.split(".")]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
