"""vLLM as a child process: started when its models are first asked for, watched, started again when it dies.

Prevents two failures: a key on a command line, where every user of the machine reads it (it goes through the
environment), and two processes of ours that each load the model: whoever gets the lock starts the server, the others
use it. Source: docs.vllm.ai/en/latest, pages cli/serve.html and serving/openai_compatible_server.html (VLLM_API_KEY,
/health).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import aiohttp
import msgspec

from baimo.core.call import Completion, Delta, Request
from baimo.core.model import Vendor
from baimo.core.registry import Spec
from baimo.errors import BadReply, ConfigError, MissingExtra, Unreachable
from baimo.providers.openai import OpenAIProvider
from baimo.providers.pace import Clock, SystemClock
from baimo.providers.weights import Located, weights_of
from baimo.settings import Count, Positive, ProviderSettings
from baimo.typed import converted

LONGEST_REST_S = 60.0


class VllmOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[providers.NAME.options] of protocol `vllm`."""

    model: str
    """Folder of weights, or a name at a hub."""
    served_names: list[str] = []
    """Names that clients may ask for; empty = `model` itself."""
    port: Count = 8101
    """On 127.0.0.1."""
    executable: str = "vllm"
    """Program, looked for in PATH."""
    gpu_memory_utilization: Positive = 0.9
    """Share of each GPU's memory that it takes."""
    max_model_len: Count | None = None
    """Tokens of prompt and answer together; None = the model's."""
    tensor_parallel_size: Count = 1
    """GPUs that share one copy of the model."""
    dtype: str = "auto"
    """auto, bfloat16, float16, float32."""
    quantization: str = ""
    """awq, gptq, fp8 …; empty = as the weights say."""
    max_num_seqs: Count | None = None
    """Requests computed together; None = its own default."""
    adapters: dict[str, str] = {}
    """Name → folder of a LoRA adapter, served beside the base model."""
    tuned: bool = False
    """Whether tuned models of this base are served beside it, loaded when they are first asked for."""
    max_loras: Count = 8
    """Adapters that one batch may mix, with `tuned`."""
    max_lora_rank: Count = 64
    """Highest rank among the adapters."""
    tool_call_parser: str = ""
    """hermes, llama3_json …; empty = no tool calls."""
    reasoning_parser: str = ""
    """deepseek_r1, qwen3 …; empty = reasoning stays in the text."""
    arguments: list[str] = []
    """Further arguments, passed on as they are."""
    start_timeout_s: Positive = 900.0
    """Longest time until it answers."""

    @classmethod
    def read(cls, provider: str, options: Mapping[str, Any]) -> VllmOptions:
        """Options as configured.

        Raises:
            ConfigError: an unknown name, a missing model or an ill-typed value.
        """
        try:
            return converted(dict(options), cls)
        except msgspec.ValidationError as error:
            raise ConfigError("vllm.bad_options", provider=provider, problem=error) from error

    def command(self) -> list[str]:
        """The command line; it holds no secret."""
        line = [self.executable, "serve", self.model, "--host", "127.0.0.1", "--port", str(self.port)]
        flags: dict[str, object] = {
            "--gpu-memory-utilization": self.gpu_memory_utilization,
            "--tensor-parallel-size": self.tensor_parallel_size,
            "--dtype": self.dtype,
            "--max-model-len": self.max_model_len,
            "--quantization": self.quantization or None,
            "--max-num-seqs": self.max_num_seqs,
            "--reasoning-parser": self.reasoning_parser or None,
        }
        for flag, value in flags.items():
            line += [] if value is None else [flag, str(value)]
        if self.served_names:
            line += ["--served-model-name", *self.served_names]
        if self.tool_call_parser:
            line += ["--enable-auto-tool-choice", "--tool-call-parser", self.tool_call_parser]
        if self.adapters or self.tuned:
            line += ["--enable-lora", "--max-lora-rank", str(self.max_lora_rank)]
        if self.tuned:
            line += ["--max-loras", str(self.max_loras)]
        if self.adapters:
            line += ["--lora-modules", *(f"{name}={folder}" for name, folder in self.adapters.items())]
        return [*line, *self.arguments]

    @property
    def address(self) -> str:
        """Root of its OpenAI-compatible API."""
        return f"http://127.0.0.1:{self.port}/v1"


