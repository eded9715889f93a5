#!/usr/bin/env python3
"""Measures STOMP servers in turn under the same load. Started by stomp.sh, which says what is what."""

import argparse
import contextlib
import csv
import datetime
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import namedtuple

import compare
import stomp_results
from compare import Failure, Strangers, rounded

START_SECONDS = 60
STOP_SECONDS = 15
ATTEMPTS = 3
# Before the first round every server has each workload for so long: the Java one compiles what is used often.
PRIME_SECONDS = 3.0
# What a run may take beside its window: opening, draining, closing.
BESIDE_SECONDS_MAX = 90
RABBITMQ = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
ACTIVEMQ = "/usr/share/activemq/bin/activemq.jar"

Workload = namedtuple("Workload", "name options")
# A server by one of its transports.
Entry = namedtuple("Entry", "name server transport")
WORKLOADS = [
    Workload("topic-1", "--stomp=topic -c 1 --depth 64"),
    Workload("topic-50", "--stomp=topic -c 50 --depth 8"),
    Workload("topic-1000", "--stomp=topic -c 1000 --depth 4"),
    Workload("topic-1000-rate", "--stomp=topic -c 1000 --rate 10"),
    Workload("queue-1", "--stomp=queue -c 1 --depth 64 --prefetch 100"),
    Workload("queue-8", "--stomp=queue -c 8 --publishers 8 --queues 8 --depth 16 --prefetch 100"),
    Workload("queue-shared", "--stomp=queue -c 8 --publishers 4 --depth 32 --prefetch 20"),
    Workload("queue-rate", "--stomp=queue -c 4 --publishers 2 --rate 2000 --prefetch 100"),
]
QUICK = ["topic-50", "topic-1000", "queue-8"]
TRANSPORTS = {"ringsock": ["ws", "tcp"], "rabbitmq": ["ws", "tcp"], "activemq": ["tcp"]}


def main():
    options = parse_options()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    if options.report:
        stomp_results.table(stomp_results.Results(stomp_results.read(options.report)))
        return
    # The rows would be there for nothing if they had no file to go to: so that comes first.
    out = open_out(options.out) if options.out else None
    rows = run(options, out)
    results = stomp_results.Results([stomp_results.typed(row) for row in rows])
    if not rows:
        die("nothing was measured")
    stomp_results.table(results)
    if out:
        out.close()
        write_markdown(options, results, rows[0])


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", help="the binary with the subcommand bench")
    parser.add_argument("--ringsock", help="the binary with the subcommand serve")
    parser.add_argument("--only", default="", help="servers and workloads, separated by commas")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--server-cpu", type=int)
    parser.add_argument("--load-cpu", type=int)
    parser.add_argument("--commit", default="")
    parser.add_argument("--out", metavar="STEM", help="where rows and tables go: STEM.csv and STEM.md")
    parser.add_argument("--logs", default=".")
    parser.add_argument("--report", metavar="CSV")
    options = parser.parse_args()
    if options.report:
        return options
    choose_processors(options)
    names = [workload.name for workload in WORKLOADS]
    entries = [f"{server}-{transport}" for server, transports in TRANSPORTS.items() for transport in transports]
    chosen = [word for word in options.only.split(",") if word]
    unknown = [word for word in chosen if word not in names + entries + list(TRANSPORTS)]
    if unknown:
        die(f"there is no server or workload '{unknown[0]}'; there are {', '.join(list(TRANSPORTS) + entries + names)}")
    wanted = [word for word in chosen if word in names] or (QUICK if options.quick else names)
    options.workloads = [workload for workload in WORKLOADS if workload.name in wanted]
    wanted = [word for word in chosen if word not in names] or list(TRANSPORTS)
    options.entries = [entry for entry in entries if entry in wanted or entry.partition("-")[0] in wanted]
    return options


def choose_processors(options):
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        die("this takes two processors, one for the server and one for the load")
    options.load_cpu = cpus[0] if options.load_cpu is None else options.load_cpu
    options.server_cpu = cpus[-1] if options.server_cpu is None else options.server_cpu
    if options.server_cpu == options.load_cpu or not {options.server_cpu, options.load_cpu} <= set(cpus):
        die(f"the server and the load need a processor each, of {cpus}")


# --- servers -------------------------------------------------------------------------------------

