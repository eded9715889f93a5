#!/usr/bin/env python3
"""Measures what compression costs a server beside time: memory for each idle connection, and what bombs do.

Usage: perf/deflate_costs.py [--connections N] [--bombs] BINARY

Without --bombs, in about five minutes: for each way to compress, starts BINARY, opens N connections (10,000 if it isn't said), has each
echo 40 different messages of 1,000 bytes, so that every window is full, waits until what can be let go of is
let go of, and prints the resident memory of the server for each connection at every stage.

With --bombs: sends a frame of a mebibyte that inflates to a gibibyte, then as many as the server takes of those
that inflate to its limit, and prints the code that the server closes with, its processor time and its memory.

It needs Python 3.9 and nothing else, and speaks to nobody but the server that it starts, on loopback.
"""

import argparse
import os
import resource
import select
import socket
import statistics
import struct
import subprocess
import sys
import time
import zlib

POLICIES = ["off", "shared", "dedicated:15", "dedicated:12", "dedicated:9"]
MESSAGES, MESSAGE_LEN = 40, 1000
# Longer than a server that was sent nothing remembers what it has sent, and than it takes to look.
IDLE_SECONDS = 45
# What connections are opened, or read, at a time.
BATCH = 500
LIMIT = 64 << 20  # of `ringsock serve`
BOMB_SECONDS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="a release build of ringsock")
    parser.add_argument("--connections", type=int, default=10_000,
                        help="how many; with few, what comes once for all of them blurs the figures")
    parser.add_argument("--bombs", action="store_true", help="send bombs instead")
    options = parser.parse_args()
    if not os.access(options.binary, os.X_OK):
        sys.exit(f"there is no program at '{options.binary}': build it with 'cargo build --release'")
    if options.bombs:
        bombs(options.binary)
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < options.connections + 64:
        sys.exit(f"the limit on open files is {hard}; raise it with 'ulimit -n {options.connections + 64}' as root")
    print(f"{options.connections:,} connections; resident bytes of the server for each")
    print(f"{'':14}{'opened':>10}{'after ' + str(MESSAGES) + ' messages':>20}{'idle':>10}")
    for policy in POLICIES:
        with Server(options.binary, policy) as server:
            figures = idle(server, options.connections, messages(compressed=policy != "off"))
        print(f"{policy:14}{figures[0]:>10,.0f}{figures[1]:>20,.0f}{figures[2]:>10,.0f}", flush=True)


def idle(server, count, frames):
    # So that what comes once for all connections is there before.
    warm = connect(server, 50)
    exchange(warm, frames)
    before = server.resident()
    connections = connect(server, count)
    figures = [server.resident()]
    for start in range(0, count, BATCH):
        exchange(connections[start:start + BATCH], frames)
    figures.append(server.resident())
    time.sleep(IDLE_SECONDS)
    figures.append(server.resident())
    for connection in warm + connections:
        connection.close()
    return [(figure - before) / count for figure in figures]


def bombs(binary):
    zeros = deflated(bytes(1 << 20), 1024)
    print(f"a frame of {len(zeros):,} bytes that inflates to {1 << 30:,}, to a limit of {LIMIT:,}")
    for policy in ("shared", "dedicated:15"):
        with Server(binary, policy) as server:
            connect(server, 1)[0].close()
            times, before = [], server.resident()
            for _ in range(5):
                connection = connect(server, 1)[0]
                start = server.cpu_seconds()
                connection.sendall(frame(zeros))
                code = close_code(connection)
                times.append(server.cpu_seconds() - start)
                connection.close()
            peak = server.peak() - before
            print(f"  {policy:14}closed with {code}; {statistics.median(times) * 1e3:.1f} ms of a processor,"
                  f" {peak / LIMIT:.2f} limits of memory at the peak")
    full = deflated(bytes(1 << 20), LIMIT >> 20)
    print(f"frames of {len(full):,} bytes that inflate to the limit, one after the other for {BOMB_SECONDS} s")
    with Server(binary, "shared") as server:
        connection = connect(server, 1)[0]
        before, start, began, sent = server.resident(), server.cpu_seconds(), time.monotonic(), 0
        while time.monotonic() - began < BOMB_SECONDS:
            connection.sendall(frame(full))
            read_messages([connection], 1)
            sent += 1
        spent = server.cpu_seconds() - start
        print(f"  {sent} echoed, {spent / sent * 1e3:.0f} ms of a processor each,"
              f" {(server.peak() - before) / LIMIT:.2f} limits of memory at the peak")


