"""An OpenAI-compatible server for tests, spoken to over real HTTP: it answers what a function says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = str | tuple[int, dict[str, str], Any]


def completion(text: str | None, finish_reason: str = "stop") -> dict:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "stub",
        "choices": [choice],
    }


class Stub(ThreadingHTTPServer):
    """`requests` are the bodies that came, `headers` their headers, `most` how many were there at once."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Callable[[dict], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        self.now = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each reply waits 40 ms for the client's acknowledgement

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append(body | {"path": self.path})
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.now += 1
            server.most = max(server.most, server.now)
        answer = server.answer(body)
        with server.lock:
            server.now -= 1
        status, headers, content = (200, {}, completion(answer)) if isinstance(answer, str) else answer
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        if isinstance(content, Iterator):  # of parts, until the client has enough
            self.close_connection = True
            self.end_headers()
            with suppress(ConnectionError):
                for part in content:
                    self.wfile.write(part)
            return
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(answer: Callable[[dict], Answer]) -> Iterator[Stub]:
    with Stub(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def refusal(status: int, message: str = "no", **headers: str) -> Answer:
    """An error as OpenAI-compatible servers send it."""
    return status, headers, {"error": {"message": message, "type": "error"}}
