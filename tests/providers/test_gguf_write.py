"""Writing GGUF: back and forth it is the same model, and an adapter moves the engine's answers as PEFT's does."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("gguf")

from tests.tuning.adapters import tuned  # noqa: E402

from baimo.errors import AdapterError  # noqa: E402
from baimo.providers import gguf  # noqa: E402
from baimo.providers.gguf_write import gguf_adapter, gguf_of  # noqa: E402
from baimo.providers.hf import hf_folder  # noqa: E402
from baimo.providers.llamacpp_server import LlamaCppOptions, LlamaCppServer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries about each other

IDS = [7, 42, 3, 250, 99, 120, 5, 66, 12]


def model_of(folder: Path) -> object:
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_back_and_forth_it_is_the_same_model(tmp_path: Path, family: str) -> None:
    base = tuned.base(tmp_path / "base", family)
    file = gguf_of(base, tmp_path / "model.gguf", "f16", None)
    again = hf_folder(file, tmp_path / "cache")
    assert torch.allclose(
        tuned.logits(model_of(again), IDS), tuned.logits(model_of(base), IDS), atol=0.05, rtol=0.01
    )
    twice = gguf_of(again, tmp_path / "twice.gguf", "f16", file)
    assert [bytes(data) for _, data in gguf.arrays(gguf.read(twice))] == [
        bytes(data) for _, data in gguf.arrays(gguf.read(file))
    ]
    assert gguf.read(twice).metadata == gguf.read(file).metadata


def test_the_template_and_the_end_of_the_folder_are_stronger_than_the_bases(tmp_path: Path) -> None:
    base = tuned.base(tmp_path / "base")
    file = gguf_of(base, tmp_path / "model.gguf", "f16", None)
    (base / "chat_template.jinja").write_text("{{ messages[0].content }}")
    about = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**about, "eos_token": "<|im_start|>"}))
    changed = gguf.read(gguf_of(base, tmp_path / "changed.gguf", "q8_0", file))
    assert changed.chat_template == "{{ messages[0].content }}"
    assert changed.token("eos") == "<|im_start|>"
    assert {tensor.kind for tensor in changed.tensors} <= gguf.READ_ALIKE
    (base / "tokenizer_config.json").write_text(json.dumps({**about, "eos_token": "<|nobody|>"}))
    with pytest.raises(AdapterError, match="nobody"):
        gguf_of(base, tmp_path / "changed.gguf", "f16", file)


def test_a_model_of_another_size_is_no_model_like_the_base(tmp_path: Path) -> None:
    file = gguf_of(tuned.base(tmp_path / "a"), tmp_path / "model.gguf", "f16", None)
    other = tuned.base(tmp_path / "b")
    config = json.loads((other / "config.json").read_text())
    from safetensors.torch import load_file, save_file

    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] = torch.zeros(32)
    save_file(weights, other / "model.safetensors")
    with pytest.raises(AdapterError, match=r"output_norm\.weight"):
        gguf_of(other, tmp_path / "other.gguf", "f16", file)
    (other / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    with pytest.raises(AdapterError, match="mamba"):
        gguf_of(other, tmp_path / "other.gguf", "f16", file)


@pytest.fixture
def engine_files(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    pytest.importorskip("xllamacpp")
    base = tuned.base(tmp_path / "base")
    yield base, gguf_of(base, tmp_path / "model.gguf", "f16", None)


def test_an_adapter_moves_llamacpp_as_peft_does_and_two_do_not_mix(
    tmp_path: Path, engine_files: tuple[Path, Path]
) -> None:
    base, file = engine_files
    configs = ({"use_rslora": True}, {"alpha_pattern": {"v_proj": 32}, "lora_alpha": 4})
    models = [
        tuned.adapted(base, tmp_path / f"a{at}", seed=at, size=0.1, **config)
        for at, config in enumerate(configs)
    ]
    written = [gguf_adapter(tmp_path / f"a{at}", file, tmp_path / f"a{at}.gguf") for at in range(2)]
    server = LlamaCppServer(
        file, LlamaCppOptions(threads=1, max_batch=2, window=256, adapters=tuple(written))
    )
    try:
        for adapter in (0, 1, None, 0):
            if adapter is None:
                with models[0].disable_adapter():
                    expected = torch.log_softmax(tuned.logits(models[0], IDS)[-1], -1)
            else:
                expected = torch.log_softmax(tuned.logits(models[adapter], IDS)[-1], -1)
            (step,) = server.greedy(IDS, 1, 20, adapter)
            off = [abs(float(expected[token]) - logprob) for token, logprob in step.top.items()]
            assert max(off) < 0.05, (adapter, off)
    finally:
        server.close()


def test_what_was_computed_with_one_adapter_is_not_reused_with_another(
    tmp_path: Path, engine_files: tuple[Path, Path]
) -> None:
    base, file = engine_files
    for at in range(2):
        tuned.adapted(base, tmp_path / f"a{at}", seed=at, size=0.3)
    written = [gguf_adapter(tmp_path / f"a{at}", file, tmp_path / f"a{at}.gguf") for at in range(2)]
    server = LlamaCppServer(
        file, LlamaCppOptions(threads=1, max_batch=4, window=256, adapters=tuple(written))
    )

    def first(adapter: int, *, cached: bool = True) -> tuple[int, float]:
        """The first token that is chosen with an adapter, and its log-probability."""
        chunks: list[dict[str, Any]] = []

        def receive(chunk: Any) -> bool:
            chunks.append(chunk if isinstance(chunk, dict) else json.loads(chunk))
            return False

        body = {"prompt": IDS * 3, "temperature": 0, "n_predict": 3, "logprobs": 1, "stream": True}
        server.complete({**body, "cache_prompt": cached, "lora": server.strengths(adapter)}, receive)
        token = chunks[0]["choices"][0]["logprobs"]["content"][0]
        return token["id"], token["logprob"]

    try:
        alone = [first(adapter, cached=False) for adapter in range(2)]
        assert alone[0][0] != alone[1][0]
        asked = random.Random(1).choices((0, 1), k=200)
        with ThreadPoolExecutor(2) as pool:
            for adapter, (token, logprob) in zip(asked, pool.map(first, asked), strict=True):
                assert token == alone[adapter][0] and abs(logprob - alone[adapter][1]) < 0.02
    finally:
        server.close()


def test_what_llamacpp_cannot_put_on_a_base_is_refused(
    tmp_path: Path, engine_files: tuple[Path, Path]
) -> None:
    base, file = engine_files
    for name, config in (("dora", {"use_dora": True}), ("saved", {"modules_to_save": ["lm_head"]})):
        tuned.adapted(base, tmp_path / name, **config)
        with pytest.raises(AdapterError, match="cannot be an adapter"):
            gguf_adapter(tmp_path / name, file, tmp_path / "out.gguf")
        assert not (tmp_path / "out.gguf").exists()
