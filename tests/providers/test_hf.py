"""A GGUF file in Hugging Face form: the same weights, the same tokens as llama.cpp, the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest

from baimo.errors import ProviderError
from baimo.providers import gguf, hf

library = pytest.importorskip("gguf", reason="gguf is missing: pip install 'baimo[local]'")

TRICKY = [
    "Room 101, 24 °C at 7:30 — 1,234.5 kWh",
    "  two leading spaces,\ttabs\t\tand   runs   of them  ",
    "line\n\n\nbreaks\r\nof both kinds\n",
    "l'été n'est pas fini; don't, WE'LL, they've",
    "中文没有空格，数字123也一样。日本語とかな",
    "emoji 👩‍👩‍👧‍👦 and flags 🇩🇪, café vs cafe\u0301",
    "x=1;y=22;z=333;w=4444 # 1٣٥ ½ ²",
    '{"device": "light", "action": "on", "value": 20}',
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|> <|im_end|>7<|endoftext|>8",
    "\u00a0no-break\u200bzero-width\ufeff",
    "ﬁ ligature Ａ fullwidth Å angstrom",
    "",
    " ",
    "\n",
    "1",
    " 1",
]


def letters() -> list[str]:
    """GPT-2's alphabet of bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in plain] + [chr(256 + at) for at in range(256 - len(plain))]


