"""An adapter in the form that another tool loads: safetensors, GGUF, GGUF adapter, or a folder for Ollama.

Prevents the failure where the weights travel and the template does not: every form carries the chat template and
the tokens that end an answer, Ollama's as TEMPLATE and PARAMETER stop.

Modelfile: https://docs.ollama.com/modelfile
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from baimo.core.message import Message
from baimo.errors import AdapterError
from baimo.providers import chat_template
from baimo.providers.gguf_write import gguf_adapter, gguf_of
from baimo.providers.hf_files import chat_template_of, read_json
from baimo.providers.vocabulary import token_text
from baimo.tuning.adapters.card import LINEAGE, kind_of
from baimo.tuning.adapters.merge import Merged, described, is_whole, merged

Form = Literal["safetensors", "gguf-f16", "gguf-q8_0", "gguf-adapter", "ollama"]
FORMS: tuple[Form, ...] = ("safetensors", "gguf-f16", "gguf-q8_0", "gguf-adapter", "ollama")


def exported(folder: Path, base: Path, like: Path | None, out: Path, form: Form) -> Path:
    """Write an adapter for another tool.

    Args:
        folder: of the adapter: PEFT or whole weights.
        base: its base in Hugging Face form.
        like: GGUF of the base, where there is one.
        out: a folder, made if it is not there.
        form: safetensors and gguf-f16, gguf-q8_0 are merged; gguf-adapter goes beside the base's GGUF.

    Returns:
        The file or folder that was written.

    Raises:
        AdapterError: it cannot take this form, or something is there already.
    """
    if kind_of(folder) == "prompt":
        raise AdapterError("adapters.prompt_form", path=folder, form=form)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AdapterError("adapters.not_empty", path=out)
    out.mkdir(parents=True, exist_ok=True)
    if form == "gguf-adapter":
        if like is None or kind_of(folder) != "lora":
            raise AdapterError("adapters.not_as_lora", path=folder, what=str(kind_of(folder)))
        return gguf_adapter(folder, like, out / "adapter.gguf")
    if form == "safetensors":
        for name in (LINEAGE, "README.md"):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, out / name)
        return merged(folder, base, out)
    if form == "ollama":
        merged_gguf(folder, base, like, out / "model.gguf", "f16")
        (out / "Modelfile").write_text(modelfile(folder, base), encoding="utf-8", newline="\n")
        return out
    return merged_gguf(folder, base, like, out / f"{form}.gguf", "q8_0" if form == "gguf-q8_0" else "f16")


def merged_gguf(folder: Path, base: Path, like: Path | None, out: Path, form: Literal["f16", "q8_0"]) -> Path:
    """Base and adapter in one GGUF file, without a merged model in between.

    Raises:
        AdapterError: see `Merged` and `gguf_of`.
    """
    if is_whole(folder):
        return gguf_of(folder, out, form, like)
    with tempfile.TemporaryDirectory() as made:
        described(folder, base, Path(made))
        return gguf_of(Path(made), out, form, like, tensors=Merged(base, folder))


def modelfile(folder: Path, base: Path) -> str:
    """Ollama's recipe for `model.gguf`.

    Raises:
        AdapterError: the chat template does more than Ollama's can be written to do.
    """
    source = folder if (folder / "tokenizer_config.json").is_file() else base
    config = read_json(source / "tokenizer_config.json")
    special = {name: token_text(config.get(name)) for name in ("bos_token", "eos_token")}
    template, stops = _go_template(chat_template_of(source), special, folder)
    lines = ["FROM ./model.gguf", f'TEMPLATE """{template}"""']
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    return "\n".join([*lines, ""])


_MARKS = {"system": "\x01S\x01", "user": "\x01U\x01", "assistant": "\x01A\x01"}


def _go_template(source: str, special: dict[str, str], folder: Path) -> tuple[str, list[str]]:
    """A Jinja2 chat template as Go template, found by rendering it around marks and checked by rendering more.

    A template that writes one frame around every turn is what can be found this way; others are refused.
    """

    def turns(*pairs: tuple[str, str], opening: bool = True) -> str:
        messages = tuple(Message(role=role, content=said) for role, said in pairs)  # pyright: ignore[reportArgumentType]
        return chat_template.rendered(source, messages, special=special, opening=opening)

    system, user, answer = (
        ("system", _MARKS["system"]),
        ("user", _MARKS["user"]),
        ("assistant", _MARKS["assistant"]),
    )
    whole = turns(system, user, answer, opening=False)
    head, found, rest = whole.partition(_MARKS["system"])
    after_system, found2, rest = rest.partition(_MARKS["user"])
    after_user, found3, after_answer = rest.partition(_MARKS["assistant"])
    asked = turns(system, user)
    if (
        not (found and found2 and found3)
        or asked != f"{head}{_MARKS['system']}{after_system}{_MARKS['user']}{after_user}"
    ):
        raise AdapterError("adapters.template_form", path=folder)
    longer = turns(system, user, answer, user)
    second = longer.removeprefix(f"{asked}{_MARKS['assistant']}")
    between, _, tail = second.partition(_MARKS["user"])
    bare = turns(user)
    alone, _, bare_tail = bare.partition(_MARKS["user"])
    if tail != after_user or bare_tail != after_user or not between.startswith(after_answer):
        raise AdapterError("adapters.template_form", path=folder)
    frame = between.removeprefix(after_answer)  # before a user turn
    usual = alone.removesuffix(frame)
    if not alone.endswith(frame) or not after_system.endswith(frame):
        raise AdapterError("adapters.template_form", path=folder)
    close_system = after_system.removesuffix(frame)
    shown = (
        f"{{{{ if .System }}}}{head}{{{{ .System }}}}{close_system}{{{{ else }}}}{usual}{{{{ end }}}}"
        f'{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{frame}{{{{ .Content }}}}{after_user}'
        f'{{{{ else if eq .Role "assistant" }}}}{{{{ .Content }}}}{after_answer}{{{{ end }}}}{{{{ end }}}}'
    )
    stop = after_answer.strip() or special.get("eos_token", "")
    return shown, [one for one in dict.fromkeys((stop, special.get("eos_token", ""))) if one]
