"""GGUF files: reading, dequantising, and a copy that can be trusted."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.waiting import PATIENCE_S

from baimo.errors import ProviderError
from baimo.providers import agreement, gguf
from baimo.providers.agreement import Agreement
from baimo.providers.llamacpp_server import Step

library = pytest.importorskip("gguf", reason="gguf is missing: pip install 'baimo[local]'")
KINDS = library.GGMLQuantizationType


def small_model(
    path: Path, values: numpy.ndarray, kind: object, metadata: dict[str, object] | None = None
) -> Path:
    """A file with one matrix in `kind`, one vector, and metadata, written by the format's own library."""
    writer = library.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_token_list(["<s>", "Ġa", "Ċ", "é"])
    writer.add_bos_token_id(0)
    for name, value in (metadata or {}).items():
        writer.add_string(name, str(value))
    writer.add_tensor("blk.0.w.weight", library.quants.quantize(values, kind), raw_dtype=kind)
    writer.add_tensor("blk.0.norm.weight", numpy.ones(8, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def matrix(path: Path) -> tuple[object, numpy.ndarray]:
    """Type and values of the first tensor, as the format's own library reads them."""
    tensor = library.GGUFReader(path).tensors[0]
    return tensor.tensor_type, library.quants.dequantize(tensor.data, tensor.tensor_type)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_1", "Q8_0", "BF16", "F32"])
def test_a_copy_in_f16_holds_what_the_original_holds(kind: str, tmp_path: Path) -> None:
    values = numpy.random.default_rng(7).normal(size=(6, 64)).astype(numpy.float32)
    source = small_model(tmp_path / "m.gguf", values, KINDS[kind])
    found, copied = matrix(gguf.converted(source, "f16"))
    assert found == KINDS.F16
    numpy.testing.assert_allclose(copied, matrix(source)[1], rtol=2**-11, atol=2**-24)


def test_a_copy_in_q8_0_is_what_the_format_s_own_library_makes_of_it(tmp_path: Path) -> None:
    values = numpy.random.default_rng(8).normal(size=(6, 64)).astype(numpy.float32)
    source = small_model(tmp_path / "m.gguf", values, KINDS.Q4_1)
    found, copied = matrix(gguf.converted(source, "q8_0"))
    expected = library.quants.quantize(matrix(source)[1], KINDS.Q8_0)
    assert found == KINDS.Q8_0
    numpy.testing.assert_array_equal(copied, library.quants.dequantize(expected, KINDS.Q8_0))


@settings(max_examples=25, deadline=None)
@given(
    name=st.from_regex(r"[a-z]{1,9}\.[a-z]{1,9}", fullmatch=True),
    value=st.text(min_size=1, max_size=40),
    rows=st.integers(1, 5),
)
def test_metadata_survives_the_copy_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str, rows: int
) -> None:
    folder = tmp_path_factory.mktemp("copy")
    source = small_model(
        folder / "m.gguf", numpy.ones((rows, 32), dtype=numpy.float32), KINDS.Q4_0, {name: value}
    )
    before, after = gguf.read(source), gguf.read(gguf.converted(source, "f16"))
    assert {**before.metadata, "general.file_type": 1} == dict(after.metadata)
    assert after.metadata[name] == value
    assert [tensor[:2] for tensor in before.tensors] == [tensor[:2] for tensor in after.tensors]


def test_a_file_that_is_in_the_form_already_is_not_copied(tmp_path: Path) -> None:
    source = small_model(tmp_path / "m.gguf", numpy.ones((2, 32), dtype=numpy.float32), KINDS.F16)
    assert gguf.converted(source, "f16") == source


def test_the_copy_is_made_once_and_found_again_by_content(tmp_path: Path) -> None:
    source = small_model(tmp_path / "m.gguf", numpy.ones((2, 32), dtype=numpy.float32), KINDS.Q4_1)
    first = gguf.converted(source, "f16", cache=tmp_path / "cache")
    made = first.stat().st_mtime_ns
    renamed = source.rename(tmp_path / "other.gguf")
    assert gguf.converted(renamed, "f16", cache=tmp_path / "cache") == first
    assert first.stat().st_mtime_ns == made


def test_two_processes_that_convert_at_once_leave_one_whole_copy(tmp_path: Path) -> None:
    values = numpy.random.default_rng(1).normal(size=(512, 512)).astype(numpy.float32)
    source = small_model(tmp_path / "m.gguf", values, KINDS.Q4_1)
    program = (
        "import sys; from pathlib import Path; from baimo.providers import gguf;"
        "print(gguf.converted(Path(sys.argv[1]), 'f16'))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program, str(source)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = {process.communicate(timeout=PATIENCE_S)[0].strip() for process in both}
    assert len(said) == 1
    assert [path.name for path in (tmp_path / ".converted").iterdir()] == [Path(said.pop()).name]
    numpy.testing.assert_allclose(
        matrix(gguf.converted(source, "f16"))[1], matrix(source)[1], rtol=2**-11, atol=1e-7
    )


def test_a_value_beyond_f16_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    source = small_model(tmp_path / "m.gguf", numpy.full((2, 32), 1e6, dtype=numpy.float32), KINDS.BF16)
    with pytest.raises(ProviderError, match=r"blk\.0\.w\.weight holds values beyond the range of F16"):
        gguf.converted(source, "f16")
    assert list((tmp_path / ".converted").iterdir()) == []


@pytest.mark.parametrize("length", [3, 20, 100, 300])
def test_a_file_that_ends_too_early_is_named(length: int, tmp_path: Path) -> None:
    source = small_model(tmp_path / "m.gguf", numpy.ones((2, 32), dtype=numpy.float32), KINDS.Q4_1)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(source.read_bytes()[:length])
    with pytest.raises(ProviderError, match=r"broken\.gguf"):
        gguf.converted(broken, "f16")


@settings(max_examples=60, deadline=None)
@given(garbage=st.binary(min_size=1, max_size=200))
def test_garbage_is_refused_without_a_crash(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    path = tmp_path_factory.mktemp("garbage") / "x.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + garbage)
    try:
        gguf.read(path)
    except ProviderError as error:
        assert "x.gguf" in str(error)


def test_tokens_are_spelled_in_bytes(tmp_path: Path) -> None:
    source = small_model(tmp_path / "m.gguf", numpy.ones((2, 32), dtype=numpy.float32), KINDS.F16, {})
    file = gguf.read(source)
    spelled = gguf.GgufFile(
        path=source,
        metadata={
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.tokens": ["<|end|>", "Ġa", "Ċ", "ðŁĺ", "Ģ"],
            "tokenizer.ggml.token_type": [3, 1, 1, 1, 1],
        },
        spans=file.spans,
        tensors=file.tensors,
        data_start=0,
        alignment=32,
    ).spelling()
    assert spelled == [b"", b" a", b"\n", "😀".encode()[:3], "😀".encode()[3:]]


class Scripted:
    """An engine that says what it was told to."""

    def __init__(self, shift: float = 0.0, token: int = 5, letters: int = 1) -> None:
        self.shift, self.token, self.letters = shift, token, letters

    def encode(self, text: str) -> list[int]:
        return [len(text) * self.letters]

    def greedy(self, prompt: object, count: int) -> list[tuple[int, float]]:
        return [(self.token, -1.0 - self.shift)] * count


class ScriptedReference(Scripted):
    def greedy(self, prompt: object, count: int) -> list[Step]:  # type: ignore[override]
        return [Step(5, -1.0, {5: -1.0, 6: -1.1})] * count


def test_the_agreement_of_engines_is_measured_until_they_part() -> None:
    same = agreement.compared(ScriptedReference(), Scripted())
    assert same == Agreement(0.0, 0.0, len(agreement.PROMPTS) * agreement.TOKENS)
    tie = agreement.compared(ScriptedReference(), Scripted(token=6))
    assert tie.mean == pytest.approx(0.1)
    assert tie.compared == len(agreement.PROMPTS)
    assert not agreement.compared(ScriptedReference(), Scripted(token=9)).good
    assert not agreement.compared(ScriptedReference(), Scripted(shift=0.2)).good


def test_tokenizers_that_differ_are_refused() -> None:
    with pytest.raises(ProviderError, match="tokenizer differs"):
        agreement.compared(ScriptedReference(), Scripted(letters=2))


def test_an_agreement_is_measured_once_and_a_failed_one_is_not_kept(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    with pytest.raises(ProviderError, match="answers differently from the original"):
        agreement.ensured(record, lambda: Agreement(0.9, 5.0, 50), source=tmp_path)
    assert not record.exists()
    good = agreement.ensured(record, lambda: Agreement(0.03, 0.4, 60), source=tmp_path)
    assert agreement.ensured(record, lambda: pytest.fail("measured again"), source=tmp_path) == good
    record.write_text(json.dumps({"mean": 2.0, "worst": 5.0, "compared": 1}))
    assert agreement.ensured(record, lambda: good, source=tmp_path) == good