def small_model(path: Path, architecture: str = "llama", *, pre: str = "smollm", kind: Any = None) -> Path:
    """Two heads of queries on one of keys, one layer, written by the format's own library."""
    kind = library.GGMLQuantizationType.Q4_1 if kind is None else kind
    writer = library.GGUFWriter(path, architecture)
    tokens = ["<|im_end|>", *letters(), "Ġa"]
    writer.add_token_list(tokens)
    writer.add_token_types([3, *[1] * (len(tokens) - 1)])
    writer.add_token_merges(["Ġ a"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages }}")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1000.0)
    random = numpy.random.default_rng(3)
    shapes = {
        "token_embd": (len(tokens), 64), "blk.0.attn_q": (64, 64), "blk.0.attn_k": (32, 64),
        "blk.0.attn_v": (32, 64), "blk.0.attn_output": (64, 64), "blk.0.ffn_gate": (96, 64),
        "blk.0.ffn_up": (96, 64), "blk.0.ffn_down": (64, 96),
    }  # fmt: skip
    for name, shape in shapes.items():
        values = random.normal(size=shape).astype(numpy.float32)
        writer.add_tensor(f"{name}.weight", library.quants.quantize(values, kind), raw_dtype=kind)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", random.normal(size=64).astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(path: Path) -> dict[str, numpy.ndarray]:
    """Of a safetensors file, read by hand: 8 bytes of length, JSON, data."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    kinds = {"F32": numpy.float32, "F16": numpy.float16, "BF16": numpy.uint16}
    found = {}
    for name, about in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, end = about["data_offsets"]
            values = numpy.frombuffer(data[start + first : start + end], kinds[about["dtype"]])
            found[name] = values.reshape(about["shape"])
    return found


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F16", "F32", "BF16"])
def test_weights_of_every_kind_are_what_the_format_s_own_library_reads(kind: str, tmp_path: Path) -> None:
    source = small_model(tmp_path / "m.gguf", "qwen2", pre="qwen2", kind=library.GGMLQuantizationType[kind])
    found = tensors(hf.hf_folder(source, tmp_path / "cache") / "model.safetensors")
    for tensor in library.GGUFReader(source).tensors:
        expected = library.quants.dequantize(tensor.data, tensor.tensor_type)
        values = found[str(hf.hf_name(tensor.name))]
        if values.dtype == numpy.uint16:
            values = (values.astype(numpy.uint32) << 16).view(numpy.float32)
        numpy.testing.assert_allclose(values, expected.reshape(values.shape), rtol=2**-11, atol=2**-24)


def test_rows_of_query_and_key_are_put_back_in_the_order_of_the_original(tmp_path: Path) -> None:
    source = small_model(tmp_path / "m.gguf", "llama", kind=library.GGMLQuantizationType.F32)
    found = tensors(hf.hf_folder(source, tmp_path / "cache") / "model.safetensors")
    for name, heads in (("attn_q", 2), ("attn_k", 1)):
        stored = next(
            one for one in library.GGUFReader(source).tensors if one.name == f"blk.0.{name}.weight"
        ).data
        values = found[str(hf.hf_name(f"blk.0.{name}.weight"))]
        for head in range(heads):
            mine, theirs = values[head * 32 : head * 32 + 32], stored[head * 32 : head * 32 + 32]
            numpy.testing.assert_array_equal(mine[:16], theirs[0::2])
            numpy.testing.assert_array_equal(mine[16:], theirs[1::2])


def test_the_folder_is_made_once_and_found_again_under_the_file_s_hash(tmp_path: Path) -> None:
    source = small_model(tmp_path / "m.gguf")
    folder = hf.hf_folder(source, tmp_path / "cache")
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert hf.hf_folder(source, tmp_path / "cache") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    assert folder.name.startswith(gguf.file_hash(source)[:32])
    assert [one.name for one in (tmp_path / "cache").iterdir()] == [folder.name]
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["head_dim"], config["tie_word_embeddings"]) == ("llama", 32, True)
    assert config["rope_parameters"]["rope_theta"] == 1000.0
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 0
    assert (folder / "chat_template.jinja").read_text() == "{{ messages }}"


def test_a_folder_of_hugging_face_form_is_taken_as_it_is(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        with pytest.raises(ProviderError, match=name):
            hf.hf_folder(tmp_path)
        (tmp_path / name).write_text("{}")
    assert hf.hf_folder(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("architecture", "pre", "words"), [("gemma3", "smollm", "gemma3"), ("llama", "stranger", "stranger")]
)
def test_what_cannot_be_carried_over_is_refused_with_its_name(
    architecture: str, pre: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ProviderError, match=words):
        hf.hf_folder(small_model(tmp_path / "m.gguf", architecture, pre=pre), tmp_path / "cache")


@pytest.mark.local
def test_the_tokenizer_agrees_with_llama_cpp_on_every_tricky_text(smollm2: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    from baimo.providers.llamacpp_server import LlamaCppOptions, LlamaCppServer

    mine = tokenizers.Tokenizer.from_str(json.dumps(hf.tokenizer(gguf.read(smollm2))))
    server = LlamaCppServer(smollm2, LlamaCppOptions(threads=1, max_batch=1, window=256))
    random = numpy.random.default_rng(0)
    drawn = ["".join(random.choice([*" \n\t'0199aZé中。👍-_{}\"", "ing", " 12"], 30)) for _ in range(60)]
    try:
        for text in [*TRICKY, *drawn]:
            assert mine.encode(text, add_special_tokens=False).ids == server.encode(text), repr(text)
    finally:
        server.close()


@pytest.mark.local
def test_the_embedded_model_answers_in_hugging_face_form_as_in_llama_cpp(
    smollm2: Path, weights_cache: Path
) -> None:
    torch = pytest.importorskip("torch")
    from baimo.providers.llamacpp_server import LlamaCppOptions, LlamaCppServer
    from baimo.tuning.fit.base import opened

    base = opened(hf.hf_folder(smollm2, weights_cache), torch.device("cpu"), torch.float32)
    server = LlamaCppServer(smollm2, LlamaCppOptions(threads=1, max_batch=1, window=256))
    prompt = base.dialect.ids("<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n")
    try:
        steps = server.greedy(prompt, 8)
    finally:
        server.close()
    ids = [*prompt, *(step.token for step in steps)]
    with torch.no_grad():
        logprobs = base.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    for at, step in enumerate(steps, len(prompt)):
        assert int(logprobs[at - 1].argmax()) == step.token
        assert float(logprobs[at - 1, step.token]) == pytest.approx(step.logprob, abs=0.1)
