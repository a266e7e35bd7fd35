"""The form of a tuning job: from what, how, and a file from the reader's own machine."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.upload import LARGEST, File, sent
from baimo.console.visit import Visit, words

FIELDS = ("task", "file", "valid_file", "model", "recipe", "effort", "prompt", "suffix", "seed")
EFFORTS = ("small", "medium", "large")
UPLOADS = {"upload-file": "file", "upload-valid_file": "valid_file"}
"""Field with a file from the reader's machine → field with the id of an uploaded one."""
LOOKED_AT = 8 * 2**20
"""Bytes of a file that the API looks at line by line before it is uploaded."""
OF_FILES = ("sft", "dpo")
"""Recipes that learn from files."""
_SETTING = "set-"
"""Beginning of the names of fields that say a setting."""


@dataclass(slots=True, kw_only=True)
class Filled:
    """A form as it was sent, and what came of it."""

    form: dict[str, str]
    refused: Refused | None = None
    faults: dict[str, Sequence[Mapping[str, Any]]] = field(
        default_factory=dict[str, Sequence[Mapping[str, Any]]]
    )
    """Field of a file → what is wrong with its lines."""
    taken: dict[str, str] = field(default_factory=dict[str, str])
    """Field of a file → what was uploaded."""
    plan: Any = None
    """What follows from the dial."""


async def new(visit: Visit) -> Response:
    """The form. One button shows what follows from the dial, another orders a job that asks first."""
    filled = Filled(form=dict(visit.request.query_params))
    if visit.request.method == "POST":
        filled, made = await _acted(visit)
        if made is not None:
            return visit.gone_to(named("/tune/{job}", job=made))
    offer: Any = await visit.api.get("/api/tuning/offer")
    files = [("", "–"), *((one["file"], f"{one['name']} · {one['file']}") for one in offer["files"])]
    choices = {
        "task": [("", "–"), *((one, one) for one in offer["tasks"])],
        "file": files,
        "valid_file": files,
        "model": [(one, one) for one in offer["models"]],
        "recipe": [(one, words(f"console_tune.recipe_{one}")) for one in offer["recipes"]],
        "effort": [(one, words(f"console_tune.effort_{one}")) for one in EFFORTS],
    }
    status = filled.refused.status if filled.refused else 400 if filled.faults else 200
    return visit.shown(
        "tune_new.html",
        status,
        page="tune",
        offer=offer,
        choices=choices,
        form=filled.form,
        refused=filled.refused,
        plan=filled.plan,
        faults=filled.faults,
        taken=filled.taken,
        said=_said(filled.form),
    )


async def _acted(visit: Visit) -> tuple[Filled, str | None]:
    """What came of a sent form, and the job that was ordered."""
    got = await sent(visit.request)
    filled = Filled(form=dict(got.fields) if got else await visit.form())
    visit.must("tuning_order")
    act = filled.form.get("act")
    try:
        if got is None and "multipart" in visit.request.headers.get("content-type", ""):
            raise Refused(413, {"message": words("console_tune.too_long", limit=LARGEST // 2**20)})
        for name, file in got.files.items() if got else ():
            if name in UPLOADS:
                await _upload(visit, filled, UPLOADS[name], file)
        if filled.faults or act == "upload":
            return filled, None
        if act == "plan":
            filled.plan = await visit.api.post("/api/tuning/plan", ordered(filled.form))
            return filled, None
        made = await visit.api.post("/api/tuning/jobs", ordered(filled.form))
        return filled, str(made["job"])
    except Refused as error:
        filled.refused = error
    return filled, None


async def _upload(visit: Visit, filled: Filled, name: str, file: File) -> None:
    """Look at a file, upload it as everybody uploads files, and choose it in the form.

    Raises:
        Refused: it is not taken.
    """
    form, data, rows = filled.form, file.data, None
    recipe = form.get("recipe", "")
    try:
        if len(data) <= LOOKED_AT or not file.name.endswith(".jsonl"):
            looked = await visit.api.post(
                "/api/tuning/rows",
                {
                    "name": file.name,
                    "base64": base64.b64encode(data).decode(),
                    "recipe": recipe if recipe in OF_FILES else "sft",
                    "measured": name == "valid_file",
                },
            )
            if looked["faults"]:
                filled.faults[name] = looked["faults"]
                return
            data, rows = looked["jsonl"].encode() if looked["jsonl"] else data, looked["rows"]
        wanted = file.name if file.name.endswith(".jsonl") else f"{file.name}.jsonl"
        made = await visit.api.upload("/v1/files", {"purpose": "fine-tune"}, wanted, data)
    except Refused as error:
        error.field = name
        raise
    form[name] = made["id"]
    filled.taken[name] = (
        words("console_tune.uploaded_rows", name=file.name, rows=f"{rows:,}")
        if rows is not None
        else words("console_tune.uploaded", name=file.name)
    )
    if name == "file":
        form["task"] = ""  # it is learnt instead


def _said(form: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(_SETTING): value for name, value in form.items() if name.startswith(_SETTING)}


def ordered(form: Mapping[str, str]) -> dict[str, Any]:
    """What a form orders: empty fields say nothing; a setting is JSON, or else text."""
    found: dict[str, Any] = {name: form[name] for name in FIELDS if form.get(name)}
    if "seed" in found and found["seed"].isdigit():
        found["seed"] = int(found["seed"])
    overrides: dict[str, Any] = {}
    for name, value in _said(form).items():
        if value:
            try:
                overrides[name] = json.loads(value)
            except ValueError:
                overrides[name] = value
    return {**found, "overrides": overrides} if overrides else found
