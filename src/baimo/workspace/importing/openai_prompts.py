"""How OpenAI's runs asked: templates over `item` as prompts over columns, and models with parameters as candidates."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any, cast

from baimo.core.ids import canonical
from baimo.core.message import Message
from baimo.core.task import Prompt
from baimo.errors import BaimoError
from baimo.evals.graders.messages import messages
from baimo.evals.graders.template import Path as Variable
from baimo.evals.graders.template import found, path_of, variables
from baimo.evals.tasks.formats.messages import messages_of
from baimo.workspace.importing.carried import Draft, Path

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_FIELD = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_OPENERS = re.compile(r"\{(?=[{%#])")
QUESTIONS = ("input", "question", "prompt", "query", "text", "instruction", "message", "ticket_text")
"""Fields that are taken for what is asked where no run says it, in this order."""
CONVERSATIONS = ("input", "messages", "input_messages", "input_trajectory")
"""Fields that are taken for the conversation to continue, likewise."""
Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How the rows are asked."""

    prompts: tuple[Prompt, ...]
    """For [[prompts]]."""
    of_run: Mapping[int, str]
    """Number of a run → name of its prompt."""
    conversation: Sequence[Mapping[str, Any]] = ()
    """Template of more turns than a prompt has: it is filled row by row."""
    reference: str = ""
    """Path of an item's own conversation."""
    tools: Sequence[Any] = ()
    """Functions on offer, the same for every run."""


def asking(draft: Draft, items: Sequence[Object]) -> Asking:
    """The prompts of all runs; of templates that are no prompt the first one decides what the rows look like."""
    prompts: dict[bytes, Prompt] = {}
    of_run: dict[int, str] = {}
    conversation: Sequence[Mapping[str, Any]] = ()
    reference = ""
    for number in range(draft.length(("runs",))):
        at: Path = ("runs", number, "data_source", "input_messages")
        said = table(draft.at(at))
        template = [table(one) for one in items_of(said.get("template"))]
        if said.get("type") == "item_reference" and not prompts and not conversation:
            reference = reference or str(said.get("item_reference") or "")
            draft.reflected(("data", "test"), at)
        elif (
            template and (prompt := _prompt(template, items, f"prompt-{len(prompts) + 1}")) and not reference
        ):
            known = prompts.setdefault(canonical(template), prompt)
            of_run[number] = known.name
            draft.reflected(("prompts", known.name), at)
        elif template and not prompts and not reference and (not conversation or conversation == template):
            conversation = template
            draft.reflected(("data", "test"), at)
        elif said:
            draft.note(at, "evals_second_conversation")
    made = tuple(prompts.values())
    if not made and not conversation and not reference:
        reference = _own_conversation(draft, items)
        made = () if reference else (_guessed(draft, items),)
    return Asking(
        prompts=made or (Prompt(),),
        of_run=of_run,
        conversation=conversation,
        reference=reference,
        tools=_tools(draft),
    )


def conversation(asking: Asking, item: Mapping[str, Any], draft: Draft) -> tuple[Message, ...]:
    """The conversation of a row, where rows bring their own; empty where a prompt asks."""
    try:
        if asking.reference:
            value = found(path_of(asking.reference), {"item": item})
            rows = [{"role": "user", "content": value}] if isinstance(value, str) else value
            return messages_of(rows, File("test.jsonl"), 1)
        if asking.conversation:
            return messages(asking.conversation, {"item": item})
    except BaimoError:
        for number in range(draft.length(("runs",))):
            draft.note(("runs", number, "data_source", "input_messages"), "evals_unfilled")
    return ()


def candidates(draft: Draft, asking: Asking) -> Iterator[Object]:
    """Each different model with its parameters."""
    seen: set[bytes] = set()
    names: Counter[str] = Counter()
    for number in range(draft.length(("runs",))):
        at: Path = ("runs", number, "data_source")
        model = draft.words((*at, "model"))
        if not model:
            continue
        made: Object = {"model": model if "/" in model else f"openai/{model}"}
        if number in asking.of_run and len(asking.prompts) > 1:
            made["prompt"] = asking.of_run[number]
        made |= _sampling(draft, (*at, "sampling_params"))
        draft.reflected(("candidates", made["model"]), (*at, "model"))
        if "temperature" not in made.get("sampling", {}):
            draft.note((*at, "model"), "evals_sampling", "changed")
        if canonical(made) in seen:
            continue
        seen.add(canonical(made))
        names[made["model"]] += 1
        count = names[made["model"]]
        yield {"name": f"{made['model']} {count}" if count > 1 else made["model"], **made}


