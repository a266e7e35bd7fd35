"""A blind vote over the API: words only until it is cast, then names, standings and rows to learn from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from math import comb
from pathlib import Path
from typing import Any

import pytest

from baimo.tuning.data.formats import read
from baimo.workspace.preferences import standings, wilson
from tests.console.talking import ANSWERS, SETTINGS, Talking, talking
from tests.server.served import TOML, Said, Served, served

MODELS = ["up/heron", "up/plover"]
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is it?"}]


@pytest.fixture(scope="module")
def up() -> Iterator[Talking]:
    with talking() as server:
        yield server


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, up: Talking) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("house"), TOML + SETTINGS.format(port=up.port)) as endpoint:
        endpoint.tenant("red", keep_contents=True)
        endpoint.tenant("shy")
        yield endpoint


def begun(house: Served, key: str, models: list[str] = MODELS) -> str:
    said = house.call("POST", "/api/votes", key, {"models": models})
    assert (said.status, said.data["places"]) == (201, list("ABCD"[: len(models)]))
    return said.data["vote"]


def answer(house: Served, key: str, vote: str, place: str, **more: Any) -> Said:
    return house.call("POST", f"/api/votes/{vote}/{place}", key, {"messages": ASKED, **more})


def events(said: Said) -> list[dict[str, Any]]:
    return [json.loads(line[5:]) for line in said.body.splitlines() if line.startswith(b"data:")]


def words(said: Said) -> str:
    return "".join(event.get("text") or "" for event in events(said))


def voted(house: Served, key: str, choice: str, models: list[str] = MODELS) -> dict[str, Any]:
    vote = begun(house, key, models)
    for place in "ABCD"[: len(models)]:
        assert events(answer(house, key, vote, place))[-1] == {"done": True}
    return house.call("PATCH", f"/api/votes/{vote}", key, {"choice": choice}).data


def test_nothing_but_words_comes_before_the_vote(house: Served) -> None:
    key = house.key(tenant="red", role="admin")
    vote = begun(house, key)
    said = [answer(house, key, vote, place, temperature=0.5, seed=7) for place in "AB"]
    assert sorted(map(words, said)) == sorted(ANSWERS[name] for name in ("heron", "plover"))
    for one in said:
        assert one.headers["content-type"].startswith("text/event-stream")
        assert one.headers["x-accel-buffering"] == "no"
        assert all(event.keys() in ({"text"}, {"done"}) for event in events(one))
        told = str(sorted(one.headers.items())).encode() + one.body.replace(words(one).encode(), b"")
        for secret in (b"heron", b"plover", b"up/", b"rec_", b"cost", b"tokens"):
            assert secret not in told
    assert vote not in str(house.call("GET", "/api/votes", key).data)  # not a word before it is cast
    audited = house.call("GET", f"/api/audit?subject={vote}", key).data["data"]
    assert [act["act"] for act in audited] == ["vote.begin"] and "up/" not in str(audited)
    cast = house.call("PATCH", f"/api/votes/{vote}", key, {"choice": "A"}).data
    names = {one["place"]: one["model"] for one in cast["answers"]}
    assert [words(one) for one in said] == [ANSWERS[names[place][3:]] for place in "AB"]
    assert (cast["model"], cast["words"]) == (names["A"], True)


def test_each_answer_has_its_record_with_its_price_and_parameters_reach_the_model(
    house: Served, up: Talking
) -> None:
    key = house.key(tenant="red", role="viewer")
    before, vote = house.records, begun(house, key)
    for place in "AB":
        answer(house, key, vote, place, temperature=0.25, top_p=0.5, max_tokens=9, seed=3)
    for body in up.bodies[-2:]:
        assert [body[name] for name in ("temperature", "top_p", "max_tokens", "seed")] == [0.25, 0.5, 9, 3]
        assert body["messages"] == ASKED
    house.recorded(before + 2)
    cast = house.call("PATCH", f"/api/votes/{vote}", key, {"choice": "tie"}).data
    prices = {"up/heron": (100, 200), "up/plover": (1000, 2000)}
    for one in cast["answers"]:
        line = house.call("GET", f"/api/ledger/records/{one['record']}", key).data
        low, high = prices[one["model"]]
        assert line["model"] == one["model"] and line["surface"] == "chat"
        assert Decimal(line["cost"]) == Decimal(low * line["tokens_in"] + high * line["tokens_out"]) / 10**6


@pytest.mark.parametrize(
    ("models", "status", "code"),
    [
        (["up/heron"], 400, "admin.bad_value"),
        (["up/heron"] * 2, 400, "votes.same_model"),
        (["up/heron", "nobody/knows"], 404, "admin.no_model"),
        (["up/heron", "up/plover", "up/slow", "acme/small", "fast"], 400, "admin.bad_value"),
    ],
)
def test_two_to_four_known_models_are_voted_on(
    house: Served, models: list[str], status: int, code: str
) -> None:
    said = house.call("POST", "/api/votes", house.key(tenant="red"), {"models": models})
    assert (said.status, said.data["error"]["code"]) == (status, code)


def test_a_key_that_may_not_use_a_model_cannot_meet_it_blind(house: Served) -> None:
    key = house.key(tenant="red", models=("up/heron",))
    said = house.call("POST", "/api/votes", key, {"models": MODELS})
    assert (said.status, said.data["error"]["field"]) == (404, "/models/1")


def test_nobody_else_asks_or_votes_and_nobody_after_the_vote(house: Served) -> None:
    key, other = house.key(tenant="red"), house.key(tenant="red", role="admin")
    vote = begun(house, key)
    assert answer(house, other, vote, "A").data["error"]["code"] == "votes.unknown"
    assert answer(house, key, vote, "C").status == 404
    unanswered = house.call("PATCH", f"/api/votes/{vote}", key, {"choice": "A"})
    assert unanswered.data["error"]["code"] == "votes.unanswered"
    for place in "AB":
        answer(house, key, vote, place)
    other_words = house.call(
        "POST", f"/api/votes/{vote}/A", key, {"messages": [{"role": "user", "content": "Else?"}]}
    )
    assert other_words.data["error"]["code"] == "votes.other_question"
    assert house.call("PATCH", f"/api/votes/{vote}", other, {"choice": "A"}).status == 404
    assert house.call("PATCH", f"/api/votes/{vote}", key, {"choice": "bad"}).data["model"] is None
    for again in (
        answer(house, key, vote, "A"),
        house.call("PATCH", f"/api/votes/{vote}", key, {"choice": "A"}),
    ):
        assert (again.status, again.data["error"]["code"]) == (409, "votes.cast_already")


def test_a_failure_does_not_say_whose_it_was(house: Served) -> None:
    key = house.key(tenant="red", surfaces=("embeddings",))
    vote = begun(house, key)
    failed = answer(house, key, vote, "A")
    assert (failed.status, events(failed)) == (200, [{"failed": 403}])


def test_preferences_are_exported_as_dpo_reads_them_and_only_where_words_are_kept(
    house: Served, tmp_path: Path
) -> None:
    house.tenant("blue", keep_contents=True)
    key, shy = house.key(tenant="blue", role="reviewer"), house.key(tenant="shy", role="reviewer")
    cast = voted(house, key, "B")
    voted(house, key, "tie")
    assert voted(house, shy, "A")["words"] is False
    said = house.call("GET", "/api/votes/export", key)
    path = tmp_path / "votes.jsonl"
    path.write_bytes(said.body)
    reading = read(path)
    assert reading.problems == [] and len(reading.rows) == 1
    row, places = reading.rows[0], {one["place"]: one["model"][3:] for one in cast["answers"]}
    assert [one.content for one in row.messages] == ["Be brief.", "What is it?", ANSWERS[places["B"]]]
    assert [one.content for one in row.rejected] == [ANSWERS[places["A"]]]
    assert house.call("GET", "/api/votes/export", shy).body == b""
    rates = house.call("GET", "/api/votes/rates", shy).data["data"]
    assert sorted((one["model"], one["votes"]) for one in rates) == [("up/heron", 1), ("up/plover", 1)]


def test_a_vote_counts_once_for_each_model_whatever_its_company() -> None:
    two, three = {"A": "x", "B": "y"}, {"A": "x", "B": "y", "C": "z"}
    found = {one.model: one for one in standings([("A", two), ("A", three), ("tie", two), ("bad", three)])}
    assert found["x"][:6] == ("x", 4, 2, 0, 1, 1)
    assert (found["x"].rate, found["y"].rate, found["z"].rate) == (1.0, 0.0, 0.0)
    assert found["x"].chance == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert next(iter(found)) == "x"
    undecided = standings([("tie", two)])[0]
    assert (undecided.rate, undecided.low, undecided.chance) == (None, None, None)


def test_wilsons_interval_is_the_one_of_the_textbook_and_keeps_its_promise() -> None:
    low, high = wilson(8, 10)  # Newcombe 1998, Statistics in Medicine 17, 857–872: method 3
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert wilson(0, 5)[0] == 0.0 and wilson(5, 5)[1] == 1.0
    for truth in (0.1, 0.35, 0.5, 0.9):  # exact coverage at 40 votes
        covered = sum(
            comb(40, wins) * truth**wins * (1 - truth) ** (40 - wins)
            for wins in range(41)
            if wilson(wins, 40)[0] <= truth <= wilson(wins, 40)[1]
        )
        assert covered > 0.92
