"""How `serve` is wired: one process's gateway with its books, keys and connections.

Prevents the failure where a mended baimo.toml needs a restart, and a broken one stops a server that was running: it is
read again when it changes, and a file that cannot be used leaves everything as it was. So does one that is gone or
empty: what it had closed stays closed.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from baimo.config import Origin, config_file, origins
from baimo.core.call import Provider, Request
from baimo.core.model import Model
from baimo.core.tenant import OWNER, Key
from baimo.errors import BaimoError, ConfigError
from baimo.gateway.assembly import Outside, assembled
from baimo.gateway.gateway import Gateway
from baimo.gateway.keyring import Keyring
from baimo.gateway.observe import Observer, Silent
from baimo.gateway.routing import models_of
from baimo.gateway.surface import Surface
from baimo.models.catalogue import Catalogue
from baimo.providers.pace import SystemClock
from baimo.providers.pool import Providers
from baimo.providers.wire.pool import Pools
from baimo.settings import ProviderSettings, ServeSettings, Settings
from baimo.store import rollups
from baimo.store.accounts import EVERYBODY
from baimo.store.adapters import Adapters
from baimo.store.batches import Batches
from baimo.store.books import Books
from baimo.store.cached import Cached
from baimo.store.completions import StoredCompletions
from baimo.store.evaluation_runs import EvalRuns
from baimo.store.evaluations import Evaluations
from baimo.store.files import Files
from baimo.store.releases import Releases
from baimo.store.responses import Responses
from baimo.store.secret import workspace_secret
from baimo.store.sessions import Sessions
from baimo.store.uploads import Uploads
from baimo.text import text
from baimo.workspace.adapted import Adapted
from baimo.workspace.compare_queue import CompareQueue
from baimo.workspace.elsewhere import elsewhere_counted
from baimo.workspace.fine_tuning_wiring import fine_tuning
from baimo.workspace.housekeeping import House, due, swept
from baimo.workspace.validation import apart
from baimo.workspace.workspace import Workspace

if TYPE_CHECKING:
    from baimo.pii.mask import Masker

HOUSE_S = 60.0
"""How often it is looked whether something is to be deleted."""
LOOK_S = 1.0
"""How often the configuration file is looked at."""
FIXED: Mapping[str, Sequence[str]] = {
    "workspace": ("path", "database", "models"),
    "serve": ("host", "port", "workers", "tls_certificate", "tls_key"),
    "ledger": ("flush_ms",),
    "observe": ("otlp_endpoint", "otlp_protocol", "trace_share"),
}
"""Settings that hold from the start to the end of a process, by section."""
log = logging.getLogger("baimo.serve")


class Service:
    """What answers calls in this process. Belongs to one event loop; use it as an asynchronous context manager.

    Args:
        workspace: its settings hold until its file changes.
        elsewhere: providers that are reached otherwise than the settings say, by name.
        observer: is told of every call.
        embeddings: OpenAI's operation, in which the semantic cache asks; None = there is no such cache.
        read: the workspace's settings as they are now.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        elsewhere: Mapping[str, ProviderSettings] | None = None,
        observer: Observer | None = None,
        embeddings: Surface | None = None,
        read: Callable[[], Settings],
    ) -> None:
        self.workspace = workspace
        self.observer: Observer = observer or Silent()
        self._elsewhere = dict(elsewhere or {})
        self._embeddings = embeddings
        self._read = read
        self._file: Path | None = None
        self._filled = False
        self._waiting: list[str] = []
        self.on_settings: Callable[[ServeSettings], None] = lambda serve: None
        """Called with what clients are held against, before it holds; what it raises refuses the settings."""
        self.away_since: float | None = None
        """Monotonic seconds when /readyz first saw that the database is away; None = it is there."""
        self._following: list[asyncio.Task[None]] = []
        self._stale: list[Providers] = []

    async def __aenter__(self) -> Service:
        workspace = self.workspace
        self._file = config_file(workspace.folder)
        self._filled = _length(self._file) > 0
        self.settings = self._placed(workspace.settings)
        database = workspace.store.database
        self.books = Books(
            database,
            workspace.path / "journal",
            self.settings.ledger,
            SystemClock(),
            currency=self.settings.money.currency,
        )
        self.sessions = Sessions(database)
        self.keyring = Keyring(
            workspace.accounts,
            wall=time.time,
            sessions=self.sessions.all,
            relimited=self.books.doubt,
            forgot=self.forgot,
        )
        self.pools = Pools(self.settings.serve)
        self.responses = Responses(database)
        self.batches = Batches(database)
        self.completions = StoredCompletions(database)
        self.evaluations = Evaluations(database)
        self.eval_runs = EvalRuns(database)
        self.on_evaluation: Callable[[], None] = lambda: None
        """Called when there is a new run of an evaluation."""
        self.files = Files(database, workspace.path / "files", most_bytes=_room(self.settings))
        self.uploads = Uploads(database, self.files)
        self.on_batch: Callable[[], None] = lambda: None
        """Called when there is a new batch, or one is to be cancelled."""
        self.tuning = fine_tuning(
            workspace, self.files, self.tunable, lambda: self.settings, lambda: self.adapted.refresh()
        )
        self.tuning.apart = partial(apart, workspace)
        self.on_order: Callable[[], None] = lambda: None
        """Called when there is a new tuning job."""
        self.on_wish: Callable[[], None] = lambda: None
        """Called when one is to be paused, to go on, or to end."""
        self.comparisons = CompareQueue(workspace)
        self.on_comparison: Callable[[], None] = lambda: None
        """Called when there is a new comparison, or one is to stop."""
        self.draining = asyncio.Event()
        """Set when this process stops: streams that never end by themselves end then."""
        self._secret = workspace_secret(database)
        self._providers: Providers = self._fresh_providers(self.settings)
        self.adapted = Adapted(Adapters(database), lambda: self.catalogue, Releases(database))
        self.catalogue = self._catalogued(self.settings)
        self.adapted.changed = self._forget_gone
        self.adapted.refresh()
        self.parts = assembled(self.settings, self._outside())
        self.gateway = Gateway(self.parts)
        await self.books.start()
        self._following = [
            asyncio.create_task(self._warm(), name="baimo-warm"),
            asyncio.create_task(self.keyring.watch(), name="baimo-keys"),
            asyncio.create_task(self.adapted.watch(), name="baimo-adapters"),
            asyncio.create_task(self._follow_settings(), name="baimo-settings"),
            asyncio.create_task(self._keep_house(), name="baimo-house"),
        ]
        for task in self._following:
            task.add_done_callback(told_if_broken)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gateway.stopping = True
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        for providers in (*self._stale, self._providers):
            await providers.__aexit__(None, None, None)
        await self.pools.aclose()
        await self.books.stop()
        self.workspace.close()

    def adopt(self, settings: Settings) -> None:
        """Go on under other settings; calls in flight end under the old ones. What is `FIXED` stays as it was.

        Raises:
            BaimoError: they cannot be used; nothing has changed.
        """
        settings, waiting = held(self.workspace.settings, settings)
        placed = self._placed(settings)
        before = self.settings, self.catalogue, self._providers
        self.settings, self.catalogue = placed, self._catalogued(placed)
        if placed.providers != before[0].providers:
            self._providers = self._fresh_providers(placed)
        try:
            parts = assembled(placed, self._outside())
            self.on_settings(placed.serve)
        except BaseException:
            self.settings, self.catalogue, self._providers = before
            raise
        if self._providers is not before[2]:
            self._stale.append(before[2])
        self.parts = parts
        self.adapted.refresh(anyway=True)  # their prices may have changed
        self.files.most_bytes = _room(placed)
        self.workspace.tuning.settings, self.tuning.queue.at_once = settings, settings.tune.jobs
        self.comparisons.at_once = settings.compare.jobs
        self.gateway.adopt(parts)
        self.pools.adopt(placed.serve)
        self.books.currency = placed.money.currency
        if waiting and waiting != self._waiting:
            log.warning(text("serve.settings_waiting", names=", ".join(waiting)))
        self._waiting = waiting

    def reread(self) -> None:
        """Go on under the settings as they are written now, in the file that was found first.

        Raises:
            BaimoError: they cannot be used, or the file is gone, empty, or being written; nothing has changed.
        """
        self._file = path = self._file or config_file(self.workspace.folder)
        before = state_of(path)
        if path is not None and before is None:
            raise ConfigError("serve.settings_gone", path=path)
        if self._filled and not _length(path):  # as it is when somebody begins to write
            raise ConfigError("serve.settings_empty", path=path)
        settings = self._read()
        if state_of(path) != before:
            raise ConfigError("serve.settings_unsettled", path=path)
        self.adopt(settings)
        self._filled = _length(path) > 0

    def origins(self) -> dict[str, Origin]:
        """Dotted setting → where it comes from, as it is written now.

        Raises:
            ConfigError: what is written now cannot be read.
        """
        return origins(self.workspace.folder)

    def usable(self, vendor: str) -> bool:
        """Whether a vendor can be called from here: its address and key are known."""
        return self.parts.usable(vendor)

    def offered(self, key: Key) -> tuple[list[Model], dict[str, list[Model]]]:
        """The models that a key may ask for, and the routes with the models behind them."""
        models: list[Model] = []
        routes: dict[str, list[Model]] = {}
        for name, node in self.parts.router.offered(key):
            if isinstance(node, Model):
                models.append(node)
            else:
                routes[name] = list(models_of(node))
        return models, routes

    def tunable(self, name: str | None, key: Key) -> list[Model]:
        """The models of this machine that a name stands for; of None, all that a key may ask for."""
        models = self.parts.router.behind(name, key) if name is not None else self.offered(key)[0]
        return [model for model in models if self.counts(model)]

    def provider(self, vendor: str) -> Provider:
        """The way to a vendor's models."""
        return self._providers.provider(vendor)

    def counts(self, model: Model) -> bool:
        """Whether its tokenizer is here."""
        return model.vendor in self._elsewhere or self.catalogue.vendor(model.vendor).protocol == "local"

    async def count_tokens(self, model: Model, request: Request, body: bytes) -> int:
        """Prompt tokens of a request to a model that `counts`, which is loaded for it.

        Args:
            model: its tokenizer and chat template count.
            request: what is to be counted.
            body: the same as Anthropic's API has it.

        Raises:
            ProviderError: it cannot be loaded.
        """
        if model.vendor in self._elsewhere:
            return await elsewhere_counted(self.pools, self._elsewhere[model.vendor], model, body)
        from baimo.providers.local import LocalProvider

        provider = self.provider(model.vendor)
        assert isinstance(provider, LocalProvider)
        return await provider.count_tokens(request)

    def _counted(self, model: Model, said: str) -> int | None:
        """Tokens of a text where the model is loaded in this process."""
        if model.vendor in self._elsewhere or self.catalogue.vendor(model.vendor).protocol != "local":
            return None
        from baimo.providers.local import LocalProvider

        provider = self.provider(model.vendor)
        with suppress(BaimoError):
            return provider.counted(model.upstream, said) if isinstance(provider, LocalProvider) else None
        return None

    def _outside(self) -> Outside:
        kinds = frozenset(self.settings.policy.pii_kinds) or None
        checked_masking(self.settings)
        if self.settings.policy.pii == "mask" or any(
            one.pii == "mask" for one in self.keyring.every_tenant()
        ):
            importlib.import_module("baimo.pii.mask")  # now, and not while the first call waits

        def masker() -> Masker:
            from baimo.pii.mask import Masker  # its tables are loaded where something is masked

            return Masker(kinds)

        return Outside(
            names=self.catalogue,
            books=self.books,
            pool=self.pools,
            provider=self.provider,
            secret=self._secret,
            masker=masker,
            count_tokens=self._counted,
            shelf=Cached(self.workspace.store.database),
            embeddings=self._embeddings,
            tuned=self.adapted.models,
            released=self.adapted.released,
            observer=self.observer,
        )

    def _placed(self, settings: Settings) -> Settings:
        there = {
            name: msgspec.structs.replace(
                place,
                concurrency=given.concurrency,
                requests_per_minute=given.requests_per_minute,
                tokens_per_minute=given.tokens_per_minute,
            )
            for name, place in self._elsewhere.items()
            for given in [settings.providers.get(name, ProviderSettings())]
        }
        return msgspec.structs.replace(settings, providers=settings.providers | there)

    def _fresh_providers(self, settings: Settings) -> Providers:
        catalogue = self._catalogued(settings)
        # the gateway decides about a second attempt: it knows the deadline and what may have been executed
        return Providers(catalogue.vendor, settings.providers, self.workspace.weights, once=True)

    def _catalogued(self, settings: Settings) -> Catalogue:
        return Catalogue.load(settings, lambda name: self.adapted.models(OWNER).get(name))

    def forgot(self, tenant: str) -> None:
        """Answers and questions of a tenant, or of `EVERYBODY`, that were deleted leave memory, too."""
        whose = None if tenant == EVERYBODY else tenant
        self.parts.cache.clear(whose)
        if self.parts.semantic is not None:
            self.parts.semantic.clear(whose)

    def _forget_gone(self) -> None:
        """Free the memory of tuned models that are not served any more."""
        for made in self._providers.made():
            forget = getattr(made, "forget", None)  # of engines on this machine
            if forget is not None:
                forget(self.adapted.gone)

    async def _warm(self) -> None:
        """Load the model that answers by default, where it runs in this process."""
        vendor, _, upstream = self.settings.serve.default_model.partition("/")
        if upstream and self.catalogue.vendor(vendor).protocol == "local":
            from baimo.providers.local import LocalProvider

            try:
                provider = self.provider(vendor)
                assert isinstance(provider, LocalProvider)
                await provider.load(upstream)
            except BaimoError as error:
                log.warning(text("serve.not_warm", model=self.settings.serve.default_model, problem=error))

    async def _keep_house(self) -> None:
        """Bring the ledger's roll-ups up to date; delete what is too old, if no other process did so this hour."""
        accounts, database = self.workspace.accounts, self.workspace.store.database
        house = House(
            database,
            self.files,
            self.uploads,
            self.responses,
            accounts.tenants,
            self.batches.now_ms,
            self.workspace.path,
        )
        while True:
            try:
                while await asyncio.to_thread(rollups.count_some, database):
                    pass  # a little at a time: whoever stops the server does not wait for a million lines
            except BaimoError as error:
                log.warning(text("serve.not_counted", problem=error))
            await asyncio.sleep(HOUSE_S)
            try:
                if await asyncio.to_thread(due, house):
                    gone = await asyncio.to_thread(swept, house, self.settings)
                    if gone:
                        shown = ", ".join(f"{count} {kind}" for kind, count in gone.items())
                        log.info(text("serve.swept", what=shown))
            except (BaimoError, OSError) as error:
                log.warning(text("serve.not_swept", problem=error))

    async def _follow_settings(self) -> None:
        """Read the file again when it has changed and then stood still between two looks: it was written to its end."""
        seen = handled = state_of(self._file)
        while True:
            await asyncio.sleep(LOOK_S)
            before, seen = seen, state_of(self._file or config_file(self.workspace.folder))
            if seen != before or seen == handled:
                continue
            handled = seen
            try:
                self.reread()
            except BaimoError as error:
                log.error(text("serve.settings_refused", problem=error, hint=error.hint))
            else:
                log.info(text("serve.settings_adopted", path=self._file))


