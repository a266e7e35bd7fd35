"""Adapters as people and jobs ask for them: taken over, judged, shown, exported, retired.

Prevents two failures: a model that answers before it was shown to answer as it was trained (only the gate makes it
ready), and a server that holds torch in memory because it judged once (the gate runs in a process of its own).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from baimo.core.ids import plain
from baimo.core.tuning import Adapter, TuneJob
from baimo.errors import AdapterError, Conflict, NotFound, UnknownModel
from baimo.models.catalogue import TUNED
from baimo.providers import gguf
from baimo.providers.local_options import LocalOptions
from baimo.providers.weights import Weights
from baimo.settings import ProviderSettings
from baimo.store.adapters import Adapters
from baimo.tuning.adapters.card import kind_of, libraries, lineage_of, machine, write_card
from baimo.tuning.folder import JobFolder
from baimo.workspace.adapted_files import ServedFiles

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

FOLDER = "adapters"
CHECKPOINT_ONLY = frozenset({"resume.pt", "log"})
"""Of a checkpoint's folder, what only its job needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What `baimo adapters import` takes."""

    folder: Path
    """Of PEFT, whole weights or a prompt."""
    base: str
    """Model that it adapts."""
    suffix: str = ""
    """Part of its name."""
    tenant: str = ""
    """Whose it becomes; empty = the workspace's owner."""
    unchecked: bool = False
    """Serve it without the gate's judgement."""