class Server:
    def __init__(self, binary, policy):
        self.policy = policy
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [binary, "serve", "--listen", f"127.0.0.1:{self.port}", "--workers", "1", "--deflate", policy]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        sys.exit("the server does not listen; start it by hand to see why")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def status(self, name):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) << 10
        return 0

    def resident(self):
        return self.status("VmRSS")

    def peak(self):
        return self.status("VmHWM")

    def cpu_seconds(self):
        # In nanoseconds, for each thread.
        threads = f"/proc/{self.process.pid}/task"
        nanoseconds = 0
        for thread in os.listdir(threads):
            with open(f"{threads}/{thread}/schedstat", encoding="ascii") as file:
                nanoseconds += int(file.read().split()[0])
        return nanoseconds / 1e9


def connect(server, count):
    """Connections that were upgraded, with an offer as browsers make it."""
    request = (f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n").encode()
    connections = []
    for start in range(0, count, BATCH):
        batch = [socket.create_connection(("127.0.0.1", server.port), timeout=10)
                 for _ in range(min(BATCH, count - start))]
        for connection in batch:
            connection.sendall(request)
        for connection in batch:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = connection.recv(4096)
                if not piece:
                    sys.exit(f"the server refused: {head!r}")
                head += piece
            if not head.startswith(b"HTTP/1.1 101"):
                sys.exit(f"the server refused: {head!r}")
            if server.policy.startswith("dedicated") and b"no_context_takeover" in head:
                sys.exit("the server has no memory left for windows, so this would not measure them")
        connections += batch
    return connections


def deflated(piece, count):
    """The payload of a compressed message that consists of a piece so many times."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [stream.compress(piece) for _ in range(count)]
    payload = b"".join(parts) + stream.flush(zlib.Z_SYNC_FLUSH)
    return payload[:-4]


def frame(payload, opcode=2, compressed=True):
    """A masked frame; with a key of zeros, so that the payload stands there as it is."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | 0x40 * compressed | opcode, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", 0x80 | 0x40 * compressed | opcode, 0xFE, length)
    else:
        head = struct.pack("!BBQ", 0x80 | 0x40 * compressed | opcode, 0xFF, length)
    return head + bytes(4) + payload


def messages(compressed):
    """Frames of different messages, each compressed by itself, so that it is right behind any others."""
    frames = []
    for number in range(MESSAGES):
        text = "".join(f'{{"id":{number * 1000 + line},"symbol":"{"ABCDEFGH"[line % 8]}","size":{line * 7919 % 501}}}\n'
                       for line in range(40))
        text = text.encode()[:MESSAGE_LEN]
        frames.append(frame(deflated(text, 1) if compressed else text, compressed=compressed))
    return frames


def exchange(connections, frames):
    """Has each connection echo all messages, one after the other."""
    for one in frames:
        for connection in connections:
            connection.sendall(one)
        read_messages(connections, 1)


def read_messages(connections, count):
    """Reads so many unfragmented messages from each connection, and nothing behind them."""
    poll = select.epoll()
    waiting = {}
    for connection in connections:
        waiting[connection.fileno()] = [connection, count, b"", 0]
        poll.register(connection.fileno(), select.EPOLLIN)
    while waiting:
        ready = poll.poll(30)
        if not ready:
            sys.exit("the server does not answer")
        for number, _ in ready:
            state = waiting[number]
            data = state[0].recv(1 << 20)
            if not data:
                sys.exit("the server has closed a connection")
            state[2] += data
            while True:
                skipped = min(state[3], len(state[2]))
                state[2], state[3] = state[2][skipped:], state[3] - skipped
                if state[3] or not (need := frame_len(state[2])):
                    break
                if state[2][0] & 15 == 8:
                    sys.exit(f"the server has closed a connection: {state[2]!r}")
                state[1] -= 1
                state[3] = need
            if state[1] == 0 and state[3] == 0:
                poll.unregister(number)
                del waiting[number]
    poll.close()


def frame_len(data):
    """The length of the frame that begins there, or zero if its header is not whole."""
    if len(data) < 2:
        return 0
    short = data[1] & 127
    head = {126: 4, 127: 10}.get(short, 2)
    if len(data) < head:
        return 0
    return head + (short if head == 2 else int.from_bytes(data[2:head], "big"))


def close_code(connection):
    data = b""
    while not data.startswith(b"\x88") or len(data) < 4:
        piece = connection.recv(4096)
        if not piece:
            return "nothing"
        data += piece
    return int.from_bytes(data[2:4], "big")


if __name__ == "__main__":
    main()
