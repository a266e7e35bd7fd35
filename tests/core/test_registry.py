from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from baimo.core.registry import Spec, require, resolve
from baimo.errors import MissingExtra


def test_a_target_names_a_module_and_what_is_in_it() -> None:
    assert resolve("json:dumps") is json.dumps


def test_a_library_that_is_there_is_given_back() -> None:
    assert require("json", "local", "providers.purpose_local") is json


def test_a_missing_library_is_told_with_its_extra_and_its_purpose() -> None:
    with pytest.raises(MissingExtra) as caught:
        require("no_such_library", "parquet", "tasks.purpose_parquet")
    assert str(caught.value) == "no_such_library is not installed, but is needed to read Parquet files"
    assert "pip install 'baimo[parquet]'" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_missing_submodule_is_told_the_same_way() -> None:
    with pytest.raises(MissingExtra, match=r"no_such_library\.part"):
        require("no_such_library.part", "parquet", "tasks.purpose_parquet")


def test_a_library_that_is_there_but_lacks_one_of_its_own_is_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import a_library_it_needs\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_library_it_needs"):
        require("half_installed", "parquet", "tasks.purpose_parquet")
    assert "half_installed" not in sys.modules


def test_a_library_that_fails_to_load_tells_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_library.py").write_text("raise ImportError('wrong glibc')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="wrong glibc"):
        require("broken_library", "parquet", "tasks.purpose_parquet")


def test_two_specs_do_not_share_their_arguments() -> None:
    assert Spec(name="a").args is not Spec(name="b").args
