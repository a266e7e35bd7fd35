"""The gate lets through what serves as it was trained, and names each planted fault for what it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("xllamacpp")

from baimo.core.call import Request  # noqa: E402
from baimo.providers.gguf_write import gguf_adapter, gguf_of  # noqa: E402
from baimo.providers.weights import Weights  # noqa: E402
from baimo.tuning.adapters.export import merged_gguf  # noqa: E402
from baimo.tuning.parity import Answer, Parity, Spoken, ordinary, parity  # noqa: E402
from baimo.tuning.reference import Reference  # noqa: E402
from baimo.tuning.serving_side import EngineSide  # noqa: E402
from tests.tuning.adapters import tuned  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries about each other

TOKENS = 12


class Bench:
    """A tiny base, an adapter that was trained on it, and the files that serve both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = tuned.base(folder / "base")
        self.adapter = folder / "adapter"
        tuned.adapted(self.base, self.adapter, size=0.1)
        self.like = gguf_of(self.base, folder / "base.gguf", "f16", None)

    def merged(self, name: str = "merged", form: Any = "f16", adapter: Path | None = None) -> Path:
        return merged_gguf(adapter or self.adapter, self.base, self.like, self.folder / f"{name}.gguf", form)

    def copy(self, name: str, **config: Any) -> Path:
        """The adapter with something else in its config."""
        copy = shutil.copytree(self.adapter, self.folder / name)
        path = copy / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        return copy

    def judged(self, weights: Weights, *, form: str = "f16", requests: Sequence[Request] = ()) -> Parity:
        trained = Reference(self.base, self.adapter, threads=1)
        with EngineSide(weights, "llamacpp", form=form, threads=1) as side:
            return parity(trained, side, requests or ordinary()[:4], tokens=TOKENS)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


def test_merged_weights_pass(bench: Bench) -> None:
    found = bench.judged(Weights(path=bench.merged()))
    assert found.good, found
    assert found.template and found.logits and found.text
    assert found.compared > 20
    assert found.mean_logit_difference < 0.01
    assert found.strength == pytest.approx(1, abs=0.05)


def test_an_adapter_beside_its_base_passes(bench: Bench) -> None:
    written = gguf_adapter(bench.adapter, bench.like, bench.folder / "lora.gguf")
    found = bench.judged(Weights(path=bench.like, adapter=written, beside=(written,)))
    assert found.good, found
    assert found.serving["form"] == "lora"


def test_a_wrong_template_is_named_with_the_place_where_it_parts(bench: Bench) -> None:
    template = (bench.base / "chat_template.jinja").read_text()
    found = bench.judged(
        Weights(path=bench.merged(), template=template.replace("<|im_end|>\n", "<|im_end|>"))
    )
    assert found.differs == "template"
    assert "training rendered" in found.how and "serving renders" in found.how
    assert not (found.template or found.logits or found.text)


def test_a_wrong_tokenizer_is_named_by_its_tokens(bench: Bench) -> None:
    class OtherTokens(EngineSide):
        def spoken(self, request: Request) -> Spoken:
            text, ids = super().spoken(request)
            return Spoken(text, [*ids[:5], *ids[6:]])

    trained = Reference(bench.base, bench.adapter, threads=1)
    with OtherTokens(Weights(path=bench.merged()), "llamacpp", threads=1) as side:
        found = parity(trained, side, ordinary()[:2], tokens=TOKENS)
    assert found.differs == "template"
    assert "other tokens: from place 5" in found.how


ENDED = """
import sys
from pathlib import Path
from baimo.providers.llamacpp_server import LlamaCppOptions, LlamaCppServer
for _ in range(30):
    LlamaCppServer(Path(sys.argv[1]), LlamaCppOptions(threads=1, max_batch=1, window=512)).close()
"""


def test_an_engine_that_is_ended_as_soon_as_it_is_loaded_ends(bench: Bench) -> None:
    # an own process: the library holds the interpreter while it waits for its loop
    subprocess.run([sys.executable, "-c", ENDED, str(bench.like)], check=True, timeout=300)


