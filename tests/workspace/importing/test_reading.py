from __future__ import annotations

from pathlib import Path

import pytest

from baimo.errors import ConfigError, UsageError
from baimo.workspace.importing.reading import document, imported, kept

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (b"model_list: [\n", ":2"),
        (b"model_list: []\nmodel_list: [1]\n", ":2"),
        (b"model_list: [{model_name: a, model_name: b}]\n", "model_name"),
        (b"model_list: []\nx: {1: a, true: b}\n", ":2"),
        (b"- a\n", "config.yaml"),
        (b"", "config.yaml"),
        (b"models: 1\n", "model_list"),
        (b"model_list: &a [*a]\n", "config.yaml"),
        (BOMB.encode(), "config.yaml"),
        (b"model_list: 1\nx: \xff\n", ":2"),
        (b"model_list: 2024-99-99\n", "config.yaml"),
        (b"model_list: !!python/object:os.system x\n", ":1"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_with_its_place(
    source: bytes, named: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(source)
    with pytest.raises(ConfigError) as refused:
        imported("litellm", path)
    assert named in str(refused.value)


def test_names_that_are_no_text_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model_list: []\n1: a\n'1': b\nno: c\nwhen: 2024-01-02\n", encoding="utf-8")
    found = document(path, toml=False)
    assert sorted(map(str, found.values())) == ["2024-01-02", "[]", "a", "b", "c"]


def test_settings_are_not_overwritten_unless_asked(tmp_path: Path) -> None:
    source, out = tmp_path / "config.yaml", tmp_path / "baimo.toml"
    source.write_text(
        "model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]\n", encoding="utf-8"
    )
    carried = imported("litellm", source)
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"baimo\.toml"):
        kept(carried, out, force=False)
    assert out.read_text(encoding="utf-8") == "mine"
    kept(carried, out, force=True)
    assert out.read_text(encoding="utf-8") == carried.settings
    assert sorted(path.name for path in tmp_path.iterdir()) == ["baimo.toml", "config.yaml"]