def _sampling(draft: Draft, at: Path) -> Object:
    """Parameters of a run as a candidate's."""
    made: Object = {}
    sampling: Object = {}
    for name, ours, least, most in (
        ("temperature", "temperature", -1e-9, 2.0),
        ("top_p", "top_p", -1e-9, 1.0),
        ("seed", "seed", -1e18, 1e18),
        ("max_completion_tokens", "max_tokens", 0.0, 1e9),
        ("max_completions_tokens", "max_tokens", 0.0, 1e9),
    ):
        figure = draft.figure((*at, name), least=least, most=most)
        if figure is not None:
            sampling[ours] = round(figure, 9) if ours in ("temperature", "top_p") else int(figure)
            draft.reflected(("candidates", "sampling", ours), (*at, name))
    if sampling:
        made["sampling"] = sampling
    for path in ((*at, "response_format"), (*at, "text", "format")):
        form = draft.table(path)
        if form.get("type") == "json_object":
            made["json_schema"] = True
            draft.reflected(("candidates", "json_schema"), path)
        elif form.get("type") == "json_schema":
            schema = table(form.get("json_schema")).get("schema") or form.get("schema")
            if isinstance(schema, dict):
                made["json_schema"] = schema
                draft.reflected(("candidates", "json_schema"), path)
        elif form.get("type") == "text":
            draft.note(path, "evals_text", "needless")
    draft.note((*at, "reasoning_effort"), "evals_reasoning")
    return made


def described(draft: Draft) -> str:
    """What the evaluation says of itself in its metadata."""
    words = draft.words(("eval", "metadata", "description"))
    if words:
        draft.reflected(("description",), ("eval", "metadata", "description"))
    return words


def reached(item: Mapping[str, Any], name: str) -> Any:
    """The value of a field; None where it is not there."""
    return item.get(name)


def table(value: Any) -> Object:
    """A JSON object, empty where it is none."""
    return cast("Object", value) if isinstance(value, dict) else {}


def items_of(value: Any) -> list[Any]:
    """A JSON array, empty where it is none."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def _prompt(template: Sequence[Mapping[str, Any]], items: Sequence[Object], name: str) -> Prompt | None:
    """A template that is a system message and a question as our prompt; None where it is more than that."""
    turns = [(str(one.get("role")), _words(one.get("content"))) for one in template]
    roles = ["system" if role == "developer" else role for role, _ in turns]
    if roles not in (["user"], ["system", "user"]) or any(words is None for _, words in turns):
        return None
    made = [_jinja(words or "", items) for _, words in turns]
    if any(one is None for one in made):
        return None
    return Prompt(name=name, system=(made[0] or "") if len(made) == 2 else "", user=made[-1] or "")


def _words(content: Any) -> str | None:
    """Content that is text, in any of the ways that OpenAI writes it."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [_words(one) for one in cast("list[Any]", content)]
        return None if None in parts else "".join(part or "" for part in parts)
    one = table(content)
    text = one.get("text")
    return (
        text if one.get("type") in ("input_text", "output_text", "text") and isinstance(text, str) else None
    )


def _jinja(source: str, items: Sequence[Object]) -> str | None:
    """A template over `item` as one over columns; None where it names something that no column can be."""
    made, end = "", 0
    for match, variable in zip(_FIELD.finditer(source), variables(source), strict=True):
        expression = _expression(variable)
        if expression is None:
            return None
        made += _literal(source[end : match.start()])
        plain = all(_is_text(variable, item) for item in items)
        made += (
            f"{{{{ {expression} }}}}"
            if plain
            else f"{{{{ {expression} if {expression} is string else {expression} | tojson }}}}"
        )
        end = match.end()
    return made + _literal(source[end:])


def _expression(variable: Variable) -> str | None:
    steps = variable.steps
    if len(steps) < 2 or steps[0] != "item" or not isinstance(steps[1], str):
        return None
    if not _IDENTIFIER.fullmatch(steps[1]):
        return None
    return steps[1] + "".join(f"[{json.dumps(step, ensure_ascii=False)}]" for step in steps[2:])


def _is_text(variable: Variable, item: Mapping[str, Any]) -> bool:
    try:
        return isinstance(found(variable, {"item": item}), str)
    except BaimoError:
        return True


def _literal(words: str) -> str:
    return _OPENERS.sub("{{ '{' }}", words)


def _own_conversation(draft: Draft, items: Sequence[Object]) -> str:
    """Rows out of stored completions or logs hold the conversation itself."""
    for name in CONVERSATIONS:
        turns = items_of(items[0].get(name)) if items else []
        if turns and all({"role", "content"} <= table(turn).keys() for turn in turns):
            draft.note(("eval", "name"), "evals_no_prompt", "changed", field=name)
            return f"item.{name}"
    return ""


def _guessed(draft: Draft, items: Sequence[Object]) -> Prompt:
    """No run says how rows are asked: the field that looks like the question."""
    names = items[0].keys() if items else ()
    texts = [name for name in names if isinstance(items[0][name], str) and _IDENTIFIER.fullmatch(name)]
    chosen = next((name for name in QUESTIONS if name in texts), texts[0] if texts else "input")
    draft.note(("eval", "name"), "evals_no_prompt", "changed", field=chosen)
    return Prompt(user=f"{{{{ {chosen} }}}}")


def _tools(draft: Draft) -> Sequence[Any]:
    """Functions, where every run that asks has the same ones."""
    places = [
        ("runs", number, "data_source", "sampling_params", "tools")
        for number in range(draft.length(("runs",)))
    ]
    asked = [place for place in places if draft.words((*place[:3], "model"))]
    lists = [items_of(draft.at(place)) for place in asked]
    functions = all(table(one).get("type") == "function" for tools in lists for one in tools)
    if lists and lists[0] and functions and all(one == lists[0] for one in lists):
        draft.reflected(("data", "test"), *asked)
        return lists[0]
    for place in asked:
        draft.note(place, "evals_tools")
    return ()
