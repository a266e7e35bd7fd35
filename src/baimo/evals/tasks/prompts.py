"""How an Example becomes a conversation: templates, compiled once, and blocks of solved examples before the question.

Prevents three failures: a misspelt variable that renders as nothing and makes every model look stupid; a template that
reaches out of its sandbox; and few-shot blocks that differ from question to question, so that no prefix cache helps.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from baimo.core.ids import digest
from baimo.core.message import Message
from baimo.core.task import Example, FewShot, Prompt
from baimo.errors import TemplateError
from baimo.evals.tasks.formats.columns import near_name
from baimo.evals.tasks.formats.messages import text_of

if TYPE_CHECKING:
    from baimo.evals.tasks.template_bounds import Bounded

_UNDEFINED = re.compile(r"'([^']+)' is undefined|has no attribute '([^']+)'")


class Template:
    """A compiled Jinja template with a name for messages.

    Rendering never reaches files, modules or the network, and never goes on for long.
    """

    def __init__(self, source: str, name: str) -> None:
        """Compile `source`.

        Raises:
            TemplateError: a slip of syntax; names the template and its line.
        """
        import jinja2

        from baimo.evals.tasks.template_bounds import bounded

        self.name = name
        self._constant = None if any(mark in source for mark in ("{{", "{%", "{#")) else source
        try:
            self._template = bounded(source, _environment())
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                "tasks.template_syntax", name=name, line=error.lineno, problem=error.message
            ) from error
        except (RecursionError, ValueError, OverflowError, MemoryError) as error:
            raise TemplateError("tasks.template_syntax", name=name, line=1, problem=error) from error

    def render(self, variables: Mapping[str, Any], place: str = "") -> str:
        """The text with `variables` filled in; `place` says where they come from, for messages.

        Raises:
            TemplateError: a variable is missing, with the nearest one that is there, an expression fails, or it takes
                too long.
        """
        import jinja2

        from baimo.evals.tasks.template_bounds import TooMuch

        if self._constant is not None:
            return self._constant
        try:
            return self._template.text(variables)
        except TooMuch as error:
            key = "tasks.template_long" if error.limit else "tasks.template_endless"
            raise TemplateError(key, name=self._named(place), limit=error.limit) from None
        except jinja2.UndefinedError as error:
            match = _UNDEFINED.search(error.message or "")
            missing = (match[1] or match[2]) if match else str(error.message)
            near = near_name(missing, variables)
            facts = {
                "name": self._named(place),
                "variable": missing,
                "near": near,
                "known": ", ".join(sorted(variables)),
            }
            raise TemplateError(
                "tasks.template_near" if near else "tasks.template_missing", **facts
            ) from error
        except Exception as error:  # a template is foreign code: whatever it raises is its author's to mend
            raise TemplateError("tasks.template_failed", name=self._named(place), problem=error) from error

    def _named(self, place: str) -> str:
        return f"{self.name} ({place})" if place else self.name


@functools.lru_cache(maxsize=512)
def compiled(source: str, name: str) -> Template:
    """The Template of `source`; the same object for the same text and name."""
    return Template(source, name)


def variables_of(source: str) -> frozenset[str]:
    """Variables that a template asks for; none when its syntax is broken."""
    import jinja2
    from jinja2 import meta

    try:
        return frozenset(meta.find_undeclared_variables(_environment().parse(source)))
    except (jinja2.TemplateError, RecursionError):
        return frozenset()


class Renderer:
    """Renders one prompt for many examples."""

    def __init__(self, prompt: Prompt, train: Sequence[Example] = (), *, seed: int = 0) -> None:
        """Compile the templates of `prompt`.

        Args:
            prompt: templates and, if wanted, a few-shot block.
            train: solved examples to draw from; those without a reference are passed over.
            seed: decides which examples a fixed block holds.

        Raises:
            TemplateError: slip of syntax, or a block is wanted and `train` cannot fill it.
        """
        self.prompt = prompt
        self._system = compiled(prompt.system, f"{prompt.name}.system")
        self._user = compiled(prompt.user, f"{prompt.name}.user")
        self._assistant = compiled(prompt.assistant, f"{prompt.name}.assistant")
        few_shot = prompt.few_shot
        solved = [example for example in train if example.target is not None] if few_shot else []
        self._solved = _named(solved, few_shot.ids if few_shot else (), prompt.name)
        if few_shot and few_shot.count > 0 and not self._solved:
            raise TemplateError("tasks.no_train", name=prompt.name, count=few_shot.count)
        self._seed = seed
        self._fixed: dict[str, tuple[Message, ...]] = {}
        self._texts: list[str] | None = None

    def messages(self, example: Example) -> tuple[Message, ...]:
        """The conversation that asks `example`: system, few-shot turns, question.

        An example with its own conversation keeps it: the few-shot turns follow its system message, and the prompt's
        system message is used only if it has none.

        Raises:
            TemplateError: names the template, the missing variable and the example's place.
        """
        block = self._block(example)
        if example.messages:
            first = example.messages[0]
            if first.role == "system":
                return (first, *block, *example.messages[1:])
            return (*self._system_turn(example), *block, *example.messages)
        question = Message(role="user", content=self._rendered(self._user, example))
        return (*self._system_turn(example), *block, question)

    def _system_turn(self, example: Example) -> tuple[Message, ...]:
        if not self.prompt.system:
            return ()
        return (Message(role="system", content=self._rendered(self._system, example)),)

    def _block(self, example: Example) -> tuple[Message, ...]:
        few_shot = self.prompt.few_shot
        if few_shot is None or few_shot.count <= 0:
            return ()
        if few_shot.select == "similar":
            return self._turns(self._similar(example, few_shot))
        slice_key = digest(slice_of(example, few_shot.by))
        if slice_key not in self._fixed:
            self._fixed[slice_key] = self._turns(self._drawn(example, few_shot, slice_key))
        return self._fixed[slice_key]

    def _drawn(self, example: Example, few_shot: FewShot, slice_key: str) -> list[Example]:
        """Random by seed and slice: same slice before others, unseen answers before seen ones. Named ones in order."""
        wanted = slice_of(example, few_shot.by)
        if few_shot.ids:
            of_slice = sorted(self._solved, key=lambda one: slice_of(one, few_shot.by) != wanted)  # stable
            return of_slice[: few_shot.count]
        order = list(self._solved)
        random.Random(digest([self._seed, slice_key])).shuffle(order)
        chosen: list[Example] = []
        for same_slice in (True, False):
            pool = [one for one in order if (slice_of(one, few_shot.by) == wanted) is same_slice]
            chosen += _varied(pool, few_shot.count - len(chosen), {digest(one.target) for one in chosen})
        return chosen

    def _similar(self, example: Example, few_shot: FewShot) -> list[Example]:
        """Nearest by rapidfuzz's token ratio, the nearest last; never of the example's group, never the same text."""
        from rapidfuzz import fuzz, process

        if self._texts is None:
            self._texts = [folded(asked(one)) for one in self._solved]
        question, wanted = folded(asked(example)), slice_of(example, few_shot.by)
        scores = process.cdist([question], self._texts, scorer=fuzz.token_ratio)[0]
        allowed = [
            (slice_of(one, few_shot.by) == wanted, float(scores[index]), -index)
            for index, one in enumerate(self._solved)
            if self._texts[index] != question and (example.group is None or one.group != example.group)
        ]
        best = sorted(allowed, reverse=True)[: few_shot.count]
        return [self._solved[-index] for *_, index in reversed(best)]

    def _turns(self, chosen: Iterable[Example]) -> tuple[Message, ...]:
        turns: list[Message] = []
        for one in chosen:
            if one.messages:
                turns += [message for message in one.messages if message.role != "system"]
            else:
                turns.append(Message(role="user", content=self._rendered(self._user, one)))
            answer = self._rendered(self._assistant, one, solved=True)
            turns.append(Message(role="assistant", content=answer))
        return tuple(turns)

    def _rendered(self, template: Template, example: Example, *, solved: bool = False) -> str:
        variables = {**example.fields, "target": example.target} if solved else example.fields
        return template.render(variables, f"{example.file}:{example.line}" if example.file else example.id)


def _named(solved: Sequence[Example], ids: Sequence[str], name: str) -> list[Example]:
    """The examples of these ids, in their order; without ids all of them, in an order that the file cannot change."""
    if not ids:
        return sorted(solved, key=lambda example: example.id)
    known = {example.id: example for example in solved}
    missing = next((id for id in ids if id not in known), None)
    if missing is not None:
        raise TemplateError(
            "tasks.few_shot_unknown_id", name=name, id=missing, near=near_name(missing, known)
        )
    return [known[id] for id in dict.fromkeys(ids)]


def _varied(pool: Sequence[Example], count: int, answers: set[str]) -> list[Example]:
    """The first `count` of `pool`, those with an answer not seen yet before the others."""
    fresh: list[Example] = []
    repeated: list[Example] = []
    for one in pool:
        if len(fresh) >= count:
            break
        answer = digest(one.target)
        (repeated if answer in answers else fresh).append(one)
        answers.add(answer)
    return (fresh + repeated)[: max(count, 0)]


def slice_of(example: Example, by: str | None) -> Any:
    """The example's value of the slice that few-shot blocks follow; None without one."""
    if by is None:
        return None
    return example.metadata[by] if by in example.metadata else example.fields.get(by)


def asked(example: Example) -> str:
    """The text that stands for what an example asks: its field `input`, else its conversation."""
    if "input" in example.fields:
        value = example.fields["input"]
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "\n".join(text_of(message) for message in example.messages)


def folded(words: str) -> str:
    """Text without the differences of case and spacing."""
    return " ".join(words.casefold().split())


@functools.cache
def _environment() -> Bounded:
    from jinja2 import StrictUndefined

    from baimo.evals.tasks.template_bounds import Bounded

    environment = Bounded(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.filters["tojson"] = _as_json  # Jinja's own escapes Chinese and <, meant for web pages
    return environment


def _as_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(cast("object", value), ensure_ascii=False, indent=indent)
