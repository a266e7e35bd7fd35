"""/v1/fine_tuning: what is refused, in whose words, and what one tenant can know of another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from baimo.workspace.fine_tuning_wiring import check
from tests.server.served import Served
from tests.server.tuned import BASE, GOOD, client, ended, example, lines, steps, tuned, uploaded
from tests.server.wire_schema import problems


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setenv("BAIMO_LANG", "en")
    with tuned(tmp_path_factory.mktemp("refused")) as endpoint:
        yield endpoint
    patch.undo()


@pytest.fixture(scope="module")
def key(house: Served) -> str:
    return house.key()


@pytest.fixture(scope="module")
def ours(house: Served, key: str) -> Iterator[openai.OpenAI]:
    with client(house, key) as made:
        yield made


def changed(**turn: Any) -> dict[str, Any]:
    """An example whose answer is otherwise."""
    row = example(3)
    row["messages"][-1] = {
        name: value for name, value in (row["messages"][-1] | turn).items() if value != "drop"
    }
    return row


def with_bad(row: Any) -> bytes:
    """A file whose fourth line is bad."""
    return lines(
        [*(example(number) for number in range(3)), row, *(example(number) for number in range(4, 12))]
    )


CALL = {"id": "c1", "type": "function", "function": {"name": "open", "arguments": "{}"}}
PAIR = {
    "input": {"messages": [{"role": "user", "content": "Hi"}]},
    "preferred_output": [{"role": "assistant", "content": "Hello"}],
    "non_preferred_output": [{"role": "assistant", "content": "No"}],
}
BAD_FILES: dict[str, tuple[bytes, str, str]] = {
    # contents, code, word of the message
    "too few examples": (lines([example(1)] * 9), "invalid_n_examples", "9 example"),
    "no messages": (with_bad({"prompts": []}), "invalid_training_file", "Example 4"),
    "messages are no list": (with_bad({"messages": "hello"}), "invalid_training_file", "Example 4"),
    "no role": (with_bad(changed(role="drop")), "invalid_training_file", "role"),
    "unknown role": (with_bad(changed(role="bot")), "invalid_training_file", "bot"),
    "no content": (with_bad(changed(content="drop")), "invalid_training_file", "content"),
    "nothing from the assistant": (with_bad(changed(role="user")), "invalid_training_file", "assistant"),
    "a weight that is none": (with_bad(changed(weight=0.5)), "invalid_training_file", "weight"),
    "an extra key": (with_bad({**example(4), "id": 7}), "invalid_training_file", "extra key"),
    "a function that is not on offer": (
        with_bad(changed(content=None, tool_calls=[CALL])),
        "invalid_training_file",
        "open",
    ),
    "preferences for supervised": (lines([PAIR] * 10), "invalid_training_file", "dpo"),
    "two formats in one file": (with_bad(PAIR), "invalid_training_file", "Example 4"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_training_file_fails_the_job_in_openais_words(ours: openai.OpenAI, kind: str) -> None:
    data, code, word = BAD_FILES[kind]
    order = ours.fine_tuning.jobs.create(model=BASE, training_file=uploaded(ours, data))
    assert order.status == "validating_files"
    job = ended(ours, order.id)
    assert job.status == "failed" and job.error is not None
    assert (job.error.code, job.error.param) == (code, "training_file")
    assert word in job.error.message
    assert problems(job.to_dict(), FineTuningJob) == []
    last = ours.fine_tuning.jobs.list_events(order.id).data[0]
    assert (last.level, last.message) == ("error", job.error.message)


def test_a_bad_validation_file_is_named(ours: openai.OpenAI) -> None:
    order = ours.fine_tuning.jobs.create(
        model=BASE,
        training_file=uploaded(ours),
        validation_file=uploaded(ours, lines([{"messages": []}])),
    )
    error = ended(ours, order.id).error
    assert error is not None and (error.code, error.param) == ("invalid_validation_file", "validation_file")


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("train.csv", b"prompt,completion\n", "Must be .jsonl"),
        ("train.jsonl", b"", "JSONL"),
        ("train.jsonl", b'["a"]\n', "Line 1 is not a dictionary"),
        ("train.jsonl", GOOD + b"{nonsense\n", "Line 13 is not a dictionary"),
        ("train.jsonl", b'{"a": "\xff"}\n', "UTF-8"),
    ],
)
def test_a_file_that_is_no_training_file_is_not_taken(
    house: Served, key: str, ours: openai.OpenAI, name: str, data: bytes, word: str
) -> None:
    before = [file.id for file in ours.files.list()]
    with pytest.raises(openai.BadRequestError, match=word):
        ours.files.create(file=(name, data), purpose="fine-tune")
    assert [file.id for file in ours.files.list()] == before
    folder = house.folder / house.workspace.settings.workspace.path / "files" / "_"
    assert sorted(path.name for path in folder.iterdir()) == sorted(before)


@pytest.mark.parametrize("purpose", ["vision", "assistants", "user_data", "nonsense"])
def test_a_purpose_that_nothing_serves_is_refused_by_name(ours: openai.OpenAI, purpose: Any) -> None:
    with pytest.raises(openai.BadRequestError, match=f"nothing here reads files for '{purpose}'") as caught:
        ours.files.create(file=("a.bin", b"x"), purpose=purpose)
    assert caught.value.param == "purpose"


def test_an_unknown_file_is_refused_at_once(ours: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="invalid training_file: file-none") as caught:
        ours.fine_tuning.jobs.create(model=BASE, training_file="file-none")
    assert (caught.value.param, caught.value.code) == ("training_file", None)


def test_a_file_for_something_else_is_refused_at_once(ours: openai.OpenAI) -> None:
    file = ours.files.create(file=("a.jsonl", GOOD), purpose="batch").id
    with pytest.raises(openai.BadRequestError, match="'batch'") as caught:
        ours.fine_tuning.jobs.create(model=BASE, training_file=file)
    assert caught.value.param == "training_file"


@pytest.mark.parametrize("model", ["gpt-4o-2024-08-06", "acme/small", "fast", "ft:gone:acme::1", ""])
def test_a_model_that_cannot_be_tuned_is_refused_with_those_that_can(ours: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ours.fine_tuning.jobs.create(model=model, training_file=uploaded(ours))
    assert (caught.value.code, caught.value.param) == ("model_not_available", "model")
    assert f"Model {model} is not available for fine-tuning or does not exist." in str(caught.value)
    assert BASE in str(caught.value)


def supervised(**parameters: Any) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": parameters}}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": None}, "model"),
        ({"training_file": None}, "training_file"),
        ({"training_file": 7}, "training_file"),
        ({"suffix": "a:b"}, "suffix"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**31}, "seed"),
        ({"metadata": {"n": 1}}, "metadata"),
        ({"metadata": {"baimo.effort": "huge"}}, "metadata.baimo.effort"),
        ({"metadata": {"baimo.overrides": "[]"}}, "metadata.baimo.overrides"),
        ({"method": {"type": "magic"}}, "method.type"),
        ({"method": {"type": "reinforcement"}}, "method.reinforcement"),
        ({"method": {"type": "reinforcement", "reinforcement": {}}}, "method.reinforcement.grader"),
        (
            {
                "method": {
                    "type": "reinforcement",
                    "reinforcement": {"grader": {"type": "multi", "graders": {}}},
                }
            },
            "method.reinforcement.grader.calculate_output",
        ),
        (supervised(n_epochs=0), "method.supervised.hyperparameters.n_epochs"),
        (supervised(n_epochs=51), "method.supervised.hyperparameters.n_epochs"),
        (supervised(n_epochs="many"), "method.supervised.hyperparameters.n_epochs"),
        (
            supervised(learning_rate_multiplier=0),
            "method.supervised.hyperparameters.learning_rate_multiplier",
        ),
        (supervised(beta=0.1), "method.supervised.hyperparameters.beta"),
        ({"hyperparameters": {}, **supervised()}, "hyperparameters"),
        ({"integrations": [{"type": "mlflow"}]}, "integrations[0].type"),
        ({"integrations": [{"type": "wandb"}]}, "integrations[0].wandb"),
        ({"baimo": {"recipe": "magic"}}, "baimo.recipe"),
        ({"baimo": {"effort": "huge"}}, "baimo.effort"),
    ],
)
def test_a_wrong_order_names_the_member(
    house: Served, key: str, ours: openai.OpenAI, body: dict[str, Any], param: str
) -> None:
    whole = {"model": BASE, "training_file": uploaded(ours), **body}
    answer = house.call("POST", "/v1/fine_tuning/jobs", key, whole)
    assert (answer.status, answer.data["error"]["param"]) == (400, param), answer.data
    assert answer.data["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "param", "near"),
    [
        ({"baimo": {"overrides": {"rnak": 8}}}, "baimo.overrides.rnak", "rank"),
        ({"baimo": {"overrides": {"rank": "many"}}}, "baimo.overrides.rank", "many"),
        ({"metadata": {"baimo.overrides": '{"beta": 1}'}}, "baimo.overrides.beta", "sft"),
        ({"baimo": {"overrides": {"x" * 5000: 8}}}, "baimo.overrides." + "x" * 100, "rank"),
        (
            {"baimo": {"recipe": "prompt"}, **supervised(n_epochs=1)},
            "method.supervised.hyperparameters.n_epochs",
            "prompt",
        ),
        (
            {"baimo": {"recipe": "distill"}, "hyperparameters": {"batch_size": 1}},
            "hyperparameters.batch_size",
            "",
        ),
    ],
)
def test_a_setting_that_the_recipe_does_not_have_is_refused_when_it_is_ordered(
    house: Served, key: str, ours: openai.OpenAI, body: dict[str, Any], param: str, near: str
) -> None:
    tuning = house.state["service"].tuning
    tuning.check, before = check, tuning.check
    try:
        answer = house.call(
            "POST", "/v1/fine_tuning/jobs", key, {"model": BASE, "training_file": uploaded(ours), **body}
        )
    finally:
        tuning.check = before
    assert (answer.status, answer.data["error"]["param"]) == (400, param), answer.data
    assert near in answer.data["error"]["message"] and len(answer.data["error"]["message"]) < 1500


def test_an_unknown_job_is_not_found_whatever_is_asked_of_it(ours: openai.OpenAI) -> None:
    jobs = ours.fine_tuning.jobs
    asked: list[Callable[[str], Any]] = [
        *(jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list),
    ]
    for attempt in asked:
        with pytest.raises(openai.NotFoundError, match="Could not find fine tune: ftjob-none") as caught:
            attempt("ftjob-none")
        assert (caught.value.code, caught.value.param) == ("fine_tune_not_found", "fine_tune_id")


def test_pages_are_as_long_as_they_may_be(house: Served, key: str) -> None:
    for query in ("limit=0", "limit=1001", "limit=x"):
        assert house.call("GET", f"/v1/fine_tuning/jobs?{query}", key).status == 400


def test_neither_of_two_tenants_knows_anything_of_the_other(house: Served) -> None:
    sides: list[tuple[openai.OpenAI, str, str, str]] = []
    for name in ("left", "right"):
        house.tenant(name)
        side = client(house, house.key(tenant=name))
        file = uploaded(side)
        job = ended(
            side, side.fine_tuning.jobs.create(model=BASE, training_file=file, extra_body=steps(2)).id
        )
        assert job.fine_tuned_model is not None
        sides.append((side, file, job.id, job.fine_tuned_model))
    for (side, mine, my_job, my_model), (_, *others) in (sides, sides[::-1]):
        assert [one.id for one in side.fine_tuning.jobs.list()] == [my_job]
        seen = json.dumps([one.to_dict() for one in (*side.files.list(), *side.models.list())])
        assert mine in seen and not any(word in seen for word in others)
        for attempt in strange(side, *others):
            with pytest.raises(openai.NotFoundError) as caught:
                attempt()
            assert my_model not in str(caught.value)
        for given in (
            {"model": BASE, "training_file": others[0]},
            {"model": others[2], "training_file": mine},
        ):
            with pytest.raises(openai.BadRequestError):
                side.fine_tuning.jobs.create(**given)  # type: ignore[arg-type]
    for side, *_ in sides:
        side.close()


def strange(side: openai.OpenAI, file: str, job: str, model: str) -> list[Callable[[], Any]]:
    """Everything that can be asked about what is another's."""
    jobs, permissions = side.fine_tuning.jobs, side.fine_tuning.checkpoints.permissions
    asked: list[Callable[[str], Any]] = [
        *(jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list),
    ]
    return [
        *(partial(ask, job) for ask in asked),
        *(partial(ask, file) for ask in (side.files.retrieve, side.files.content, side.files.delete)),
        *(partial(ask, model) for ask in (side.models.retrieve, side.models.delete, permissions.list)),
        partial(permissions.list, f"{model}:ckpt-step-2"),
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", f"/v1/fine_tuning/jobs{rest}") for rest in ("", "/x/cancel", "/x/pause", "/x/resume")),
        *(("GET", f"/v1/fine_tuning/jobs{rest}") for rest in ("", "/x", "/x/events", "/x/checkpoints")),
        ("DELETE", "/v1/models/ft:x"),
        ("GET", "/v1/fine_tuning/checkpoints/ft:x/permissions"),
    ],
)
def test_a_key_that_is_not_for_tuning_gets_nowhere(house: Served, method: str, path: str) -> None:
    narrow = house.key(surfaces=("chat", "files"))
    assert house.call(method, path, narrow, {} if method == "POST" else None).status == 403


def test_a_key_tunes_only_the_models_that_it_may_use(house: Served, ours: openai.OpenAI) -> None:
    with client(house, house.key(models=("acme/*",))) as narrow:
        with pytest.raises(openai.BadRequestError) as caught:
            narrow.fine_tuning.jobs.create(model=BASE, training_file=uploaded(narrow))
        assert caught.value.code == "model_not_available"
