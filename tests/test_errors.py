from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from baimo import errors
from baimo.errors import BaimoError, ProviderError, RateLimited, UnknownModel, Unreachable

KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, BaimoError)]


def drawn() -> dict[str, tuple[str | None, int]]:
    """Name → parent and exit code, as the tree in the module's documentation has them."""
    found: dict[str, tuple[str | None, int]] = {}
    above: list[tuple[int, str, int]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ((?:[│ ]  |├─ |└─ )*)([A-Z]\w+) +(?:exit code )?(?:(\d)\b)?", line)
        if match is None:
            continue
        depth = len(match[1]) // 3
        above = [one for one in above if one[0] < depth]
        parent = above[-1] if above else None
        code = int(match[3]) if match[3] else (parent[2] if parent else 1)
        found[match[2]] = (parent[1] if parent else None, code)
        above.append((depth, match[2], code))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_in_the_documentation_is_the_tree_in_the_code(kind: type[BaimoError]) -> None:
    parent = None if kind is BaimoError else kind.__bases__[0].__name__
    assert drawn()[kind.__name__] == (parent, kind.exit_code)


def test_the_tree_draws_nothing_that_does_not_exist() -> None:
    assert set(drawn()) == {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_says_in_one_sentence_when_it_is_raised(kind: type[BaimoError]) -> None:
    first = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]
    assert first.endswith(".")
    assert kind.__doc__ != (kind.__bases__[0].__doc__ or "")


def test_an_error_speaks_the_language_of_whoever_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    error = UnknownModel("models.unknown_near", name="gpt-5", near="openai/gpt-5")
    assert (str(error), error.hint) == ("there is no model gpt-5", "did you mean openai/gpt-5?")
    monkeypatch.setenv("BAIMO_LANG", "zh")
    assert "没有" in str(error)
    assert "openai/gpt-5" in error.hint


def test_an_error_without_advice_has_an_empty_hint() -> None:
    assert BaimoError("core.missing_extra", module="a", purpose="b", extra="c").hint
    assert ProviderError("providers.adapts", provider="a", model="b", quirk="c").hint == ""


@pytest.mark.parametrize("again", [lambda one: pickle.loads(pickle.dumps(one)), copy.copy])
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_to_another_process(kind: type[BaimoError], again: object) -> None:
    error = kind("models.unknown_near", name="x", near="y")
    found = again(error)  # type: ignore[operator]
    assert type(found) is kind
    assert (str(found), found.hint, found.facts) == (str(error), error.hint, error.facts)


def test_what_a_server_asked_us_to_wait_survives_too() -> None:
    limited = RateLimited(
        "providers.rate_limited", retry_after_s=7.5, host="h", model="m", status=429, detail=""
    )
    assert pickle.loads(pickle.dumps(limited)).retry_after_s == 7.5
    final = Unreachable("providers.tls", host="h", model="m", problem="")
    final.retryable = False
    assert pickle.loads(pickle.dumps(final)).retryable is False


def test_only_failures_that_pass_are_tried_again() -> None:
    retryable = {kind.__name__ for kind in KINDS if getattr(kind, "retryable", False)}
    assert retryable == {"RateLimited", "Unreachable", "BadReply"}
