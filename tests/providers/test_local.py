"""The local provider: choice of engine, one load per process, chat templates, tools, options."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_model import BRIEF, FRANCE, NAME, asked, provider

from baimo.core.call import Completion, Request
from baimo.core.message import Message, Part, Tool, ToolCall
from baimo.errors import ConfigError, ProviderError, RequestRefused, UnknownModel
from baimo.providers import chat_template, gguf
from baimo.providers.engine import Job, Piece
from baimo.providers.local import LocalProvider
from baimo.providers.local_options import LocalOptions
from baimo.providers.shelf import Shelf
from baimo.providers.tools import Spoken, ToolReader

HELLO = (Message(role="user", content="Hi"),)
TOOLS = (Tool(name="light", description="Switch", parameters={"type": "object", "properties": {}}),)


def test_importing_the_provider_imports_no_engine() -> None:
    program = (
        "import sys, baimo.providers.local;"
        "print([name for name in ('numpy', 'openvino', 'openvino_genai', 'xllamacpp', 'gguf', 'jinja2', 'jsonschema')"
        " if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.local
def test_the_spec_names_engine_version_precision_and_file(smollm2: Path) -> None:
    made = provider(smollm2, engine="openvino", precision="f32")
    assert made.spec.args["engine"] == "openvino"
    assert made.spec.args["precision"] == "f32"
    assert made.spec.version.startswith("openvino 20")
    assert made.spec_of(NAME).args["file"] == gguf.file_hash(smollm2)
    assert made.spec_of(NAME) != provider(smollm2, engine="llamacpp").spec_of(NAME)


@pytest.mark.local
def test_log_probabilities_are_taken_from_llamacpp_when_the_engine_is_free(smollm2: Path) -> None:
    made = provider(smollm2, threads=1)
    request = replace(asked("Hello", max_tokens=2), top_logprobs=2)

    async def ask() -> Completion:
        try:
            return await made.complete(request)
        finally:
            await made.aclose()

    answer = asyncio.run(ask())
    assert answer.logprobs is not None
    assert [len(token.top) for token in answer.logprobs] == [2, 2]


@pytest.mark.local
def test_seeds_decide_sampled_answers(on_openvino: LocalProvider) -> None:
    requests = [asked("Tell me a story", temperature=1.0, top_p=0.9, seed=seed) for seed in (6, 7, 7, 8)]

    async def ask() -> list[str]:
        return [(await on_openvino.complete(request)).text for request in requests]

    _, seven, again, eight = asyncio.run(
        ask()
    )  # the first one computes the prompt, the others find it cached
    assert seven == again != eight


@pytest.mark.local
def test_stop_strings_and_exact_counts(on_openvino: LocalProvider) -> None:
    async def ask() -> tuple[Completion, Completion]:
        whole = await on_openvino.complete(asked(FRANCE, max_tokens=16, system=BRIEF))
        return whole, await on_openvino.complete(asked(FRANCE, stop=("Paris",), system=BRIEF))

    whole, stopped = asyncio.run(ask())
    assert whole.text == "The capital of France is Paris."
    assert (whole.usage.tokens_in, whole.usage.tokens_out) == (26, 8)
    assert stopped.text == "The capital of France is "
    assert stopped.finish_reason == "stop"
    assert stopped.usage.tokens_out == 6


@pytest.mark.local
def test_a_prompt_beyond_the_window_is_refused_with_both_sizes(on_openvino: LocalProvider) -> None:
    with pytest.raises(RequestRefused, match=r"about 90\d\d tokens.*8192"):
        asyncio.run(on_openvino.complete(asked("a " * 9000)))


@pytest.mark.local
def test_two_providers_of_one_process_share_the_model(
    on_openvino: LocalProvider, smollm2: Path, weights_cache: Path
) -> None:
    twin = provider(smollm2, engine="openvino", cache=str(weights_cache), max_waiting=64)

    async def ask() -> bool:
        async with twin._using(asked("x")) as mine, on_openvino._using(asked("x")) as theirs:
            same = mine.engine is theirs.engine
        await twin.aclose()
        assert (await on_openvino.complete(asked("still there?", max_tokens=1))).usage.tokens_out == 1
        return same

    assert asyncio.run(ask())


class Idle:
    """An engine that only knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        yield Piece(finish_reason="stop")

    def close(self) -> None:
        self.closed = True


def test_an_engine_is_closed_by_its_last_user() -> None:
    shelf, engine = Shelf(), Idle()
    assert shelf.take("a", lambda: engine) is engine
    assert shelf.take("a", lambda: pytest.fail("loaded twice")) is engine
    shelf.give_back("a")
    assert not engine.closed
    shelf.give_back("a")
    assert engine.closed


