"""A connection of stomp.py whose every wait is bounded."""

import os
import queue
import socket
import threading
import uuid
from urllib.parse import urlsplit

import stomp
from stomp.adapter.ws import WSStompConnection

WAIT_SECONDS = 6

TCP = os.environ["STOMP_TCP"].rsplit(":", 1)
WS = urlsplit(os.environ["STOMP_WS"])
VHOST = os.environ.get("STOMP_VHOST") or None


class Failure(Exception):
    pass


def check(what, holds):
    if not holds:
        raise Failure(what)


def same(what, actual, expected):
    check(f"{what}: {actual!r:.200} instead of {expected!r:.200}", actual == expected)


class Inbox:
    """Messages in the order in which they came."""

    def __init__(self, what):
        self.what = what
        self.messages = queue.Queue()

    def next(self, seconds=WAIT_SECONDS):
        try:
            return self.messages.get(timeout=seconds)
        except queue.Empty:
            raise Failure(f"{self.what} did not come within {seconds} s") from None

    def bodies(self, count):
        return [self.next().body for _ in range(count)]


class Session(stomp.ConnectionListener):
    def __init__(self, version, transport="tcp", **options):
        self.version = version
        self.changed = threading.Condition()
        self.connected = self.error = None
        self.beats, self.lost, self.closed = 0, False, False
        self.receipts = set()
        self.unasked = Inbox("a message of no subscription")
        self.inboxes = {}
        # One attempt: a server that is not there is found out at once.
        options = {"reconnect_attempts_max": 1, **options}
        if version != "1.0":
            options["vhost"] = VHOST
        if transport == "tcp":
            classes = {"1.0": stomp.Connection10, "1.1": stomp.Connection11, "1.2": stomp.Connection12}
            self.client = classes[version]([(TCP[0], int(TCP[1]))], **options)
        else:
            options.update(ws_path=WS.path, binary_mode=transport == "binary")
            self.client = WSStompConnection([(WS.hostname, WS.port)], **options)
        self.client.set_listener("session", self)
        self.connect()

    def connect(self):
        self.connected, self.error, self.closed = None, None, False
        self.client.connect()
        self.expect("CONNECTED", lambda: self.connected)

    # What the client calls, in threads of its own.

    def on_connected(self, frame):
        self.note(connected=frame.headers)

    def on_error(self, frame):
        self.note(error=frame)

    def on_disconnected(self):
        self.note(closed=True)

    def on_heartbeat(self):
        self.note(beats=self.beats + 1)

    def on_heartbeat_timeout(self):
        self.note(lost=True)

    def on_receipt(self, frame):
        self.receipts.add(frame.headers["receipt-id"])
        self.note()

    def on_message(self, frame):
        frame.session = self
        # A subscription of 1.0 may have no id, and is known by its destination then.
        key = frame.headers.get("subscription", frame.headers.get("destination"))
        self.inboxes.get(key, self.unasked).messages.put(frame)

    def note(self, **facts):
        with self.changed:
            self.__dict__.update(facts)
            self.changed.notify_all()

    # What a check does.

    def wait(self, what, holds, seconds=WAIT_SECONDS):
        with self.changed:
            check(f"{what} did not come within {seconds} s", self.changed.wait_for(holds, seconds))

    def expect(self, what, holds):
        """Waits for it, unless an ERROR or a close comes first."""
        self.wait(what, lambda: holds() or self.error or self.closed)
        if not holds():
            check(f"ERROR instead of {what}: {self.error and self.error.headers}", not self.error)
            raise Failure(f"closed instead of {what}")

    def receipted(self, what, issue, *arguments, **headers):
        receipt = f"r-{uuid.uuid4()}"
        issue(*arguments, receipt=receipt, **headers)
        self.expect(f"the receipt of {what}", lambda: receipt in self.receipts)

    def subscribe(self, destination, id="", ack="auto", inbox=None):
        """Once it returns, the subscription is active. What comes goes into the inbox that it returns.

        Without an `id` it gets one; with None, which 1.0 allows, it has none."""
        inbox = inbox or Inbox(f"a message of {destination}")
        if id == "":
            id = f"s-{len(self.inboxes)}"
        self.inboxes[id or destination] = inbox
        self.receipted(f"SUBSCRIBE {destination}", self.client.subscribe, destination, id=id, ack=ack)
        return inbox

    def unsubscribe(self, **name):
        self.receipted("UNSUBSCRIBE", self.client.unsubscribe, **name)

    def send(self, destination, body, **headers):
        self.receipted(f"SEND {destination}", self.client.send, destination, body, **headers)

    def acknowledgement(self, message):
        """What ACK and NACK call a message, which differs in all three versions."""
        if self.version == "1.2":
            return [message.headers["ack"]]
        if self.version == "1.1":
            return [message.headers["message-id"], message.headers["subscription"]]
        return [message.headers["message-id"]]

    def ack(self, message, **headers):
        self.receipted("ACK", self.client.ack, *self.acknowledgement(message), **headers)

    def nack(self, message, **headers):
        self.receipted("NACK", self.client.nack, *self.acknowledgement(message), **headers)

    def refused(self):
        """The headers of the ERROR frame, which a close must follow."""
        self.wait("the ERROR", lambda: self.error)
        self.wait("the close after ERROR", lambda: self.closed)
        return self.error.headers

    def end(self):
        """DISCONNECT and what follows it. The client closes as soon as its receipt has come."""
        known = len(self.receipts)
        self.client.disconnect()
        self.wait("the close after DISCONNECT", lambda: self.closed)
        # The client tells of the receipt after it has closed.
        with self.changed:
            return self.changed.wait_for(lambda: len(self.receipts) > known, 0.5)

    def drop(self):
        """Ends the connection without a word."""
        transport = self.client.transport
        # Over WebSocket the client closes a descriptor from which its other thread still reads: as long as that lasts,
        # nothing of the end is sent.
        if isinstance(self.client, WSStompConnection) and transport.socket and transport.socket.sock:
            transport.socket.sock.shutdown(socket.SHUT_RDWR)
        transport.disconnect_socket()
