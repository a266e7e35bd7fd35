"""A model that answers right if it was shown the right thing: in this process, nothing on the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from baimo.core.call import Completion, Request, Usage
from baimo.core.message import Message
from baimo.core.run import Score
from baimo.core.task import Example, Prompt
from baimo.tuning.search.work import Work

Script = Callable[[Request], str]


def examples(count: int, *, languages: tuple[str, ...] = ("en", "zh"), kinds: int = 4) -> tuple[Example, ...]:
    """Questions of some kinds in some languages; the answer is the kind."""
    return tuple(
        Example(
            id=f"{languages[number % len(languages)]}{number:03d}",
            fields={
                "input": f"{languages[number % len(languages)]} kind{number % kinds} word{number * 7 % 997}"
            },
            target=f"answer{number % kinds}",
            group=f"g{number // 2}",
            metadata={"language": languages[number % len(languages)]},
        )
        for number in range(count)
    )


def render(train: tuple[Example, ...]) -> Callable[[Prompt, Example], tuple[Message, ...]]:
    """What the templates of a task do, for prompts without templates."""
    known = {example.id: example for example in train}

    def turns(example: Example) -> tuple[Message, Message]:
        question = Message(role="user", content=str(example.fields["input"]))
        return question, Message(role="assistant", content=str(example.target))

    def messages(prompt: Prompt, example: Example) -> tuple[Message, ...]:
        system = (Message(role="system", content=prompt.system),) if prompt.system else ()
        block = prompt.few_shot
        ids = (block.ids or tuple(known)) if block else ()
        shown = [known[id] for id in ids]
        if block and block.by:
            shown.sort(key=lambda one: one.metadata.get(block.by) != example.metadata.get(block.by))
        solved = tuple(turn for one in shown[: block.count if block else 0] for turn in turns(one))
        return (*system, *solved, Message(role="user", content=str(example.fields["input"])))

    return messages


async def judge(example: Example, completion: Completion) -> Score:
    """Right or wrong, with a word of explanation."""
    right = completion.text == example.target
    return Score.of(float(right), explanation="" if right else f"expected {example.target}")


def knows_what_it_was_shown(request: Request) -> str:
    """Right where a solved example of the question's kind stands before it, or the instruction names the kind."""
    kind = str(request.messages[-1].content).split()[1]
    told = [str(message.content) for message in request.messages[:-1]]
    if any(f"{kind} " in words or f"rule: {kind}" in words for words in told):
        return kind.replace("kind", "answer")
    return "no idea"


@dataclass
class Scripted:
    """Lends `ask`; counts."""

    script: Script = knows_what_it_was_shown
    rewriter: Script = lambda request: "I cannot."
    asked: list[Request] = field(default_factory=list[Request])

    async def ask(self, request: Request) -> Completion:
        self.asked.append(request)
        reply = self.rewriter(request) if request.model == "big/writer" else self.script(request)
        return Completion(text=reply, usage=Usage(tokens_in=10, tokens_out=2))


def work(train: tuple[Example, ...], scripted: Scripted, *, prompt: Prompt | None = None) -> Work:
    """A task as the search sees it."""
    return Work(
        model="small/one",
        prompt=prompt or Prompt(),
        train=train,
        ask=scripted.ask,
        judge=judge,
        render=render(train),
        reflect_with="big/writer",
        price=lambda model, usage: 100 if model == "big/writer" else 1,
    )


def with_system(prompt: Prompt, system: str) -> Prompt:
    """Another instruction."""
    return replace(prompt, system=system)