def test_a_failed_load_can_be_tried_again() -> None:
    shelf, engine = Shelf(), Idle()
    with pytest.raises(ZeroDivisionError):
        shelf.take("a", lambda: 1 // 0)  # type: ignore[arg-type,return-value]
    assert shelf.take("a", lambda: engine) is engine


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engin": "openvino"}, "did you mean engine"),
        ({"engine": "vllm"}, "auto, openvino, llamacpp"),
        ({"threads": "2"}, "allowed: int"),
        ({"max_batch": -1}, "allowed: int"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        LocalOptions.read(options)
    assert said in raised.value.hint


def test_a_model_without_weights_is_unknown() -> None:
    made = LocalProvider(
        provider(Path("x"))._vendor,
        __import__("baimo.config", fromlist=["ProviderSettings"]).ProviderSettings(),
    )
    with pytest.raises(UnknownModel, match="has no weights"):
        asyncio.run(made.complete(asked("hi")))


def test_a_template_sees_what_transformers_shows_it() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}\n"
        "    {% if tools %}{{ tools | tojson }}{% endif %}\n"
        "{{ strftime_now('%Y') }}{% if add_generation_prompt %}>{% endif %}{{ mood }}"
    )
    now = datetime(2031, 1, 2, tzinfo=UTC)
    made = chat_template.rendered(
        source, HELLO, tools=TOOLS, special={"bos_token": "<s>"}, now=now, variables={"mood": "!"}
    )
    assert made == (
        '<s>[user]Hi{"type": "function", "function": {"name": "light", "description": "Switch", '
        '"parameters": {"type": "object", "properties": {}}}}'.replace(
            '{"type": "function"', '[{"type": "function"', 1
        )
        + "]2031>!"
    )


def test_a_template_that_refuses_is_a_refused_request() -> None:
    with pytest.raises(RequestRefused, match="roles must alternate"):
        chat_template.rendered("{{ raise_exception('roles must alternate') }}", HELLO)


def test_a_template_cannot_reach_the_interpreter() -> None:
    for attack in (
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
    ):
        with pytest.raises(RequestRefused):
            chat_template.rendered(attack, HELLO)


def test_generation_marks_and_loop_controls_are_understood() -> None:
    source = (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}"
    )
    assert chat_template.rendered(source, HELLO * 2) == "Hi"


def test_arguments_of_tool_calls_reach_the_template_as_an_object() -> None:
    call = ToolCall(id="1", name="light", arguments='{"on": true}')
    messages = (
        *HELLO,
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="ok", tool_call_id="1"),
    )
    source = "{{ messages[1].tool_calls[0].function.arguments.on }} {{ messages[2].tool_call_id }}"
    assert chat_template.rendered(source, messages) == "True 1"


def test_pictures_and_tools_without_a_place_are_refused() -> None:
    picture = Message(role="user", content=(Part(kind="image_url", data="data:,"),))
    with pytest.raises(RequestRefused, match="image_url"):
        chat_template.rendered("", (picture,))
    with pytest.raises(RequestRefused, match="no place for tools"):
        chat_template.rendered("{{ messages }}", HELLO, tools=TOOLS)


def test_a_model_without_a_template_gets_a_plain_dialogue() -> None:
    assert chat_template.rendered("", HELLO) == "user: Hi\nassistant:"


ANSWER = 'Sure.<tool_call>\n{"name": "light", "arguments": {"on": true}}\n</tool_call>\n<tool_call>{"name": "light"}'


@given(cut=st.integers(1, 30))
def test_tool_calls_are_found_however_the_text_is_cut(cut: int) -> None:
    reader = ToolReader(Request(model=NAME, messages=HELLO, tools=TOOLS))
    spoken = Spoken()
    for at in range(0, len(ANSWER), cut):
        spoken = spoken.joined(reader.feed(ANSWER[at : at + cut]))
    spoken = spoken.joined(reader.rest())
    assert spoken.text == "Sure."
    assert [(call.name, call.arguments) for call in spoken.calls] == [
        ("light", '{"on": true}'),
        ("light", "{}"),
    ]
    assert spoken.calls[0].id != spoken.calls[1].id


@given(text=st.text(alphabet='<tool_cal>/{}"ab', max_size=40), cut=st.integers(1, 7))
def test_text_that_is_no_call_is_kept_to_the_letter(text: str, cut: int) -> None:
    reader = ToolReader(Request(model=NAME, messages=HELLO, tools=TOOLS))
    parts = [reader.feed(text[at : at + cut]).text for at in range(0, len(text), cut)]
    assert "".join(parts) + reader.rest().text == text


def test_a_model_that_openvino_cannot_read_is_left_to_llamacpp(tmp_path: Path) -> None:
    library = pytest.importorskip("gguf", reason="gguf is missing: pip install 'baimo[local]'")
    engines: dict[str, Any] = {}
    for architecture in ("qwen2", "gemma3"):
        path = tmp_path / f"{architecture}.gguf"
        writer = library.GGUFWriter(path, architecture)
        writer.add_context_length(128)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        engines[architecture] = provider(path).spec_of(NAME).args["engine"]
    assert engines["gemma3"] == "llamacpp"
    assert engines["qwen2"] == LocalOptions().preferred


def test_a_closed_provider_says_so() -> None:
    made = provider(Path("x"))

    async def ask() -> None:
        await made.aclose()
        await made.complete(asked("hi"))

    with pytest.raises(ProviderError, match="closed"):
        asyncio.run(ask())
