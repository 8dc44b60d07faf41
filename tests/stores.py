"""Object stores on this machine: the emulators of both services, and a proxy before each that fails as it is told to.

    with serving("gs") as store:          # a process of its own, an empty bucket
        store.faults(0.15, seed=1)        # from now on about 15 of 100 requests fail in one of the ways of FAULTS

A process of its own, because pyarrow's gs:// files wait for the network with Python's lock in their hand.
"""

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

BUCKET = "distill-tests"
MANY = ("distill-many", [f"many/{number:04d}/x" if number < 1100 else f"many/{number:04d}" for number in range(1500)])  # a bucket of objects
PAGE = 1000  # names that both services give at a time; Google's emulator gives all of them, so the proxy cuts its answers
SLOW = 0.3  # seconds
CONTROL = "/-/faults"

# 503: an error of the store's. lost: the connection is cut while the request is on its way, the store never sees it. unanswered: the store
# has done what was asked for and the connection is cut before it says so. short: it is cut in the middle of the answer's body.
FAULTS = ("503", "lost", "unanswered", "short", "slow")


@dataclass(frozen=True)
class Store:
    """scheme: gs or s3. url: of the proxy."""

    scheme: str
    url: str

    @property
    def root(self) -> str:
        return f"{self.scheme}://{BUCKET}"

    def environment(self) -> dict[str, str]:
        """What leads gs:// or s3:// here."""
        if self.scheme == "gs":
            return {"STORAGE_EMULATOR_HOST": self.url}
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": self.url, "AWS_EC2_METADATA_DISABLED": "true", **keys}

    def faults(self, rate: float, seed: int = 0, kinds: tuple[str, ...] = FAULTS, first: int = 0, most: int = 1 << 30) -> None:
        """From now on a share `rate` of the requests fails, but for the `first` ones, and `most` of them at most. The counts start again."""
        asked = {"rate": rate, "seed": seed, "kinds": kinds, "first": first, "most": most}
        urlopen(Request(self.url + CONTROL, json.dumps(asked).encode())).close()

    def counts(self) -> dict[str, int]:
        """Requests by what became of them: "fine" or a name of FAULTS."""
        with urlopen(self.url + CONTROL) as answer:
            return json.load(answer)


@contextmanager
def serving(scheme: str) -> Iterator[Store]:
    """A store with an empty BUCKET, and one of MANY objects. It ends with this process, however this one ends."""
    process = subprocess.Popen([sys.executable, __file__, scheme], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{scheme}: no store came up. Try it by hand: {sys.executable} {__file__} {scheme}")
        yield Store(scheme, line)
    finally:
        process.kill()
        process.communicate()


# --------------------------------------------------------------------------------------------------------------------- the other process


class Proxy(ThreadingHTTPServer):
    """Hands requests on to the store at a port of this machine."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store, self._lock = port, threading.Lock()
        self.set(rate=0.0, seed=0, kinds=FAULTS, first=0, most=0)

    def set(self, *, seed: int, **asked: Any) -> None:
        with self._lock:
            self._asked, self._random, self.counts = asked, random.Random(seed), Counter()

    def draw(self) -> str:
        with self._lock:
            asked, fine = self._asked, self.counts["fine"]
            failing = fine >= asked["first"] and self.counts.total() - fine < asked["most"] and self._random.random() < asked["rate"]
            kind = self._random.choice(asked["kinds"]) if failing else "fine"
            self.counts[kind] += 1
            return kind


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # 40 ms an answer otherwise
    server: Proxy

    def pass_on(self) -> None:
        with suppress(ConnectionError):  # a client that went away
            if self.path == CONTROL:
                self._control()
            else:
                self._pass_on(self.server.draw())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = pass_on

    def _pass_on(self, fault: str) -> None:
        if fault == "lost":
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            return self._cut()
        body = self._body()
        if fault == "503":
            return self._answer(503, [], b"try again")
        if fault == "slow":
            time.sleep(SLOW)
        status, headers, data = self._ask(body)
        if fault == "unanswered":
            return self._cut()
        return self._answer(status, headers, data, short=fault == "short")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(parts)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        own = ("connection", "transfer-encoding", "content-length", "expect")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in own}
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.store)) as store:
            if not self._is_there(store):
                return 404, [], b"no such generation"
            store.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
            answer = store.getresponse()
            data = answer.read()
        return answer.status, answer.getheaders(), page(self.path, data) if self.command == "GET" else data

    def _is_there(self, store: http.client.HTTPConnection) -> bool:
        """Whether the generation that is asked for is that of the object: Google's emulator does not look."""
        parts = urlsplit(self.path)
        asked = parse_qs(parts.query).get("generation")
        if self.command != "GET" or asked is None:
            return True
        store.request("GET", parts.path.removeprefix("/download"))
        return json.loads(store.getresponse().read() or b"{}").get("generation") in asked

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, short: bool = False) -> None:
        self.send_response_only(status)
        length = str(len(data))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if short else data)
        if short:
            self._cut()

    def _control(self) -> None:
        if self.command == "POST":
            self.server.set(**json.loads(self._body()))
        self._answer(200, [], json.dumps(self.server.counts).encode())

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


def page(path: str, data: bytes) -> bytes:
    """One page of a listing of Google's emulator; any other answer as it is."""
    parts = urlsplit(path)
    if not parts.path.endswith("/o") or not data.startswith(b'{"kind": "storage#objects"'):
        return data
    found, start = json.loads(data), int(parse_qs(parts.query).get("pageToken", ["0"])[0])
    every = [(kind, value) for kind in ("items", "prefixes") for value in found[kind]]
    part = {kind: [value for name, value in every[start : start + PAGE] if name == kind] for kind in ("items", "prefixes")}
    further = {"nextPageToken": str(start + PAGE)} if start + PAGE < len(every) else {}
    return json.dumps({"kind": found["kind"], **part, **further}).encode()


def _gs() -> int:
    from gcp_storage_emulator.handlers.buckets import create_bucket
    from gcp_storage_emulator.handlers.objects import _checksums, _make_object_resource
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server._storage._write_config_to_file = lambda: None  # after each change it writes the names of all objects, for a start that never comes
    HTTPServer.request_queue_size = 128  # it serves one at a time; who finds no room in the queue of 5 tries again after a second
    create_bucket(MANY[0], server._storage)
    for key in MANY[1]:
        found = _make_object_resource("", MANY[0], key, "text/plain", "1", {})
        server._storage.create_file(MANY[0], key, b"x", _checksums(b"x", found))
    server.start()
    return server._api._httpd.server_address[1]


def _s3() -> int:
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    for bucket in (BUCKET, MANY[0]):
        urlopen(Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")).close()
    store = s3_backends["123456789012"]["aws"]
    for key in MANY[1]:
        store.put_object(MANY[0], key, b"x")
    return port


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    proxy = Proxy({"gs": _gs, "s3": _s3}[sys.argv[1]]())
    print(f"http://127.0.0.1:{proxy.server_port}", flush=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    proxy.serve_forever()
