"""A model's server that writes word by word, and stops in the middle until it is told to go on."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SETTINGS = """
[providers.up]
protocol = "openai"
base_url = "http://127.0.0.1:{port}/v1"
inside = true
retries = 0
[models."up/heron"]
input_per_million = 100.0
output_per_million = 200.0
[models."up/plover"]
input_per_million = 1000.0
output_per_million = 2000.0
[models."up/slow"]
input_per_million = 1.0
output_per_million = 2.0
"""
ANSWERS: Mapping[str, str] = {
    "heron": "It is a wading bird with long legs.",
    "plover": "Some bird.",
    "slow": "This goes on and on and never ends by itself.",
}


@dataclass
class Talking:
    """What came, and when the slow one goes on."""

    port: int
    bodies: list[dict[str, Any]] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    """The slow model writes its first words and waits for this."""
    left: threading.Event = field(default_factory=threading.Event)
    """Whoever asked the slow one has hung up."""


@contextlib.contextmanager
def talking() -> Iterator[Talking]:
    """An OpenAI-compatible server on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.bodies.append(body)
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            words = ANSWERS[body["model"]].split()
            for place, word in enumerate(words):
                if body["model"] == "slow" and place == 4 and not self._may_go_on():
                    seen.left.set()
                    return
                self._chunk(body, {"delta": {"content": word if not place else f" {word}"}})
            self._chunk(body, {"delta": {}, "finish_reason": "stop"})
            usage = {"prompt_tokens": 11, "completion_tokens": len(words), "total_tokens": 11 + len(words)}
            self._event({"id": "x", "model": body["model"], "choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")

        def _may_go_on(self) -> bool:
            """Whether it was told to before its client hung up."""
            self.connection.settimeout(0.02)
            while not seen.go_on.is_set():
                with contextlib.suppress(TimeoutError):
                    if not self.connection.recv(1):
                        return False
            return True

        def _chunk(self, body: dict[str, Any], choice: dict[str, Any]) -> None:
            self._event(
                {"id": f"of-{body['model']}", "model": body["model"], "choices": [{"index": 0, **choice}]}
            )

        def _event(self, data: dict[str, Any]) -> None:
            self.wfile.write(b"data: " + json.dumps(data).encode() + b"\n\n")
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        seen = Talking(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            seen.go_on.set()
            server.shutdown()
            thread.join()
