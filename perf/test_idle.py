"""Tests of idle.py. Run: python3 -m unittest discover perf"""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest
import xml.dom.minidom

import idle

SLABINFO = """slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> : slabdata
TCP               600054 600060   2368   13    8 : tunables    0    0    0 : slabdata  46158  46158      0
ext4_inode_cache  31111  31122   1128   14    4 : tunables    0    0    0 : slabdata   2223   2223      0
eventpoll_epi       100    128    128   32    1 : tunables    0    0    0 : slabdata      4      4      0
kmalloc-cg-32         7    128     32  128    1 : tunables    0    0    0 : slabdata      1      1      0
"""
SOCKSTAT = """sockets: used 10
TCP: inuse 7 orphan 0 tw 5 alloc 9 mem 463
UDP: inuse 0 mem 0
"""
FACTS = """connections=1000
bare=100
alone_began=99
alone_ended=115
load_began=200
load_ended=231
sockets_before=3
sockets_after=3
date=2026-01-02 03:04 UTC
command=scripts/idle-million.sh --connections 1000
server=ringsock serve
load=ringsock bench
tuned=nothing
machine=a machine
version=ringsock 1
"""
STOPPED = "stopped: 1000 connections, 9 messages, 0 refused requests, 0 protocol errors, 2000 pings, 0 connections silent\n"


class Parsing(unittest.TestCase):
    def test_slabinfo_gives_caches_of_connections_by_the_name_that_is_meant(self):
        expect = {"TCP": (600054, 2368, 369264), "tcp_bind2_bucket": (100, 128, 4), "kmalloc-cg-32": (7, 32, 1)}
        self.assertEqual(idle.parse_slabinfo(SLABINFO, {"eventpoll_epi": "tcp_bind2_bucket"}), expect)

    def test_slabinfo_that_can_not_be_read_has_no_caches(self):
        self.assertEqual(idle.parse_slabinfo(""), {})

    def test_sockstat(self):
        self.assertEqual(idle.parse_sockstat(SOCKSTAT)["TCP"], {"inuse": 7, "orphan": 0, "tw": 5, "alloc": 9, "mem": 463})

    def test_fields_are_kilobytes_and_all_else_is_left_out(self):
        text = "Name:\tringsock\nVmRSS:\t    2048 kB\nThreads:\t3\nMemAvailable:   77 kB\n"
        self.assertEqual(idle.parse_fields(text), {"VmRSS": 2048, "MemAvailable": 77})

    def test_a_process_may_have_any_name(self):
        text = "12 (a) b (c) S 1 12 12 0 -1 4194560 1 2 3 4 70 80 0 0 20 0 1"
        self.assertEqual(idle.parse_process(text), (70, 80))

    def test_a_processor_is_found_by_its_number(self):
        text = "cpu  1 1 1 1 1 1 1 1 0 0\ncpu1 9 9 9 9 9 9 9 9 0 0\ncpu11 1 2 3 4 5 6 7 8 0 0\n"
        expect = {"user": 1, "nice": 2, "system": 3, "idle": 4, "iowait": 5, "irq": 6, "softirq": 7, "steal": 8}
        self.assertEqual(idle.parse_processor(text, 11), expect)


class Splitting(unittest.TestCase):
    def test_growth_is_for_each_connection_and_what_hardly_grew_is_left_out(self):
        before = {"objects:TCP:2000": 50, "pages:TCP": 10, "objects:dentry:192": 5, "pages:dentry": 1}
        after = {"objects:TCP:2000": 250, "pages:TCP": 110, "objects:dentry:192": 6, "pages:dentry": 9}
        self.assertEqual(idle.slab_growth(before, after, 100), {"TCP": (2.0, 4000.0, 4096.0)})

    def test_the_server_has_half_of_what_both_ends_have_and_all_that_its_ring_takes(self):
        both = {name: (objects, 1.0, 1.0) for name, objects in
                [("TCP", 2.0), ("io_kiocb", 2.0), ("kmalloc-512", 1.0), ("tcp_bind2_bucket", 1.5), ("kmalloc-32", 0.5)]}
        alone = {"TCP": (1.98, 1, 1), "io_kiocb": (1.0, 1, 1), "tcp_bind2_bucket": (2.0, 1, 1), "kmalloc-32": (0.9, 1, 1)}
        expect = {"TCP": 0.5, "io_kiocb": 0.5, "kmalloc-512": 0.0, "tcp_bind2_bucket": 0.0, "kmalloc-32": 1.0}
        self.assertEqual(idle.server_part(both, alone), expect)