class Server:
    """A server on loopback that runs as long as all is measured."""

    name, login = "", ()

    def __init__(self, options):
        self.options, self.process = options, None
        self.log = os.path.join(options.logs, f"stomp-{self.name}.log")
        self.ports = {}
        self.version = "unknown"

    def url(self, transport):
        path = {"ws": self.path}.get(transport, "")
        return f"{transport}://127.0.0.1:{self.ports[transport]}{path}"

    @contextlib.contextmanager
    def running(self):
        with tempfile.TemporaryDirectory(prefix="ringsock-stomp-", ignore_cleanup_errors=True) as directory:
            with contextlib.ExitStack() as stack, open(self.log, "wb") as log:
                self.process = self.launch(directory, log, stack)
                stack.callback(stop, self.process)
                for port in self.ports.values():
                    await_port(self.process, port, self.log)
                yield

    def start(self, command, log, cpu, **streams):
        return compare.start(command, cpu, stdout=log, stderr=subprocess.STDOUT, **streams)

    def is_running(self):
        return self.process.poll() is None


class Ringsock(Server):
    name, path = "ringsock", "/stomp"

    def launch(self, _directory, log, _stack):
        self.version = first_line([self.options.ringsock, "--version"]).split()[-1]
        self.ports = {"ws": compare.free_port(), "tcp": compare.free_port()}
        command = [self.options.ringsock, "serve", "--listen", f"127.0.0.1:{self.ports['ws']}",
                   "--stomp", f"127.0.0.1:{self.ports['tcp']}", "--workers", "1"]
        return self.start(command, log, self.options.server_cpu)