def test_an_adapter_that_is_silently_not_applied_is_named(bench: Bench) -> None:
    found = bench.judged(Weights(path=bench.like))
    assert found.differs == "logits"
    assert found.strength == pytest.approx(0, abs=0.1)
    assert "no effect where it serves" in found.how


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_wrong_alpha_is_named_with_the_strength_that_it_has(bench: Bench, factor: float) -> None:
    wrong = bench.copy(f"alpha{factor}", lora_alpha=8 * factor)
    found = bench.judged(Weights(path=bench.merged(f"alpha{factor}", adapter=wrong)))
    assert found.differs == "logits"
    assert found.strength is not None and abs(found.strength - 1) > 0.2
    assert (found.strength < 1) == (factor < 1)
    assert "alpha or rank" in found.how


def test_q8_where_f16_was_promised_is_named(bench: Bench) -> None:
    found = bench.judged(Weights(path=bench.merged("q8", "q8_0")))
    assert found.differs == "logits"
    assert "in Q8_0, where F16 was promised" in found.how
    assert bench.judged(Weights(path=bench.merged("q8", "q8_0")), form="q8_0").logits


def test_a_quantisation_that_is_read_wrongly_is_told_from_a_weak_adapter(bench: Bench) -> None:
    class MisRead(EngineSide):
        """As OpenVINO read Q4_1: fluent, off by no rule that the adapter could explain."""

        def steps(self, prompt: Sequence[int], count: int) -> list[tuple[int, float]]:
            return [
                (token, logprob - 0.4 * (hash((token, at)) % 7 - 3) / 3)
                for at, (token, logprob) in enumerate(super().steps(prompt, count))
            ]

    trained = Reference(bench.base, bench.adapter, threads=1)
    with MisRead(Weights(path=bench.merged()), "llamacpp", threads=1) as side:
        found = parity(trained, side, ordinary()[:4], tokens=TOKENS)
    assert found.differs == "logits"
    assert "read otherwise than they were trained" in found.how


def test_a_wrong_end_of_answer_is_named_by_its_token(bench: Bench) -> None:
    trained = Reference(bench.base, bench.adapter, threads=1)
    first = trained.answers([trained.spoken(ordinary()[0]).ids], TOKENS)[0]
    end = first.ids[3]  # a token that the answers come to
    ending = bench.copy("ending")
    (ending / "generation_config.json").write_text(json.dumps({"eos_token_id": [end]}))
    about = json.loads((ending / "tokenizer_config.json").read_text())
    about["eos_token"] = trained.token(end)
    (ending / "tokenizer_config.json").write_text(json.dumps(about))
    with EngineSide(Weights(path=bench.merged()), "llamacpp", threads=1) as side:
        found = parity(Reference(bench.base, ending, threads=1), side, ordinary()[:4], tokens=TOKENS)
    assert found.differs == "text"
    assert found.template and found.logits and not found.text
    assert f"end on {trained.token(end)!r}" in found.how


def test_an_end_that_training_does_not_know_is_named_too() -> None:
    class Trained:
        ends = frozenset({1})

        def spoken(self, request: Request) -> Spoken:
            return Spoken("x", [5])

        def answers(self, prompts: Sequence[Sequence[int]], count: int) -> list[Answer]:
            return [Answer("abc", False, (2, 3, 4)) for _ in prompts]

        def logprobs(self, prompt: Sequence[int], answer: Sequence[int]) -> Any:
            return torch.full((1, len(answer), 8), -1.0)

        def token(self, number: int) -> str:
            return f"<{number}>"

    class Serving:
        facts = {"engine": "scripted", "weights": "f16", "kinds": ["F16"]}  # noqa: RUF012
        ends = frozenset({3})

        def spoken(self, request: Request) -> Spoken:
            return Spoken("x", [5])

        def answer(self, request: Request, prompt: Sequence[int], count: int) -> Answer:
            return Answer("a", True, (2, 3))

        def steps(self, prompt: Sequence[int], count: int) -> list[tuple[int, float]]:
            return [(token, -1.0) for token in (2, 3)]

    found = parity(Trained(), Serving(), ordinary()[:2], tokens=3)
    assert found.differs == "text"
    assert "ends answers on '<3>'" in found.how
