"""Limits of a provider as clients of a whole endpoint meet them."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from baimo.workspace.ledger_options import ShowOptions
from tests.server.served import served
from tests.server.upstream import upstream
from tests.waiting import PATIENCE_S

HOUSE = """
[serve]
limit_wait_s = {wait_s}
[providers.acme]
base_url = "http://127.0.0.1:{port}/v1"
inside = true
concurrency = 2
quirks = ["any_model"]
"""
ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "small",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Noon."}}],
    "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7},
}


class Gate:
    """Answers when it is let go; knows how many were asked at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.changed = threading.Condition()
        self.under_way = self.most = 0

    def __call__(self, path: str, body: Any) -> Any:
        with self.changed:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.changed.notify_all()
        assert self.go.wait(PATIENCE_S)
        with self.changed:
            self.under_way -= 1
        return ANSWER

    def full(self) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.under_way == 2, PATIENCE_S)


def test_a_provider_is_asked_by_no_more_clients_at_once_than_its_settings_say(tmp_path: Path) -> None:
    gate = Gate()
    with upstream() as vendor, ThreadPoolExecutor(8) as clients:
        vendor.answers = gate
        with served(tmp_path, HOUSE.format(port=vendor.port, wait_s=30)) as house:
            key, service = house.key(), house.state["service"]
            asked = [clients.submit(house.chat, key) for _ in range(6)]
            leaving = http.client.HTTPConnection("127.0.0.1", house.port)
            gate.full()
            body = json.dumps({"model": "acme/small", "messages": [{"role": "user", "content": "hi"}]})
            leaving.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {key}"})
            until = time.monotonic() + PATIENCE_S
            while service.gateway.in_flight < 7:
                assert time.monotonic() < until
                time.sleep(0.005)
            leaving.close()  # while it is in line
            while service.gateway.in_flight > 6:
                assert time.monotonic() < until
                time.sleep(0.005)
            gate.go.set()
            assert [one.result(PATIENCE_S).status for one in asked] == [200] * 6
            assert (gate.most, gate.under_way) == (2, 0)
            house.recorded(7)
            lines = [line.record for line in house.workspace.bookkeeping.newest(ShowOptions(record=""))]
            waited = [one for one in lines if (one.queue_ms or 0) > 0]
            assert len(waited) == 5
            assert sorted(one.status for one in lines) == ["gateway.client_gone"] + ["ok"] * 6


def test_who_waits_in_vain_is_told_when_to_come_again_in_the_words_of_the_api(tmp_path: Path) -> None:
    gate = Gate()
    with upstream() as vendor, ThreadPoolExecutor(2) as clients:
        vendor.answers = gate
        with served(tmp_path, HOUSE.format(port=vendor.port, wait_s=0.05)) as house:
            key = house.key()
            asked = [clients.submit(house.chat, key) for _ in range(2)]
            gate.full()
            refused = house.chat(key)
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            assert refused.data["error"]["code"] == "rate_limit_exceeded"
            words = {
                "model": "acme/small",
                "max_tokens": 9,
                "messages": [{"role": "user", "content": "hi"}],
            }
            refused = house.call("POST", "/v1/messages", key, words)
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            assert refused.data["error"]["type"] == "rate_limit_error"
            words["stream"] = True
            refused = house.call("POST", "/v1/messages", key, words)
            assert (refused.status, refused.data["type"]) == (429, "error")
            gate.go.set()
            assert [one.result(PATIENCE_S).status for one in asked] == [200] * 2
            page = house.call("GET", "/metrics", house.key(role="viewer")).body.decode()
            (waited,) = re.findall(r"^baimo_limit_wait_seconds_total (\S+)$", page, re.MULTILINE)
            assert float(waited) >= 3 * 0.04