class RabbitMQ(Server):
    name, path = "rabbitmq", "/ws"
    login = ("--login", "guest", "--passcode", "guest")

    def launch(self, directory, log, stack):
        programs = sorted(glob.glob(RABBITMQ))
        if not programs:
            raise Failure("it is not installed; install the package rabbitmq-server, and stop the service it starts")
        self.version = os.path.basename(os.path.dirname(os.path.dirname(programs[-1]))).partition("-")[2]
        self.ports = {"ws": compare.free_port(), "tcp": compare.free_port()}
        names, distribution = compare.free_port(), compare.free_port()
        # A directory of names of its own, which ends with it; the one that Erlang starts would stay.
        service = self.start(["epmd", "-address", "127.0.0.1", "-port", str(names)], log, self.options.load_cpu)
        stack.callback(stop, service)
        await_port(service, names, self.log)
        write(directory, "rabbitmq.conf", "listeners.tcp = none\n"
              f"stomp.listeners.tcp.1 = 127.0.0.1:{self.ports['tcp']}\n"
              f"web_stomp.tcp.ip = 127.0.0.1\nweb_stomp.tcp.port = {self.ports['ws']}\n"
              "log.console = true\nlog.console.level = warning\nlog.file = false\n")
        write(directory, "enabled_plugins", "[rabbitmq_stomp,rabbitmq_web_stomp].\n")
        write(directory, "env.conf", "")
        environment = os.environ | {
            "HOME": directory,
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"stomp{names}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": os.path.join(directory, "mnesia"),
            "RABBITMQ_LOG_BASE": os.path.join(directory, "log"),
            "RABBITMQ_CONFIG_FILE": os.path.join(directory, "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": os.path.join(directory, "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.path.join(directory, "env.conf"),
            # The script becomes the server, so that its process is the one that is measured and ended.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        return self.start([programs[-1]], log, self.options.server_cpu, env=environment, cwd=directory)


class ActiveMQ(Server):
    """Debian's package has no transport for WebSocket."""

    name, path = "activemq", ""

    def launch(self, directory, log, _stack):
        if not os.path.exists(ACTIVEMQ) or not shutil.which("java"):
            raise Failure("it is not installed; install the package activemq")
        self.version = first_line(["dpkg-query", "-W", "-f", "${Version}", "activemq"]).partition("+")[0]
        self.ports = {"tcp": compare.free_port()}
        for name in ("conf", "data", "tmp"):
            os.mkdir(os.path.join(directory, name))
        listener = f"stomp://127.0.0.1:{self.ports['tcp']}?maximumConnections=20000&amp;transport.tcpNoDelay=true"
        write(directory, "activemq.xml", f"""<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans
    http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
    http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="stomp" useJmx="false" persistent="false"
      dataDirectory="{directory}/data">
    <transportConnectors>
      <transportConnector name="stomp" uri="{listener}"/>
    </transportConnectors>
  </broker>
</beans>
""")
        command = ["java", "-Xms512M", "-Xmx1G", f"-Djava.io.tmpdir={directory}/tmp"]
        command += [f"-Dactivemq.{name}={directory}{path}" for name, path in (
            ("base", ""), ("conf", "/conf"), ("data", "/data"), ("classpath", "/conf"))]
        command += ["-Dactivemq.home=" + os.path.dirname(os.path.dirname(ACTIVEMQ))]
        for package in ("lang", "util", "util.concurrent"):
            command += ["--add-opens", f"java.base/java.{package}=ALL-UNNAMED"]
        command += ["-jar", ACTIVEMQ, "start", f"xbean:file:{directory}/activemq.xml"]
        return self.start(command, log, self.options.server_cpu, cwd=directory)


def write(directory, name, text):
    with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
        file.write(text)


def first_line(command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return (done.stdout.decode(errors="replace").splitlines() or ["unknown"])[0]


def await_port(process, port, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failure(f"it ended at once, with exit code {process.returncode}: {last_line(log)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise Failure(f"it does not listen after {START_SECONDS} s: {last_line(log)}")


def last_line(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    # A program that was called wrongly says so first, and then how it is called.
    told = [line for line in lines if line.startswith("error")] or lines[-1:] or ["it said nothing"]
    return told[0][:300]


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- measuring -----------------------------------------------------------------------------------

def run(options, out):
    compare.raise_open_files()
    facts = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": options.commit, "machine": compare.machine(), "kernel": os.uname().release.split("-")[0],
    }
    rows = []
    writer = csv.DictWriter(out, stomp_results.COLUMNS, lineterminator="\n") if out else None
    with contextlib.ExitStack() as stack:
        entries = start_servers(options, stack)
        announce(options, entries)
        started = time.monotonic()
        for done, workload in enumerate(options.workloads):
            minutes = (time.monotonic() - started) / 60
            print(f"[{minutes:5.1f} min] {workload.name} ({done + 1} of {len(options.workloads)})", flush=True)
            taking_part = [entry for entry in entries if works(entry, workload, options)]
            for turn in range(options.rounds):
                # Each server has its turn in each place.
                shift = turn % max(len(taking_part), 1)
                for entry in taking_part[shift:] + taking_part[:shift]:
                    row = facts | {
                        "server": entry.name, "version": entry.server.version, "transport": entry.transport,
                        "workload": workload.name, "options": workload.options, "round": turn + 1,
                        "seconds": options.seconds} | measure(entry, workload, options)
                    rows.append({name: row.get(name, "") for name in stomp_results.COLUMNS})
                    if writer:
                        writer.writerow(rows[-1])
                        out.flush()
    return rows


def start_servers(options, stack):
    entries = []
    for kind in (Ringsock, RabbitMQ, ActiveMQ):
        wanted = [name for name in options.entries if name.partition("-")[0] == kind.name]
        if not wanted:
            continue
        server = kind(options)
        try:
            stack.enter_context(server.running())
        except Failure as failure:
            hint = "; does this build have serve --stomp?" if kind is Ringsock else ""
            print(f"skipping {kind.name}: {failure}{hint}", flush=True)
            continue
        for name in wanted:
            entries.append(Entry(name, server, name.partition("-")[2]))
    entries = [entry for entry in entries if answers(entry, options)]
    if not entries:
        die("nothing is left to measure")
    return entries


def announce(options, entries):
    for entry in entries:
        print(f"{entry.name}: {entry.server.version}, {entry.server.url(entry.transport)}")
    each = options.warmup + options.seconds + 2
    seconds = len(options.workloads) * len(entries) * (PRIME_SECONDS + 2 + options.rounds * each)
    print(f"{len(options.workloads)} workloads, {options.rounds} rounds, {len(entries)} servers and transports:"
          f" about {seconds / 60:.0f} minutes; servers on processor {options.server_cpu}, load on {options.load_cpu}",
          flush=True)


def answers(entry, options):
    """Whether it can be connected to and delivers, to a topic and a queue."""
    for words in ("--stomp=topic -c 4 --publishers 2", "--stomp=queue -c 4 --publishers 2"):
        arguments = words.split() + ["-d", "300ms", "-w", "100ms", "--timeout", "5s"]
        try:
            check(load(entry, options, arguments, 30))
        except Failure as failure:
            url = entry.server.url(entry.transport)
            print(f"skipping {entry.name}: STOMP does not work on {url}: {failure}", flush=True)
            return False
    return True


def works(entry, workload, options):
    """Gives a server a workload that does not count."""
    try:
        check(load(entry, options, arguments_of(workload, PRIME_SECONDS, 0.5), BESIDE_SECONDS_MAX))
    except Failure as failure:
        print(f"  {entry.name}: {failure}", flush=True)
        return entry.server.is_running()
    return True


def arguments_of(workload, warmup, seconds):
    times = ["-w", f"{warmup * 1000:.0f}ms", "-d", f"{seconds * 1000:.0f}ms", "--timeout", "30s"]
    return workload.options.split() + times


def load(entry, options, arguments, seconds_max):
    if not entry.server.is_running():
        raise Failure(f"the server has ended: {last_line(entry.server.log)}")
    url, pid = entry.server.url(entry.transport), entry.server.process.pid
    return compare.load(url, pid, options, arguments + list(entry.server.login), seconds_max)


def check(report):
    if report["error_count"] or not report["operations"]:
        told = [f"{error['count']} x {error['name']}: {error['example']}" for error in report["errors"]]
        raise Failure("; ".join(told) or "nothing was delivered")


def measure(entry, workload, options):
    """One row's figures. A failure is a row, too: it must not vanish from the results."""
    arguments = arguments_of(workload, options.warmup, options.seconds)
    for attempt in range(ATTEMPTS):
        try:
            strangers = Strangers(entry.server.process.pid, options)
            report = load(entry, options, arguments, options.warmup + options.seconds + BESIDE_SECONDS_MAX)
            share = strangers.share()
            check(report)
        except Failure as failure:
            print(f"  {entry.name}: {failure}", flush=True)
            return {"errors": 1}
        if share <= stomp_results.QUIET:
            break
        again = "measuring again" if attempt + 1 < ATTEMPTS else "keeping the row, which says so"
        print(f"  {entry.name}: other programs took {share:.0%} of a processor; {again}", flush=True)
    server, latency = report["server"] or {}, report["latency_us"]
    cpu_s = server.get("cpu_s")
    return {
        "deliveries_per_s": f"{report['operations_per_s']:.1f}",
        "deliveries_per_cpu_s": rounded(report["operations"] / cpu_s if cpu_s else None),
        "server_cpu_s": rounded(cpu_s),
        "server_cpu_share": rounded(server.get("cpu_share")),
        "load_cpu_share": rounded(report["client"]["cpu_share"]),
        "others_cpu_share": f"{share:.3f}",
        "p50_us": rounded(latency["p50"]),
        "p99_us": rounded(latency["p99"]),
        "p99_9_us": rounded(latency["p99.9"]),
        "max_us": rounded(latency["max"]),
        "server_rss_mib": rounded(server.get("resident_bytes", 0) / (1 << 20)),
        "errors": 0,
    }


# --- files ---------------------------------------------------------------------------------------

def open_out(stem):
    path = stem + ".csv"
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if os.path.exists(path):
        die(f"{path} is there already; name another with --out")
    file = open(path, "w", newline="", encoding="utf-8")
    csv.writer(file, lineterminator="\n").writerow(stomp_results.COLUMNS)
    return file


def write_markdown(options, results, first):
    with open(options.out + ".md", "w", encoding="utf-8") as file:
        def line(text):
            print(text, file=file)
        line("# STOMP servers under the same load\n")
        line(f"{first['date']}, commit {first['commit'] or 'unknown'}, {first['machine']}, Linux {first['kernel']};"
             f" {options.rounds} rounds of {options.seconds:g} s.\n")
        for server, version in results.versions.items():
            line(f"- {server}: {version}")
        stomp_results.table(results, line)
    print(f"\nwritten: {options.out}.csv and {options.out}.md")


def die(message):
    sys.exit(f"stomp.sh: {message}")


if __name__ == "__main__":
    main()
