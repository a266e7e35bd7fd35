"""Adapters leave in forms that other tools load, with their template and the tokens that end an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from baimo.errors import AdapterError  # noqa: E402
from baimo.providers import gguf  # noqa: E402
from baimo.providers.gguf_write import gguf_of  # noqa: E402
from baimo.tuning.adapters.export import FORMS, exported, modelfile  # noqa: E402
from baimo.tuning.adapters.foreign import imported  # noqa: E402
from tests.tuning.adapters import tuned  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries about each other


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Base, its GGUF, adapter."""
    folder = tmp_path_factory.mktemp("export")
    base = tuned.base(folder / "base")
    tuned.adapted(base, folder / "adapter")
    return base, gguf_of(base, folder / "base.gguf", "f16", None), folder / "adapter"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_written_whole_and_never_over_something(
    folders: tuple[Path, Path, Path], tmp_path: Path, form: str
) -> None:
    base, like, adapter = folders
    out = exported(adapter, base, like, tmp_path / "out", form)  # type: ignore[arg-type]
    assert out.exists()
    if out.suffix == ".gguf":
        file = gguf.read(out)
        assert (file.metadata["general.type"] == "adapter") == (form == "gguf-adapter")
        assert form == "gguf-adapter" or file.chat_template == (base / "chat_template.jinja").read_text()
    names = {one.name for one in (tmp_path / "out").iterdir()}
    assert not any(name.startswith(".") or name.endswith(".part") for name in names), names
    with pytest.raises(AdapterError, match="not empty"):
        exported(adapter, base, like, tmp_path / "out", form)  # type: ignore[arg-type]


def test_ollamas_modelfile_frames_turns_as_the_template_does(folders: tuple[Path, Path, Path]) -> None:
    base, _, adapter = folders
    shown = modelfile(adapter, base)
    assert "FROM ./model.gguf" in shown
    assert (
        '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n<|im_start|>assistant\n' in shown
    )
    assert '{{ else if eq .Role "assistant" }}{{ .Content }}<|im_end|>\n' in shown
    assert 'PARAMETER stop "<|im_end|>"' in shown


def test_a_template_that_does_more_is_refused_for_ollama(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    base, _, _ = folders
    for name in ("tokenizer_config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((base / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role|upper }} {{ loop.index }}: {{ m.content }}\n{% endfor %}"
    )
    with pytest.raises(AdapterError, match="Ollama"):
        modelfile(tmp_path, base)


def test_an_adapter_made_elsewhere_is_known_by_what_its_tool_leaves_and_checked_against_the_base(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    base, _, adapter = folders
    (adapter / "trainer_log.jsonl").write_text("{}")
    found = imported(adapter, base)
    assert (found.kind, found.lineage["trained_with"], found.lineage["lora"]["r"]) == (
        "lora",
        "llama-factory",
        4,
    )
    (adapter / "trainer_log.jsonl").unlink()
    other = tuned.base(tmp_path / "other", "qwen3")
    config = json.loads((other / "config.json").read_text())
    assert config["model_type"] == "qwen3"
    assert imported(other, other).kind == "full"
    with pytest.raises(AdapterError, match=r"adapter_config\.json"):
        imported(tmp_path, base)