class Report(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name)
        self.write("facts", FACTS)
        self.write("server.log", STOPPED)
        self.write_run("alone", count=0, began=99, opening=0.1, closing=0.1)
        self.write_run("load", count=1000, began=200, opening=10.0, closing=1.0)
        self.write("bare.csv", "time,sockets,objects:TCP:2000,pages:TCP\n1,3,0,0\n2,203,200,100\n")

    def write(self, name, text):
        (self.root / name).write_text(text)

    def write_run(self, name, count, began, opening, closing, **changes):
        names = ["sockets", "server_rss_kb", "load_rss_kb", "mem_available_kb", "objects:TCP:2000", "pages:TCP"]
        names += [f"{end}_{kind}_s" for end in ("server", "load") for kind in
                  ("user", "system", "cpu_user", "cpu_system", "cpu_irq", "cpu_softirq", "cpu_steal")]
        lines = [",".join(["time"] + names)]
        for second in range(-1, 32):
            open_now = min(max(second, 0), opening) / opening * count
            row = [3 + 2 * open_now, 1000 + open_now / 10, 500, 10**6 - 8 * open_now, 2 * open_now, open_now]
            # The process is used for a tenth, half of it in user space, and interrupts take as much.
            row += [second * share for share in (0.05, 0.05, 0.05, 0.05, 0.0, 0.1, 0.0)] * 2
            lines.append(",".join(str(value) for value in [began + second] + row))
        self.write(f"{name}.csv", "\n".join(lines) + "\n")
        latency = {"p50": 100.0, "p99": 500.0 if count else 250.0, "max": 2_000_000.0, "count": 7}
        load = {
            "opening_s": opening, "closing_s": closing, "opens_per_s": 100.0, "operations_per_s": 1000.0, "window_s": 19.0,
            "options": {"warmup_s": 1.0, "active": 100}, "error_count": 0, "errors": [],
            "totals": {"opened": count, "held": count, "pings": 2000},
            "latency_us": latency, "verified_latency_us": latency,
        }
        self.write(f"{name}.json", json.dumps({**load, **changes}))

    def report(self, *options):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = idle.report([str(self.root), *options])
        return status, out.getvalue()

    def check(self, *lines):
        text = " ".join(self.report()[1].split())
        for line in lines:
            self.assertIn(line, text)

    def test_the_table_has_what_was_measured(self):
        self.check(
            "connections 1,000 asked for, 1,000 opened, 1,000 held, 0 lost",
            "server process, growth 0.1 MiB: 102 B a connection",
            "kernel, both ends 4,000 B a connection in objects, 4,096 B in pages",
            "kernel, the server's end 2,000 B a connection in objects, 2,048 B in pages",
            "fall of MemAvailable 8,192 B a connection",
            "server process while holding 5.0 % user, 5.0 % system",
            "server's whole processor 20.0 %; the process's user space is 25.0 % of that",
            "p50, p99, longest 100 µs, 500 µs, 2.00 s",
            "p99 among them to alone 2.00",
            "opened in 10.0 s: 100 a second")

    def test_pings_are_counted_over_the_time_that_connections_were_open(self):
        # 2,000 pings; 5,000 seconds of connections while they are opened, then 21,000 until the load ends.
        self.check("pings 2,000 sent, 2,000 answered; 77 a second while holding")

    def test_all_is_well(self):
        status, text = self.report("--check")
        self.assertEqual((status, text.splitlines()[-1]), (0, "check passed"))

    def test_the_check_names_all_that_is_wrong(self):
        self.write("facts", FACTS.replace("sockets_after=3", "sockets_after=9"))
        self.write("server.log", STOPPED.replace("0 connections silent", "4 connections silent"))
        totals = {"opened": 999, "held": 990, "pings": 2000}
        errors = [{"name": "refused", "count": 3}]
        self.write_run("load", 1000, 200, 10.0, 1.0, totals=totals, error_count=3, errors=errors)
        status, text = self.report("--check")
        self.assertEqual(status, 1)
        self.assertEqual([line for line in text.splitlines() if line.startswith("check failed")], [
            "check failed: 999 of 1,000 connections were opened",
            "check failed: 9 connections were lost",
            "check failed: 3 errors: (refused 3)",
            "check failed: 6 sockets were left after closing",
            "check failed: the server counted 1000 connections, 0 protocol errors, 4 silent"])

    def test_a_server_that_grew_too_much_fails_only_with_many_connections(self):
        figures = idle.Figures(self.root, dict(line.split("=", 1) for line in FACTS.splitlines()))
        figures.server_bytes = 161
        self.assertEqual(figures.wrong(), [])
        figures.held = 100_000
        self.assertEqual(figures.wrong(), ["the server's process grew by 161 bytes a connection, not 160 at most"])

    def test_without_slabinfo_the_rest_is_there(self):
        self.write("bare.csv", "")
        path = self.root / "load.csv"
        path.write_text(path.read_text().replace("objects:TCP:2000", "nothing"))
        self.check("kernel, both ends unknown: only root may read /proc/slabinfo", "server process, growth 0.1 MiB")

    def test_markdown_and_plot_are_written_side_by_side(self):
        path = self.root / "idle.md"
        status, _ = self.report("--output", str(path))
        text = path.read_text()
        self.assertEqual(status, 0)
        self.assertIn("# 1,000 idle connections", text)
        self.assertIn("](idle.svg)", text)
        self.assertIn("| TCP | 2.00 | 2.00 | 4,000 | 4,096 | 2,000 |", text)
        self.assertIn("| connections | 1,000 |", text)
        self.assertEqual(len(xml.dom.minidom.parse(str(self.root / "idle.svg")).getElementsByTagName("polyline")), 4)

    def test_growth_at_a_count_is_between_the_rows_around_it(self):
        figures = idle.Figures(self.root, dict(line.split("=", 1) for line in FACTS.splitlines()))
        # 1 kB for ten connections.
        self.assertAlmostEqual(figures.run.bytes_at(250), 102.4)
        self.assertIsNone(figures.run.bytes_at(1001))

    def test_steps_of_an_axis_are_round(self):
        pairs = [(1_000_000, 200_000), (100_000, 20_000), (130, 50), (8.5, 2), (4.2, 1), (0.9, 0.2)]
        for most, expect in pairs:
            self.assertAlmostEqual(idle.nice_step(most), expect)


if __name__ == "__main__":
    unittest.main()
