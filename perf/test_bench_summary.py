"""Tests of bench_summary.py. Run: python3 -m unittest discover perf"""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import bench_summary


class BenchSummary(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name)

    def write(self, group, column, row, nanoseconds, throughput, folder="new"):
        path = self.root / group / column / row.replace("/", "_") / folder
        path.mkdir(parents=True)
        names = {"group_id": group, "function_id": column, "value_str": row, "throughput": throughput}
        (path / "benchmark.json").write_text(json.dumps(names))
        estimate = {"point_estimate": nanoseconds}
        (path / "estimates.json").write_text(json.dumps({"median": estimate, "mean": {"point_estimate": 1e9}}))

    def check(self, expect):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            bench_summary.main(str(self.root))
        self.assertEqual(out.getvalue(), expect)

    def test_bytes_are_gigabytes_a_second_and_elements_nanoseconds_each(self):
        self.write("mask", "ringsock", "1024", 10, {"Bytes": 1024})
        self.write("queue", "ringsock", "16", 1600, {"Elements": 16})
        self.check(
            "| mask | ringsock | ringsock / best rival |\n| --- | ---: | ---: |\n| 1 KiB | 102 GB/s |  |\n\n"
            "| queue | ringsock | ringsock / best rival |\n| --- | ---: | ---: |\n| 16 | 100 ns |  |\n")

    def test_the_best_rival_is_neither_a_part_of_the_work_nor_another_way_of_ours(self):
        for column, nanoseconds in [("(memcpy)", 1), ("ringsock, AVX2", 2), ("b", 40), ("a", 30), ("ringsock", 10)]:
            self.write("mask", column, "16", nanoseconds, {"Bytes": 16})
        self.check(
            "| mask | ringsock | a | b | ringsock, AVX2 | (memcpy) | ringsock / best rival |\n"
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
            "| 16 B | 1.6 GB/s | 0.53 GB/s | 0.40 GB/s | 8.0 GB/s | 16 GB/s | 3.0 × a |\n")

    def test_without_a_rival_or_ours_there_is_no_ratio_and_a_missing_cell_is_empty(self):
        self.write("a", "ringsock", "9", 5, {"Elements": 1})
        self.write("a", "loop", "10", 5, {"Elements": 1})
        self.check(
            "| a | ringsock | loop | ringsock / best rival |\n"
            "| --- | ---: | ---: | ---: |\n"
            "| 9 | 5.0 ns |  |  |\n"
            "| 10 |  | 5.0 ns |  |\n")

    def test_rows_are_in_the_order_of_their_numbers(self):
        for row in ["64 KiB", "mixed", "1 MiB", "16", "125 B", "1 KiB", "7 bits", "-"]:
            self.write("a", "ringsock", row, 5, {"Elements": 1})
        rows = sorted(bench_summary.read(self.root)["a"], key=bench_summary.row_order)
        self.assertEqual(rows, ["7 bits", "16", "125 B", "1 KiB", "64 KiB", "1 MiB", "-", "mixed"])

    def test_groups_are_sorted_and_only_the_newest_run_counts(self):
        self.write("b", "ringsock", "1", 5, {"Elements": 1})
        self.write("a", "ringsock", "1", 5, {"Elements": 1})
        self.write("a", "ringsock", "1", 7, {"Elements": 1}, folder="base")
        head = "| %s | ringsock | ringsock / best rival |\n| --- | ---: | ---: |\n| 1 | 5.0 ns |  |\n"
        self.check(head % "a" + "\n" + head % "b")

    def test_nothing_measured_says_what_to_run(self):
        with self.assertRaisesRegex(SystemExit, "run: cargo bench"):
            bench_summary.main(str(self.root))

    def test_numbers_have_two_digits_or_more(self):
        pairs = [(1234.5, "1234"), (99.6, "100"), (9.97, "10"), (9.94, "9.9"), (0.996, "1.0"), (0.42, "0.42")]
        for number, expect in pairs:
            self.assertEqual(bench_summary.significant(number), expect)


if __name__ == "__main__":
    unittest.main()