def held(before: Settings, after: Settings) -> tuple[Settings, list[str]]:
    """`after` with everything that is `FIXED` as it was before, and the names of what that concerns."""
    waiting: list[str] = []
    for section, names in FIXED.items():
        was, now = getattr(before, section), getattr(after, section)
        changed = {name: getattr(was, name) for name in names if getattr(was, name) != getattr(now, name)}
        if changed:
            waiting += [f"{section}.{name}" for name in changed]
            after = msgspec.structs.replace(after, **{section: msgspec.structs.replace(now, **changed)})
    return after, waiting


def _room(settings: Settings) -> int:
    return int(settings.serve.files_gib * 1024**3)


def checked_masking(settings: Settings) -> None:
    """Refuse kinds of personal data that nothing looks for.

    Raises:
        ConfigError: `policy.pii_kinds` names one.
    """
    if settings.policy.pii_kinds:
        from baimo.pii.find import KINDS

        for kind in settings.policy.pii_kinds:
            if kind not in KINDS:
                raise ConfigError("serve.pii_kind", kind=kind, known=", ".join(KINDS))


def state_of(path: Path | None) -> object:
    """What is different when the file is another or was written to; None = there is none."""
    with suppress(OSError):
        if path is not None:
            found = path.stat()
            return path.resolve(), found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
    return None


def _length(path: Path | None) -> int:
    with suppress(OSError):
        return 0 if path is None else path.stat().st_size
    return 0


def told_if_broken(task: asyncio.Task[None]) -> None:
    """A task that should never end goes into the log when it does."""
    if not task.cancelled() and task.exception() is not None:
        log.error(text("serve.task_ended", task=task.get_name()), exc_info=task.exception())
