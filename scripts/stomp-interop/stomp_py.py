"""What stomp.py must find at the server. A line for each check: column, feature, outcome, reason.

    stomp_py.py checks                 all that needs only a server that runs
    stomp_py.py outage DIRECTORY       the server freezes and restarts meanwhile, see stomp-interop.sh
    stomp_py.py victim COLUMN QUEUE    takes a message of the queue, and waits to be stopped
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from stomp_py_session import Failure, Inbox, Session, check, same

COLUMNS = {
    "py-1.0": {"version": "1.0"},
    "py-1.1": {"version": "1.1"},
    "py-1.2": {"version": "1.2"},
    "py-ws": {"version": "1.2", "transport": "text"},
    "py-ws-binary": {"version": "1.2", "transport": "binary"},
}
BEAT_MS = 1_000
BEATS = {"heartbeats": (BEAT_MS, BEAT_MS)}
# An idle time in which a server would miss the client's heart-beats, unless it wants them very rarely.
IDLE_SECONDS_MIN, IDLE_SECONDS_MAX = 3, 25
# How long it may take from the first client that is ready to the server's return.
OUTAGE_SECONDS = 60
LARGE_LEN = 200_000
MESSAGES, CONSUMERS = 30, 3


class Absent(Exception):
    """The client or the version does not have it."""


class Run:
    """One check of one column, with the sessions that it opens."""

    print_lock = threading.Lock()
    names = 0

    def __init__(self, column):
        self.column = column
        self.version = COLUMNS[column]["version"]
        self.sessions = []

    def open(self, **options):
        session = Session(**COLUMNS[self.column], **options)
        self.sessions.append(session)
        return session

    def name(self):
        # No dots: those separate the words of a topic.
        with Run.print_lock:
            Run.names += 1
            return f"{self.column.replace('.', '')}-{os.getpid()}-{Run.names}"

    def report(self, feature, *arguments):
        outcome, reason = "ok", ""
        try:
            (CHECKS.get(feature) or OUTAGES[feature])(self, *arguments)
        except Absent as absent:
            outcome, reason = "-", str(absent)
        except Exception as error:
            outcome, reason = "FAIL", str(error) if isinstance(error, Failure) else repr(error)
        with Run.print_lock:
            print(self.column, feature, outcome, " ".join(reason.split()), sep="\t", flush=True)
        for session in self.sessions:
            if not session.closed:
                session.drop()


def connect(run):
    session, other = run.open(), run.open()
    if run.version != "1.0":
        same("version", session.connected.get("version"), run.version)
    check("CONNECTED has no session", session.connected.get("session"))
    check("two sessions have one name", session.connected["session"] != other.connected["session"])


def disconnect(run):
    check("closed without the receipt of DISCONNECT", run.open().end())


def subscribe(run):
    session, destination = run.open(), f"/topic/{run.name()}"
    # In 1.0 a subscription needs no id.
    id = None if run.version == "1.0" else "first"
    inbox = session.subscribe(destination, id)
    session.send(destination, "one")
    session.send(destination, "two")
    one, two = inbox.next(), inbox.next()
    same("bodies", [one.body, two.body], ["one", "two"])
    same("destination", one.headers["destination"], destination)
    same("subscription", one.headers.get("subscription"), id)
    same("content-length", one.headers.get("content-length"), "3")
    check("one message-id for two", one.headers["message-id"] != two.headers["message-id"])
    session.unsubscribe(**({"id": id} if id else {"destination": destination}))
    session.send(destination, "unheard")
    # The id is free again, and nothing of what was sent meanwhile has waited for it.
    again = session.subscribe(destination, id)
    session.send(destination, "three")
    same("bodies after a new subscription", again.bodies(1), ["three"])
    check("messages of an ended subscription", inbox.messages.empty() and session.unasked.messages.empty())
    session.end()


def utf_8(run):
    session, destination = run.open(), f"/queue/żółw-{run.name()}"
    inbox = session.subscribe(destination)
    headers = {"wąż": "zażółć gęślą 日本 🦀", "blank": "  a  ", "content-type": "text/plain;charset=utf-8"}
    if run.version == "1.0":
        # Values may be trimmed, and this client takes backslashes for escapes in all versions.
        headers["blank"] = "a b:c"
    else:
        headers["escaped"] = "a:b\nc\\n\\\\c:"
    if run.version == "1.2":
        headers["returned"] = "a\r\nb"
    body = "Пустыня\n日本🦀"
    session.send(destination, body, headers=headers)
    message = inbox.next()
    same("body", message.body, body)
    for key, value in headers.items():
        same(f"header {key}", message.headers.get(key), value)
    same("destination", message.headers["destination"], destination)
    session.end()


def binary_body(run):
    session, destination = run.open(auto_decode=False), f"/queue/{run.name()}"
    inbox = session.subscribe(destination)
    bodies = [b"text\0with NUL\0", b"\0\0\0"]
    # As WebSocket text only UTF-8 can be sent.
    if run.column != "py-ws":
        bodies += [bytes(range(256)) * 2, b"\xff\xfe"]
    for body in bodies:
        session.send(destination, body)
        same("body", inbox.next().body, body)
    session.end()


def large_body(run):
    session, destination = run.open(auto_decode=False), f"/queue/{run.name()}"
    inbox = session.subscribe(destination)
    bodies = ["zażółć 🦀 ".encode() * (LARGE_LEN // 15)]
    if run.column != "py-ws":
        bodies.append(bytes((index * index >> 3) & 0xFF for index in range(LARGE_LEN)))
    for body in bodies:
        session.send(destination, body)
        check("large body differs", inbox.next().body == body)
    session.end()


def split_frames(run):
    raise Absent("the client sends each frame in one message")


def ack_auto(run):
    session, other, destination = run.open(), run.open(), f"/queue/{run.name()}"
    inbox = session.subscribe(destination)
    session.send(destination, "taken")
    same("bodies", inbox.bodies(1), ["taken"])
    session.drop()
    expect_left(other, destination, [])


def ack_client(run):
    acknowledge(run, "client", [2], ["4", "5"])


def ack_individual(run):
    acknowledge(run, "client-individual", [3, 1], ["1", "3", "5"])


def acknowledge(run, mode, indices, left):
    session, other, destination = run.open(), run.open(), f"/queue/{run.name()}"
    inbox = session.subscribe(destination, ack=mode)
    for body in "12345":
        session.send(destination, body)
    messages = [inbox.next() for _ in range(5)]
    for index in indices:
        session.ack(messages[index])
    session.drop()
    expect_left(other, destination, left)


def nack(run):
    if run.version == "1.0":
        raise Absent("the client has no NACK in 1.0")
    sessions, destination = [run.open(), run.open()], f"/queue/{run.name()}"
    inbox = Inbox(f"a message of {destination}")
    for session in sessions:
        session.subscribe(destination, ack="client-individual", inbox=inbox)
    sessions[0].send(destination, "wanted by one")
    first = inbox.next()
    check("redelivered at first", first.headers.get("redelivered") != "true")
    first.session.nack(first)
    second = inbox.next()
    check("redelivered to the client that refused it", second.session is not first.session)
    same("body", second.body, "wanted by one")
    same("redelivered", second.headers.get("redelivered"), "true")
    second.session.nack(second, requeue="false")
    sessions[0].send(destination, "next")
    third = inbox.next()
    same("body after one that was dropped", third.body, "next")
    third.session.ack(third)
    for session in sessions:
        session.end()


def transaction_commit(run):
    session, other, (out, work) = run.open(), run.open(), (f"/topic/{run.name()}", f"/queue/{run.name()}")
    inbox = other.subscribe(out)
    tasks = session.subscribe(work, ack="client-individual")
    session.send(work, "task")
    task = tasks.next()
    client = session.client
    transaction = client.begin()
    client.send(out, "inside 1", transaction=transaction)
    client.send(out, "inside 2", transaction=transaction)
    client.ack(*session.acknowledgement(task), transaction=transaction)
    session.send(out, "outside")
    session.receipted("COMMIT", client.commit, transaction)
    same("order", inbox.bodies(3), ["outside", "inside 1", "inside 2"])
    session.drop()
    expect_left(other, work, [])


def transaction_abort(run):
    session, other, (out, work) = run.open(), run.open(), (f"/topic/{run.name()}", f"/queue/{run.name()}")
    inbox = other.subscribe(out)
    tasks = session.subscribe(work, ack="client-individual")
    session.send(work, "task")
    task = tasks.next()
    client = session.client
    transaction = client.begin()
    client.send(out, "lost", transaction=transaction)
    client.ack(*session.acknowledgement(task), transaction=transaction)
    session.receipted("ABORT", client.abort, transaction)
    session.send(out, "kept")
    same("what came", inbox.bodies(1), ["kept"])
    check("an aborted ACK has the message come again", tasks.messages.empty())
    session.drop()
    expect_left(other, work, ["task"])


def receipts(run):
    session, destination = run.open(), f"/queue/{run.name()}"
    inbox = session.subscribe(destination, id="one", ack="client-individual")
    session.send(destination, "one")
    session.ack(inbox.next())
    if run.version != "1.0":
        session.send(destination, "two")
        session.nack(inbox.next(), requeue="false")
    client = session.client
    for transaction, end in ("first", client.commit), ("second", client.abort):
        session.receipted("BEGIN", client.begin, transaction)
        session.send(destination, "inside", transaction=transaction)
        session.receipted("its end", end, transaction)
    session.unsubscribe(id="one")
    session.end()


def error_destination(run):
    send = run.open()
    send.client.send(f"/nowhere/{run.name()}", "lost", receipt="r-bad")
    expect_refusal("SEND", send.refused(), "r-bad")
    subscribe = run.open()
    subscribe.client.subscribe("/queue/", id="s", receipt="r-bad")
    expect_refusal("SUBSCRIBE", subscribe.refused(), "r-bad")


def error_duplicate_id(run):
    session, destination = run.open(), f"/topic/{run.name()}"
    session.subscribe(destination, id="same")
    session.client.subscribe(destination, id="same", receipt="r-twice")
    expect_refusal("SUBSCRIBE", session.refused(), "r-twice")


def error_transaction(run):
    commit = run.open()
    commit.client.commit("unknown", receipt="r-unknown")
    expect_refusal("COMMIT", commit.refused(), "r-unknown")
    send = run.open()
    send.client.send(f"/topic/{run.name()}", "lost", transaction="unknown", receipt="r-unknown")
    expect_refusal("SEND", send.refused(), "r-unknown")


def topics(run):
    sessions, destination = [run.open() for _ in range(3)], f"/topic/{run.name()}"
    inboxes = [session.subscribe(destination, id="one") for session in sessions]
    inboxes.append(sessions[0].subscribe(destination, id="two"))
    for body in "123":
        sessions[1].send(destination, body)
    for inbox in inboxes:
        same("bodies", inbox.bodies(3), ["1", "2", "3"])
    for session in sessions:
        session.end()


def wildcards(run):
    session, sender, topic = run.open(), run.open(), f"/topic/{run.name()}"
    one = session.subscribe(f"{topic}.*", id="one")
    rest = session.subscribe(f"{topic}.#", id="rest")
    for end in "", ".a", ".a.b", ".b", "-not", ".end":
        sender.send(topic + end, end or "none")
    same("bodies of .*", one.bodies(3), [".a", ".b", ".end"])
    everything = [rest.next() for _ in range(5)]
    same("bodies of .#", [message.body for message in everything], ["none", ".a", ".a.b", ".b", ".end"])
    same("destination", everything[2].headers["destination"], f"{topic}.a.b")
    session.end()
    sender.end()


def competing(run):
    sender, destination = run.open(), f"/queue/{run.name()}"
    inbox = Inbox(f"a message of {destination}")
    sessions = [run.open() for _ in range(CONSUMERS)]
    for session in sessions:
        session.subscribe(destination, inbox=inbox)
    sent = [str(index) for index in range(MESSAGES)]
    for body in sent:
        sender.send(destination, body)
    taken = [inbox.next() for _ in sent]
    same("each once", sorted(message.body for message in taken), sorted(sent))
    same("consumers with work", len({message.session for message in taken}), CONSUMERS)
    for session in [sender, *sessions]:
        session.end()


def reply_to(run):
    one, two, server = run.open(), run.open(), run.open()
    destination = f"/queue/{run.name()}"
    inbox = server.subscribe(destination)
    # The name of a temporary queue means something else on each connection.
    for session, to in (one, "answer for one"), (two, "answer for two"):
        session.send(destination, "question", headers={"reply-to": "/temp-queue/answers"})
        server.send(inbox.next().headers["reply-to"], to)
        answer = session.unasked.next()
        same("answer", answer.body, to)
        if run.version != "1.0":
            same("subscription", answer.headers.get("subscription"), "/temp-queue/answers")
    for session in one, two, server:
        session.end()


def heart_beats(run):
    has_heart_beats(run)
    session = run.open(**BEATS)
    server_ms, client_ms = periods(session)
    idle = min(max(IDLE_SECONDS_MIN, 2.5 * client_ms / 1_000), IDLE_SECONDS_MAX)
    time.sleep(idle)
    check(f"the connection ended after {session.beats} heart-beats", not session.closed)
    # Some brokers beat twice in a period.
    expected = idle * 1_000 / server_ms
    check(f"{session.beats} heart-beats of the server in {idle} s", expected - 2 <= session.beats <= 2 * expected + 2)
    destination = f"/queue/{run.name()}"
    inbox = session.subscribe(destination)
    session.send(destination, "alive")
    same("bodies", inbox.bodies(1), ["alive"])
    session.end()


def silent_client(run):
    has_heart_beats(run)
    session, destination = run.open(), f"/queue/{run.name()}"
    session.send(destination, "held")
    victim = subprocess.Popen([sys.executable, __file__, "victim", run.column, destination], stdout=subprocess.PIPE)
    # A victim that says nothing must not be waited for.
    guard = threading.Timer(20, victim.kill)
    guard.start()
    try:
        line = victim.stdout.readline()
        guard.cancel()
        check("the victim got no message", line)
        victim.send_signal(signal.SIGSTOP)
        inbox = session.subscribe(destination, ack="client")
        message = inbox.next(3 * int(line) / 1_000 + 3)
        same("body", message.body, "held")
        same("redelivered", message.headers.get("redelivered"), "true")
        session.ack(message)
    finally:
        guard.cancel()
        victim.kill()
        victim.wait()
    session.end()


def silent_server(run, arrive):
    has_heart_beats(run)
    session = run.open(**BEATS)
    periods(session)
    arrive()
    session.wait("the sign that the client missed heart-beats", lambda: session.lost, OUTAGE_SECONDS)


def reconnect(run, arrive):
    """The client leaves it to the application to connect again once it is told of the end."""
    session = run.open()
    arrive()
    session.wait("the end of the connection", lambda: session.closed, OUTAGE_SECONDS)
    until = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            session.connect()
            break
        except Exception:
            check("no new connection", time.monotonic() < until)
            time.sleep(0.3)
    destination = f"/topic/{run.name()}"
    inbox = session.subscribe(destination)
    session.send(destination, "back")
    same("bodies", inbox.bodies(1), ["back"])
    session.end()


def expect_left(session, destination, bodies):
    """The messages that the queue still has, all delivered before, and none beside them."""
    inbox = session.subscribe(destination)
    for body in bodies:
        message = inbox.next()
        same("what was left", message.body, body)
        same("redelivered", message.headers.get("redelivered"), "true")
    session.send(destination, "marker")
    same("what was left at last", inbox.bodies(1), ["marker"])
    session.end()


def expect_refusal(what, headers, receipt):
    check(f"ERROR for {what} has no message", headers.get("message"))
    same(f"receipt-id of the ERROR for {what}", headers.get("receipt-id"), receipt)


def has_heart_beats(run):
    if run.version == "1.0":
        raise Absent("1.0 has no heart-beats")


def periods(session):
    """How often each side has to be heard, if this client asks for BEAT_MS."""
    server_can, server_wants = map(int, session.connected.get("heart-beat", "0,0").split(","))
    check("the server has no heart-beats", server_can and server_wants)
    return max(server_can, BEAT_MS), max(server_wants, BEAT_MS)


CHECKS = {
    "connect": connect,
    "disconnect": disconnect,
    "subscribe": subscribe,
    "utf-8": utf_8,
    "binary body": binary_body,
    "large body": large_body,
    "split frames": split_frames,
    "ack auto": ack_auto,
    "ack client": ack_client,
    "ack individual": ack_individual,
    "nack": nack,
    "transaction commit": transaction_commit,
    "transaction abort": transaction_abort,
    "receipts": receipts,
    "error destination": error_destination,
    "error duplicate id": error_duplicate_id,
    "error transaction": error_transaction,
    "topics": topics,
    "wildcards": wildcards,
    "competing": competing,
    "reply-to": reply_to,
    "heart-beats": heart_beats,
    "silent client": silent_client,
}
# These only wait, so they do it while the others work.
SLOW = ["heart-beats", "silent client"]
# These call `arrive` once they are connected: the server stops only when all are.
OUTAGES = {"silent server": silent_server, "reconnect": reconnect}


def checks():
    quick = [feature for feature in CHECKS if feature not in SLOW]
    join(report_all, [(column, features) for column in COLUMNS for features in (quick, *([slow] for slow in SLOW))])


def report_all(column, features):
    for feature in features:
        Run(column).report(feature)


def join(body, calls):
    """Calls it with all of these arguments at a time."""
    threads = [threading.Thread(target=body, args=arguments) for arguments in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def outage(directory):
    lock, left = threading.Lock(), [len(COLUMNS) * len(OUTAGES)]

    def run(name, feature):
        arrived = []

        def arrive():
            with lock:
                if not arrived:
                    arrived.append(True)
                    left[0] -= 1
                    if left[0] == 0:
                        (Path(directory) / "stomp_py.ready").touch()

        Run(name).report(feature, arrive)
        # One that failed at once must not keep the others waiting.
        arrive()

    join(run, [(column, feature) for column in COLUMNS for feature in OUTAGES])


def victim(column, destination):
    session = Run(column).open(**BEATS)
    session.subscribe(destination, ack="client").next()
    print(periods(session)[1], flush=True)
    time.sleep(OUTAGE_SECONDS)


# The client warns of every connection that ends, and here many are meant to.
logging.getLogger("stomp.py").setLevel(logging.CRITICAL)
{"checks": checks, "outage": outage, "victim": victim}[sys.argv[1]](*sys.argv[2:])