class Adapting:
    """The adapters of one workspace. Every method blocks, some for many seconds.

    Args:
        workspace: whose.
        gate: judges an adapter that has been entered, and enters the judgement; None = in a process of its own.
    """

    def __init__(self, workspace: Workspace, *, gate: Callable[[Adapter], None] | None = None) -> None:
        self.workspace = workspace
        self.adapters = Adapters(workspace.store.database)
        self._gate = gate or self._gated
        options = LocalOptions.read(self._options("local"))
        self.files = ServedFiles(workspace.path / "served", options, self.based, self.at)

    # what comes in

    def adopted(self, job: TuneJob, folder: JobFolder) -> TuneJob:
        """A job with the model that its result has become; again after a death, the same one.

        Raises:
            AdapterError: served ≠ trained; the adapter stays, blocked, to be looked at.
        """
        mine = self.adapters.of_job(job.spec.tenant, job.spec.id)
        last = next((one for one in mine if one.step is None), None)
        if last is None:
            last = self._entered(job, folder.adapter)
        if last.status == "candidate":
            self._gate(last)
            last = self._again(last)
        if last.status == "blocked":
            parity = last.parity or {}
            raise AdapterError("adapters.blocked", name=last.name, how=parity.get("how", ""))
        known = {one.step for one in mine}
        for step, path in folder.checkpoints():
            if step not in known and kind_of(path) is not None:
                one = self._entered(job, path, step=step)
                # the same form, template and tokenizer went through the gate
                self._judged(one, "ready", {"as": last.id})
        return replace(job, adapter=last.id, model=last.name)

    def imported(self, options: ImportOptions) -> Adapter:
        """An adapter made elsewhere, checked against its base and judged.

        Raises:
            AdapterError: it cannot be served, or belongs to another base.
            UnknownModel: there is no such base.
        """
        from baimo.tuning.adapters.foreign import imported

        below = self.based(options.base)
        found = imported(options.folder, below.hf)
        adapter = Adapter(
            **self._named(options.base, options.suffix, options.tenant),
            base_hash=below.hash,
            kind=cast("Literal['lora', 'full', 'prompt']", found.kind),
            lineage={**found.lineage, "machine": machine(), "libraries": libraries()},
        )
        self._taken(adapter, options.folder)
        if options.unchecked or found.kind == "prompt":
            self._judged(adapter, "ready", {"unchecked": True})
        else:
            self._gate(adapter)
        return self._again(adapter)

    def check(self, adapter: Adapter, *, prompts: int = 8) -> Adapter:
        """Judge an adapter in this process, and enter the judgement: ready or blocked."""
        from baimo.workspace.gate import judged

        if adapter.kind == "prompt":
            return self._judged(adapter, "ready", {"differs": "", "prompts": 0})
        if self._elsewhere(adapter.base) == "vllm":
            raise AdapterError("adapters.gate_vllm", name=adapter.name)
        parity = judged(self, adapter, prompts=prompts)
        return self._judged(adapter, "ready" if parity.good else "blocked", plain(parity))

    # what there is

    def page(self, tenant: str | None = None, *, limit: int = 1000) -> list[Adapter]:
        """A tenant's adapters, or everybody's, the newest first."""
        return self.adapters.page(tenant, limit=limit)

    def found(self, name: str, tenant: str | None = None) -> Adapter:
        """An adapter by id or name, or the newest one for `last`.

        Args:
            name: as the user has it.
            tenant: whose it must be; None = anybody's, for who runs the machine.

        Raises:
            NotFound: there is none, or it is another tenant's.
        """
        if name == "last":
            found = next(iter(self.adapters.page(tenant, limit=1)), None)
        else:
            found = self.adapters.named(name, tenant)
            ids = (one for one in self.page(tenant) if one.id == name)
            found = next(ids, None) if found is None else found
        if found is None:
            raise NotFound("adapters.none", name=name[:200])
        return found

    def at(self, adapter: Adapter) -> Path:
        """Where its folder lies."""
        return self.workspace.path / adapter.folder

    # what becomes of it

    def exported(self, adapter: Adapter, out: Path, form: str) -> Path:
        """Write it for another tool; see `tuning.adapters.export`."""
        from baimo.tuning.adapters.export import Form, exported

        below = self.based(adapter.base)
        return exported(self.at(adapter), below.hf, below.gguf, out, cast("Form", form))

    def retire(self, adapter: Adapter) -> Adapter:
        """Serve it no more, and keep it.

        Raises:
            Conflict: it is retired already.
        """
        if adapter.status == "retired":
            raise Conflict("adapters.retired", name=adapter.name)
        return self._judged(adapter, "retired", adapter.parity)

    def delete(self, adapter: Adapter) -> None:
        """Serve it no more, and remove its files. What others were tuned from stays theirs: they were merged.

        Raises:
            AdapterError: its folder is none of those that adapters are kept in; nothing is removed.
        """
        path, all = self.at(adapter), self.workspace.path / FOLDER
        if all.resolve() not in path.resolve().parents:
            raise AdapterError("adapters.folder_elsewhere", name=adapter.name, path=path, folder=all)
        self.adapters.delete(adapter.tenant, adapter.id)
        shutil.rmtree(path, ignore_errors=True)
        self.files.forget(adapter)

    # serving

    def weights(self, name: str) -> Weights:
        """What answers for a tuned model, made if it is not there yet.

        Raises:
            UnknownModel: there is none of this name that may answer.
        """
        adapter = self.adapters.named(name)
        if adapter is None or adapter.status != "ready":
            raise UnknownModel("models.unknown", name=name, near="")
        if self._elsewhere(adapter.base) == "vllm":
            return Weights(path=self.at(adapter).absolute(), tuned=True)  # vLLM reads PEFT's own form
        return self.files.weights(adapter, self.adapters.ready())

    def whole(self, name: str) -> Path:
        """A tuned model as one GGUF file, to be tuned further.

        Raises:
            UnknownModel: there is none of this name.
        """
        adapter = self.adapters.named(name)
        if adapter is None:
            raise UnknownModel("models.unknown", name=name, near="")
        return self.files.merged(adapter)

    # inside

    def _entered(self, job: TuneJob, folder: Path, step: int | None = None) -> Adapter:
        kind = kind_of(folder)
        if kind is None:
            raise AdapterError("adapters.no_config", path=folder)
        spec = job.spec
        adapter = Adapter(
            **self._named(spec.base, spec.suffix, spec.tenant, step),
            base_hash=spec.base_hash,
            kind=kind,
            job=spec.id,
            step=step,
            lineage=lineage_of(job),
        )
        self._taken(adapter, folder)
        return adapter

    def _taken(self, adapter: Adapter, folder: Path) -> None:
        """Copy first, enter last: an adapter that is known is whole."""
        target = self.at(adapter)
        target.parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns(*CHECKPOINT_ONLY)
        shutil.copytree(folder, target, copy_function=_linked, ignore=ignored)
        write_card(target, adapter)
        try:
            self.adapters.put(adapter)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise

    def _named(self, base: str, suffix: str, tenant: str, step: int | None = None) -> dict[str, Any]:
        id = self.adapters.new_id()
        short = base.removeprefix(TUNED).partition(":")[0] if base.startswith(TUNED) else Path(base).name
        organization = tenant or self.workspace.settings.tune.organization
        end = f"{id.partition('_')[2]}" + ("" if step is None else f":ckpt-step-{step}")
        parts = (_word(short), _word(organization), _word(suffix), end)
        return {
            "id": id,
            "name": TUNED + ":".join(parts),
            "tenant": tenant,
            "base": base,
            "folder": f"{FOLDER}/{id}",
            "created_ms": self.adapters.now_ms(),
        }

    def _options(self, vendor: str) -> Mapping[str, Any]:
        return self.workspace.settings.providers.get(vendor, ProviderSettings()).options

    def _elsewhere(self, base: str) -> str:
        """Protocol of the vendor that serves a base; empty = this machine's own."""
        if base.startswith(TUNED) or Path(base).is_absolute():
            return ""
        return self.workspace.catalogue.vendor(self.workspace.catalogue.base(base).vendor).protocol

    def _again(self, adapter: Adapter) -> Adapter:
        return self.adapters.get(adapter.tenant, adapter.id) or adapter

    def _judged(self, adapter: Adapter, status: Any, parity: Mapping[str, Any] | None) -> Adapter:
        after = self.adapters.change(
            adapter.tenant, adapter.id, lambda one: replace(one, status=status, parity=parity)
        )
        if after is None:
            raise NotFound("adapters.none", name=adapter.name)
        write_card(self.at(after), after)
        return after

    def based(self, name: str) -> Below:
        """A base in both forms, fetched if it is not here yet."""
        from baimo.providers.hf import hf_folder

        if name.startswith(TUNED):
            path = self.whole(name)
        elif Path(name).is_absolute():
            path = Path(name)
        else:
            model = self.workspace.catalogue.base(name)
            protocol = self.workspace.catalogue.vendor(model.vendor).protocol
            path = Path(str(self._options(model.vendor).get("model", "")))
            if protocol == "local":
                path = self.workspace.pulled(model)
            elif protocol != "vllm" or not path.is_dir():
                raise AdapterError("adapters.base_elsewhere", name=name, vendor=model.vendor)
        whole = path.is_dir()
        return Below(
            hf=hf_folder(path), gguf=None if whole else path, hash="" if whole else gguf.file_hash(path)
        )

    def _gated(self, adapter: Adapter) -> None:
        """Judge it in a process of its own.

        Raises:
            AdapterError: the process failed; the message is what it said last.
        """
        program = [sys.executable, "-m", "baimo.workspace.gate", str(self.workspace.folder), adapter.tenant]
        settings = self.workspace.settings.workspace
        said = {"BAIMO_WORKSPACE_PATH": str(self.workspace.path.absolute())}
        if settings.database:
            said["BAIMO_WORKSPACE_DATABASE"] = settings.database
        done = subprocess.run(
            [*program, adapter.id],
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **said},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            said_last = lines[-1] if lines else f"exit code {done.returncode}"
            raise AdapterError("adapters.gate_failed", name=adapter.name, problem=said_last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """What an adapter stands on."""

    hf: Path
    """In Hugging Face form."""
    gguf: Path | None
    """As GGUF; None = it has no such form."""
    hash: str
    """SHA-256 of the GGUF file."""


def adopting(workspace: Workspace) -> Callable[[TuneJob, JobFolder], TuneJob]:
    """What makes models of the results of jobs here."""
    return workspace.adapting.adopted


def shown(adapter: Adapter) -> dict[str, Any]:
    """An adapter as a JSON object, every field there."""
    return json.loads(json.dumps(plain(adapter))) | {"status": adapter.status, "kind": adapter.kind}


def _linked(source: str, target: str) -> None:
    """A second name for the same bytes where the file system has them, else a copy: weights are never changed."""
    if Path(source).suffix in (".safetensors", ".gguf"):
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return
    shutil.copyfile(source, target)


def _word(name: str) -> str:
    """A part of a name: without what separates parts, or would need quoting."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:64].strip("-")
