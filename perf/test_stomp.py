"""Tests of stomp.py and stomp_results.py. Run: python3 -m unittest discover perf"""

import pathlib
import tempfile
import unittest

import stomp
import stomp_results
from stomp_results import Results, typed

ROW = {name: "" for name in stomp_results.COLUMNS} | {
    "date": "today", "workload": "topic-1", "options": "--stomp=topic -c 1", "errors": "0", "others_cpu_share": "0.01",
    "load_cpu_share": "0.5", "server_cpu_share": "0.99", "deliveries_per_s": "100", "deliveries_per_cpu_s": "200",
    "p50_us": "500", "p99_us": "2500", "server_rss_mib": "64",
}


def row(server, turn, **values):
    transport = server.partition("-")[2]
    return typed(ROW | {"server": server, "transport": transport, "round": str(turn)} | values)


class StompResults(unittest.TestCase):
    def test_ratios_are_to_rabbitmq_over_the_same_transport_round_by_round(self):
        results = Results([
            row("rabbitmq-ws", 1), row("rabbitmq-tcp", 1), row("rabbitmq-tcp", 2, deliveries_per_s="50"),
            row("ringsock-tcp", 1, deliveries_per_s="300", p99_us="1250"),
            row("ringsock-tcp", 2, deliveries_per_s="100", p99_us="5000"),
            row("ringsock-ws", 1, deliveries_per_s="400"),
        ])
        self.assertEqual(results.ratio("topic-1", "ringsock-tcp", "deliveries_per_s"), (2.5, 2.0, 3.0))
        self.assertEqual(results.ratio("topic-1", "ringsock-tcp", "p99_us"), (1.25, 0.5, 2.0))
        self.assertEqual(results.ratio("topic-1", "ringsock-ws", "deliveries_per_s"), (4.0, 4.0, 4.0))
        self.assertIsNone(results.ratio("topic-1", "rabbitmq-ws", "deliveries_per_s"))

    def test_without_rabbitmq_there_are_no_ratios_and_other_transports_are_better_than_none(self):
        self.assertIsNone(Results([row("activemq-tcp", 1)]).ratio("topic-1", "activemq-tcp", "p50_us"))
        results = Results([row("rabbitmq-ws", 1), row("activemq-tcp", 1)])
        self.assertEqual(results.base("activemq-tcp"), "rabbitmq-ws")

    def test_what_went_wrong_or_disturbed_is_told(self):
        results = Results([
            row("rabbitmq-tcp", 1, errors="1", deliveries_per_s=""),
            row("ringsock-tcp", 1, others_cpu_share="0.3", load_cpu_share="0.99", server_cpu_share="0.6"),
        ])
        lines = []
        stomp_results.table(results, lines.append)
        text = "\n".join(lines)
        self.assertIn("| rabbitmq-tcp | not measured |", text)
        self.assertIn("| 1 errors ", text)
        self.assertIn("| disturbed, the load was the limit |", text)

    def test_a_table_is_markdown_with_units(self):
        lines = []
        stomp_results.table(Results([row("rabbitmq-ws", 1), row("rabbitmq-ws", 2, p50_us="12000")]), lines.append)
        table = [line for line in lines if line.startswith("|")]
        self.assertEqual(len({line.count("|") for line in table}), 1, table)
        self.assertIn("| 6.25 ms | 2.5 ms | 99% ", table[2])

    def test_rows_are_read_as_they_were_written_and_other_files_are_refused(self):
        with tempfile.TemporaryDirectory() as directory:
            stem = str(pathlib.Path(directory) / "rows")
            with stomp.open_out(stem) as file:
                file.write(",".join("7" if name == "round" else "" for name in stomp_results.COLUMNS) + "\n")
            self.assertEqual(stomp_results.read(stem + ".csv")[0]["round"], 7.0)
            with self.assertRaises(SystemExit):
                stomp.open_out(stem)
            (pathlib.Path(directory) / "other.csv").write_text("a,b\n", encoding="utf-8")
            with self.assertRaises(SystemExit):
                stomp_results.read(pathlib.Path(directory) / "other.csv")


class LastLine(unittest.TestCase):
    def test_what_a_program_says_first_of_how_it_was_called_counts(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("error: unexpected argument '--stomp' found\n\nFor more information, try '--help'.\n")
            file.flush()
            self.assertEqual(stomp.last_line(file.name), "error: unexpected argument '--stomp' found")
            file.seek(0)
            file.truncate()
            self.assertEqual(stomp.last_line(file.name), "it said nothing")


if __name__ == "__main__":
    unittest.main()
