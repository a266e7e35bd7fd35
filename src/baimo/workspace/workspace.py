"""`Workspace`: one thin method per verb. Nothing heavy is imported before the verb that needs it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from baimo.config import settings
from baimo.core.model import Model
from baimo.core.run import Run
from baimo.core.task import Task
from baimo.core.tuning import TuneJob
from baimo.core.verdict import Forecast, Verdict
from baimo.errors import TaskError, UsageError
from baimo.models.catalogue import TUNED, Catalogue
from baimo.models.pull import Pulled, located, models_folder, pull
from baimo.providers.pool import Providers
from baimo.providers.weights import Weights
from baimo.settings import Settings
from baimo.store.engine import Database
from baimo.store.store import Store
from baimo.typed import from_json
from baimo.workspace.bridge import bridged

if TYPE_CHECKING:
    from baimo.evals.compare import Watcher
    from baimo.evals.options import CompareOptions
    from baimo.evals.report.report import Report
    from baimo.models.probe import Findings
    from baimo.store.accounts import Accounts
    from baimo.tuning.options import TuneOptions
    from baimo.workspace.accounting import Accounting
    from baimo.workspace.adapting import Adapting
    from baimo.workspace.bookkeeping import Bookkeeping
    from baimo.workspace.comparing import Comparing
    from baimo.workspace.evaluating import Evaluating
    from baimo.workspace.releasing import Releasing
    from baimo.workspace.reviewing import Reviewing
    from baimo.workspace.task_keeping import TaskKeeping
    from baimo.workspace.tuning import Tuning
    from baimo.workspace.tuning import Watcher as TuneWatcher


class Workspace:
    """Everything that belongs to one company's work: settings, memory, models. Use it as a context manager."""

    def __init__(
        self,
        folder: str | Path = ".",
        *,
        flags: Mapping[str, Any] | None = None,
        given: Settings | None = None,
    ) -> None:
        """Open the workspace of `folder`.

        Args:
            folder: where baimo.toml is looked for and relative paths start.
            flags: dotted setting → value, stronger than file and environment.
            given: settings to use instead of reading any.

        Raises:
            ConfigError: the settings cannot be used.
        """
        self.folder = Path(folder)
        self.settings = given or settings(self.folder, flags=flags)
        self.path = self.folder / self.settings.workspace.path

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what was opened; it is opened again when it is needed."""
        if "store" in self.__dict__:
            self.store.close()
            for name in (
                "store",
                "accounts",
                "accounting",
                "bookkeeping",
                "tuning",
                "adapting",
                "evaluating",
                "tasks",
                "reviewing",
                "releasing",
            ):
                self.__dict__.pop(name, None)

    @cached_property
    def store(self) -> Store:
        """The workspace's memory; opened when first needed.

        Raises:
            StoreError: it cannot be opened.
        """
        return Store(Database(self.settings.workspace.database or str(self.path / "baimo.db")))

    @cached_property
    def accounts(self) -> Accounts:
        """Tenants and keys.

        Raises:
            StoreError: they cannot be read.
        """
        from baimo.store.accounts import Accounts

        return Accounts(self.store.database)

    @cached_property
    def accounting(self) -> Accounting:
        """Tenants and keys as people ask for them."""
        from baimo.workspace.accounting import Accounting

        return Accounting(self)

    @cached_property
    def bookkeeping(self) -> Bookkeeping:
        """The ledger as people ask for it."""
        from baimo.workspace.bookkeeping import Bookkeeping

        return Bookkeeping(self)

    @cached_property
    def tasks(self) -> TaskKeeping:
        """Tasks as people look after them."""
        from baimo.workspace.task_keeping import TaskKeeping

        return TaskKeeping(self)

    @cached_property
    def reviewing(self) -> Reviewing:
        """Answers that experts judge."""
        from baimo.workspace.reviewing import Reviewing

        return Reviewing(self)

    @cached_property
    def catalogue(self) -> Catalogue:
        """Vendors and models under these settings; the owner's tuned models too."""
        return Catalogue.load(self.settings, self._tuned)

    def _tuned(self, name: str) -> Model | None:
        from baimo.workspace.adapted import owners_model  # reads the store

        return owners_model(name, self.adapting.adapters, self.catalogue)

    # compare

    def compare(
        self,
        options: CompareOptions,
        watcher: Watcher | None = None,
        on_start: Callable[[Callable[[], object]], None] | None = None,
    ) -> Verdict:
        """Find out which candidate does a task best; blocks until there is a verdict.

        Args:
            options: what to compare and how surely.
            watcher: told about forecast and progress.
            on_start: given a function that stops the comparison early; it may be called from a signal handler.

        Raises:
            TaskError, TemplateError: the task cannot be used.
            UnknownModel, ConfigError: a candidate's model or provider cannot be used.
            ProviderError: no candidate could answer.
            StoreError: the workspace cannot be written.
        """
        return bridged(self._comparing.compare(options, watcher, on_start))

    def forecast(self, options: CompareOptions, watcher: Watcher | None = None) -> Forecast:
        """What `compare` would take, without a call."""

        return bridged(self._comparing.forecast(options, watcher))

    # tune

    def tune(
        self, options: TuneOptions, watcher: TuneWatcher, halted: Callable[[], bool] = lambda: False
    ) -> TuneJob | None:
        """Adapt a model to data on this machine; blocks until the job has ended or is paused.

        Args:
            options: what is learnt, by which model, how.
            watcher: told of plan and forecast, which it may refuse, and of what happens.
            halted: asked again and again whether the job is to pause.

        Returns:
            The job; None when only the forecast was wanted, or the watcher refused.

        Raises:
            TaskError, DataError: the rows cannot be used.
            UnknownModel, ConfigError: base or settings cannot be used, or the job does not fit.
            StoreError: the workspace cannot be written.
        """
        return self.tuning.tune(options, watcher, halted)

    @cached_property
    def tuning(self) -> Tuning:
        """Tuning jobs as people ask for them."""
        from baimo.workspace.tuning import Tuning

        return Tuning(self)

    @cached_property
    def adapting(self) -> Adapting:
        """Adapters as people and jobs ask for them."""
        from baimo.workspace.adapting import Adapting

        return Adapting(self)

    @cached_property
    def releasing(self) -> Releasing:
        """Releases of aliases as people ask for them."""
        from baimo.workspace.releasing import Releasing

        return Releasing(self)

    @cached_property
    def evaluating(self) -> Evaluating:
        """Evaluations of the evals API as tasks with a verdict."""
        from baimo.workspace.evaluating import Evaluating

        return Evaluating(self)

    # what was decided before

    def run(self, id: str) -> Run:
        """A run by its id, or the newest one for `last`.

        Raises:
            UsageError: there is none.
        """
        found = next(iter(self.store.runs(limit=1)), None) if id == "last" else self.store.run(id)
        if found is None:
            raise UsageError("compare.no_run", id=id, where=self.store.database.where)
        return found

    def task_of(self, run: Run) -> Task:
        """The task as it was when the run was made.

        Raises:
            TaskError: the workspace does not hold it.
        """
        data = self.store.blob(run.task_blob)
        if data is None:
            raise TaskError("compare.no_task", run=run.id)
        return from_json(data, Task)

    def report(self, id: str) -> Report:
        """Everything that a report of this run shows.

        Raises:
            UsageError: there is no such run, or it has no verdict yet.
        """
        return self._comparing.report(id)

    @cached_property
    def _comparing(self) -> Comparing:
        from baimo.workspace.comparing import Comparing

        return Comparing(self)

    # models

    def pull(self, name: str, progress: Callable[[int, int | None], None] | None = None) -> Pulled:
        """Fetch a model's weights: a model of the catalogue, or a source such as `hf:org/repo`.

        Raises:
            PullError, UnknownModel.
        """
        source = name if ":" in name else self.catalogue.model(name)
        return pull(source, self.models, progress=progress)

    def probe(self, name: str, checks: tuple[str, ...] = ()) -> Findings:
        """One tiny real call, and one per ability to check."""

        from baimo.models.probe import probe

        async def probed() -> Findings:
            model = self.catalogue.model(name)
            async with self.providers() as providers:
                return await probe(providers.provider(model.vendor), model, checks=checks)

        return bridged(probed())

    def providers(self) -> Providers:
        """Ways to reach models, for one event loop."""
        return Providers(self.catalogue.vendor, self.settings.providers, self.weights)

    @cached_property
    def models(self) -> Path:
        """The folder of pulled weights."""
        return models_folder(self.settings)

    def weights(self, upstream: str) -> Path | Weights:
        """What answers for a model that runs in this process, fetched or made if it is not here yet."""
        if upstream.startswith(TUNED):
            return self.adapting.weights(upstream)
        return self.pulled(self.catalogue.model(f"local/{upstream}"))

    def pulled(self, model: Model) -> Path:
        """The weights of a model that runs in this process, fetched if they are not here yet."""
        return located(model, self.models) or pull(model, self.models).path