class VllmServer:
    """One vLLM server of this machine. The process that gets its lock owns it; others wait until it answers.

    Args:
        options: what to run.
        folder: for lock, key and log.
    """

    def __init__(self, options: VllmOptions, folder: Path, clock: Clock | None = None) -> None:
        self.options = options
        self._stem = folder / f"vllm-{options.port}"
        self._clock: Clock = clock or SystemClock()
        self._lock: IO[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self.starts = 0
        """How often it was started by us."""

    @property
    def key_file(self) -> Path:
        """Holds the key that it wants; readable by this user only."""
        return self._stem.with_suffix(".key")

    @property
    def log_file(self) -> Path:
        """What it printed."""
        return self._stem.with_suffix(".log")

    async def ready(self) -> None:
        """Return when it answers, having started it if nobody else has.

        Raises:
            MissingExtra: there is no such program.
            Unreachable: it ended, or did not answer in time; the message shows the end of its log.
        """
        async with self._starting:
            if self._watching is None and self._owned():
                if shutil.which(self.options.executable) is None:
                    self._give_up()
                    raise MissingExtra("vllm.no_program", program=self.options.executable)
                await self._start()
                self._watching = asyncio.create_task(self._watch())
        until = self._clock.now() + self.options.start_timeout_s
        async with aiohttp.ClientSession() as session:
            while not await self._answers(session):
                if self._process is not None and self._process.returncode is not None and self.starts == 1:
                    code = self._process.returncode
                    await self.aclose()
                    raise Unreachable(
                        "vllm.ended", sent=False, code=code, log=self.log_file, tail=self._tail()
                    )
                if self._clock.now() > until:
                    seconds = round(self.options.start_timeout_s)
                    raise Unreachable(
                        "vllm.too_slow", sent=False, seconds=seconds, log=self.log_file, tail=self._tail()
                    )
                await self._clock.sleep(0.5)

    async def aclose(self) -> None:
        """Stop it, if it is ours."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self._give_up()

    async def adapter(
        self, operation: Literal["load", "unload"], name: str, folder: Path | None = None
    ) -> None:
        """Load an adapter under a name, or let go of it; what is so already stays so.

        Raises:
            BadReply: the server refuses.
            Unreachable: it does not answer.
        """
        body = {"lora_name": name} if folder is None else {"lora_name": name, "lora_path": str(folder)}
        headers = {"authorization": f"Bearer {self.key_file.read_text()}"}
        address = f"{self.options.address}/{operation}_lora_adapter"
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.post(address, json=body) as answer,
            ):
                said = await answer.text()
        except aiohttp.ClientError as error:
            raise Unreachable("vllm.adapter", name=name, problem=error) from error
        known = "already been loaded" in said or "cannot be found" in said
        if answer.status != 200 and not known:
            raise BadReply("vllm.adapter", name=name, problem=said[:300])

    async def _start(self) -> None:
        descriptor = os.open(self.key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        key = secrets.token_urlsafe(32)
        with os.fdopen(descriptor, "w") as file:
            file.write(key)
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.options.command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "VLLM_API_KEY": key,
                    "VLLM_NO_USAGE_STATS": "1",
                    "DO_NOT_TRACK": "1",
                    # docs.vllm.ai/en/latest/features/lora: adapters come and go; the server hears this user only
                    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": str(self.options.tuned),
                },
            )
        self.starts += 1

    async def _watch(self) -> None:
        """Start it again whenever it ends, with ever longer rests while it does not come up."""
        rest = 1.0
        while self._process is not None:
            began = self._clock.now()
            await self._process.wait()
            rest = 1.0 if self._clock.now() - began > LONGEST_REST_S else min(2 * rest, LONGEST_REST_S)
            await self._clock.sleep(rest)
            await self._start()

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            limit = aiohttp.ClientTimeout(total=5)
            async with session.get(f"http://127.0.0.1:{self.options.port}/health", timeout=limit) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _owned(self) -> bool:
        import fcntl

        self._stem.parent.mkdir(parents=True, exist_ok=True)
        lock = self._stem.with_suffix(".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _give_up(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _tail(self) -> str:
        try:
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-5:])
        except OSError:
            return ""


class VllmProvider:
    """Models behind a vLLM server of our own, as a `Provider`.

    Args:
        vendor: of the catalogue or of the settings.
        settings: its options are `VllmOptions`.

    Raises:
        ConfigError: options that do not fit.
    """

    def __init__(self, vendor: Vendor, settings: ProviderSettings, *, weights: Located | None = None) -> None:
        self._weights = weights
        self._tuned: dict[str, int] = {}
        self._gone: set[str] = set()
        options = VllmOptions.read(vendor.name, settings.options)
        self.server = VllmServer(options, runtime_folder())
        self._settings = reached(settings, self.server)
        self._provider = OpenAIProvider(vendor, self._settings)

    @property
    def spec(self) -> Spec:
        """What is served, and how."""
        options = msgspec.to_builtins(self.server.options)
        shown = {
            name: options[name] for name in ("model", "dtype", "quantization", "adapters") if options[name]
        }
        return dataclasses.replace(self._provider.spec, name="vllm", args=shown)

    async def complete(self, request: Request) -> Completion:
        """See `Provider.complete`; the first call waits until the model is loaded."""
        await self._ready(request)
        return await self._provider.complete(request)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        """See `Provider.stream`."""
        await self._ready(request)
        async for delta in self._provider.stream(request):
            yield delta

    def unpaced(self) -> None:
        """See `PacedProvider.unpaced`."""
        self._provider.unpaced()

    def forget(self, gone: Callable[[str], bool]) -> None:
        """Let go of tuned models that are not served any more, before the next answer."""
        self._gone |= {name for name in self._tuned if gone(name)}

    async def _ready(self, request: Request) -> None:
        """The server runs, and what was tuned is loaded: again, where it was started again."""
        await self.server.ready()
        while self._gone:
            name = self._gone.pop()
            self._tuned.pop(name, None)
            await self.server.adapter("unload", name)
        name = request.model
        if self._weights is None or not name.startswith("ft:") or self._tuned.get(name) == self.server.starts:
            return
        found = await asyncio.to_thread(self._weights, name)
        await self.server.adapter("load", name, weights_of(found).path)
        self._tuned[name] = self.server.starts

    async def aclose(self) -> None:
        """Close the connections, and the server if this process started it."""
        await self._provider.aclose()
        await self.server.aclose()


def reached(settings: ProviderSettings, server: VllmServer) -> ProviderSettings:
    """Settings with which an OpenAI client reaches the server."""
    return msgspec.structs.replace(
        settings,
        protocol="openai",
        base_url=server.options.address,
        key=f"file:{server.key_file}",
        options={},
    )


def runtime_folder() -> Path:
    """For locks and logs of servers that this user's processes share."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "baimo" / "run"
