"""Tuning: the rows that a model learns from, the spec that determines what comes out, and the adapter that does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from baimo.core.ids import digest
from baimo.core.message import Message, Tool
from baimo.core.registry import Spec
from baimo.core.tenant import DataClass

Effort = Literal["small", "medium", "large"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of training data in the one form that every recipe reads.

    Which fields are set says what it is good for: `messages` ending with an assistant turn (sft, distill), with
    `rejected` (dpo), ending with a user turn (grpo, prompt), or `text` alone (cpt).
    """

    messages: tuple[Message, ...] = ()
    """The conversation."""
    trained: tuple[int, ...] | None = None
    """Places in `messages` of the assistant turns that are learnt; None = all of them (OpenAI's `weight`)."""
    rejected: tuple[Message, ...] = ()
    """The worse ending; takes the place of the last assistant turn of `messages`."""
    tools: tuple[Tool, ...] = ()
    """Functions that the model may call."""
    text: str = ""
    """Raw text, for continued pretraining."""
    item: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Everything else that the line said: what graders and rewards compare with."""
    group: str | None = None
    """Rows of one group (paraphrases, one document) never straddle a split."""
    line: int | None = None
    """Line of the source file, for messages; not part of its identity."""
    file: str = ""
    """Source file, for messages."""

    @property
    def hash(self) -> str:
        """Digest of what it teaches."""
        return digest([self.messages, self.trained, self.rejected, self.tools, self.text, self.item])


class JobStatus(StrEnum):
    """Where a tuning job stands, in OpenAI's words."""

    VALIDATING = "validating_files"
    """The data are being checked."""
    QUEUED = "queued"
    """Waiting for the machine."""
    RUNNING = "running"
    """A child process works on it."""
    PAUSED = "paused"
    """Asked to stop at a checkpoint; resumes from there."""
    SUCCEEDED = "succeeded"
    """There is an adapter."""
    FAILED = "failed"
    """There is an error."""
    CANCELLED = "cancelled"
    """Asked to end; checkpoints stay."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneSpec:
    """Everything that determines a tuned model: written before the start, hashed into the lineage."""

    id: str
    """ftjob-… sortable by time."""
    recipe: Spec
    """Name of the recipe, the values that were overridden, and the version of its code."""
    base: str
    """Model to start from: `local/smollm2-135m-instruct`, an `ft:` model, or a folder of Hugging Face form."""
    base_hash: str = ""
    """SHA-256 of the base's weights file."""
    train: str = "train.jsonl"
    """Rows, one JSON form of `Row` a line; relative to the job's folder."""
    valid: str = ""
    """Rows that are only measured; empty = none."""
    data_hash: str = ""
    """Digest of the train rows' hashes, in order."""
    cleaned: tuple[Mapping[str, Any], ...] = ()
    """What was done to the data before, step by step: {step, removed, changed, …}."""
    task: str = ""
    """Task that it is tuned for, where there is one: its folder."""
    prompt: str = ""
    """Name of the task's prompt that was asked for; empty = none was."""
    effort: Effort = "small"
    """The dial from which a recipe derives whatever is not overridden."""
    seed: int = 0
    """Of every random choice."""
    suffix: str = ""
    """Part of the tuned model's name, chosen by the user."""
    tenant: str = ""
    """Whose job it is; empty = the workspace's owner."""

    @property
    def hash(self) -> str:
        """Digest of what determines the weights; not of who asked, or how the result is called."""
        what = [self.recipe, self.base_hash or self.base, self.data_hash, self.task, self.effort, self.seed]
        return digest([*what, self.prompt] if self.prompt else what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A figure that is not certain."""

    middle: float
    """Most likely value."""
    low: float
    """Nine of ten such jobs need more."""
    high: float
    """Nine of ten such jobs need less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneForecast:
    """What a job will take, before it starts."""

    minutes: Range
    """Wall time of the child process."""
    memory_mb: Range
    """Peak resident memory; on a GPU that of the GPU."""
    tokens: int
    """Tokens seen in all epochs."""
    cost_micros: Range | None = None
    """Machine's hourly rate and electricity × minutes; None = no rate configured."""
    currency: str = ""
    """Currency of the cost."""
    based_on: str = "calibration"
    """calibration: a short run on this data; jobs: past jobs on this machine; both."""
    raw_minutes: float = 0.0
    """What the calibration alone says; past jobs correct it."""
    raw_memory_mb: float = 0.0
    """Likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneProgress:
    """One step's figures."""

    step: int
    """Optimizer steps done."""
    steps: int
    """Optimizer steps in all."""
    epoch: float
    """Passes over the data, fractional."""
    loss: float
    """Mean over the trained tokens of this step."""
    accuracy: float | None = None
    """Share of the trained tokens that greedy decoding would have got right."""
    valid_loss: float | None = None
    """Over the whole validation file, on steps that measure it."""
    valid_accuracy: float | None = None
    """Likewise."""
    reward: float | None = None
    """Mean reward, for recipes that have one."""
    learning_rate: float = 0.0
    """Of this step."""
    tokens: int = 0
    """Trained and untrained tokens so far."""
    examples: int = 0
    """Rows so far."""
    elapsed_s: float = 0.0
    """Working time so far, pauses left out."""
    eta_s: float | None = None
    """Forecast of the time left."""
    memory_mb: float = 0.0
    """Peak so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneJob:
    """A tuning job as the workspace keeps it."""

    spec: TuneSpec
    """What is asked."""
    status: JobStatus
    """Where it stands."""
    created_ms: int
    """Wall clock, milliseconds since 1970."""
    started_ms: int | None = None
    """When a child process began with it."""
    ended_ms: int | None = None
    """When it ended."""
    key: str = ""
    """Public part of the key that asked for it."""
    data_class: DataClass = "public"
    """Of the files that it learns from, as far as they say."""
    progress: TuneProgress | None = None
    """The newest figures."""
    minutes: float | None = None
    """Wall time of its child processes together, calibration included."""
    forecast: TuneForecast | None = None
    """What was forecast."""
    adapter: str = ""
    """Adapter.id of the result."""
    model: str = ""
    """Name under which the result is served."""
    files: tuple[str, ...] = ()
    """Ids of result files."""
    error: Mapping[str, Any] | None = None
    """{code, message, param} of a failure."""
    asked: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The request as the client sent it, to be shown again (method, hyperparameters, metadata, file ids)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A tuned model: what was learnt, what it was learnt from, and whether it may answer."""

    id: str
    """ad_… sortable by time."""
    name: str
    """`ft:<base>:<org>:<suffix>:<id>`, unique in the workspace."""
    tenant: str
    """Whose it is; empty = the workspace's owner."""
    base: str
    """Model that it adapts."""
    base_hash: str
    """SHA-256 of the base's weights file."""
    kind: Literal["lora", "full", "prompt"] = "lora"
    """What the folder holds: a PEFT adapter, whole weights, or a prompt."""
    folder: str
    """Where it lies, relative to the workspace."""
    status: Literal["candidate", "ready", "blocked", "retired"] = "candidate"
    """candidate: parity not judged; ready: serves; blocked: served ≠ trained; retired: no longer served."""
    created_ms: int
    """Wall clock, milliseconds since 1970."""
    job: str = ""
    """TuneSpec.id; empty = imported."""
    step: int | None = None
    """Of the checkpoint that it is; None = the end of the job."""
    lineage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Data hash, recipe Spec, cleaning steps, base, machine, libraries, figures."""
    parity: Mapping[str, Any] | None = None
    """Judgement of the gate: {template, logits, text, prompts, identical, max_logit_difference, differs}."""
