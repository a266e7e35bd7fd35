"""Tuning jobs of OpenAI's API, below HTTP: files in, jobs queued, files out; also after a server that died."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from baimo.core.ids import plain
from baimo.core.message import Message
from baimo.core.model import Model
from baimo.core.tenant import Key
from baimo.core.tuning import Adapter, JobStatus, Row, TuneJob, TuneProgress
from baimo.errors import BaimoError, CallRefused, DataError, LimitReached, MissingExtra
from baimo.store.adapters import Adapters
from baimo.store.engine import Database
from baimo.store.files import Files
from baimo.store.jobs import Jobs
from baimo.workspace.fine_tuning import LONG, MOST_WAITING, FineTuning
from baimo.workspace.fine_tuning_order import Order
from baimo.workspace.fine_tuning_personal import How, See, Seen, seen
from baimo.workspace.fine_tuning_results import results
from baimo.workspace.fine_tuning_wiring import fine_tuning
from baimo.workspace.queue import Queue
from baimo.workspace.validation import apart
from baimo.workspace.workspace import Workspace
from tests.waiting import PATIENCE_S

ROW = Row(messages=(Message(role="user", content="Hi"), Message(role="assistant", content="Hello")))
BASE = Model(name="local/tiny", vendor="local", upstream="tiny")


class House:
    """A workspace's files and jobs."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(str(folder / "baimo.db"))
        self.files = Files(self.database, folder / "files")
        self.adapters = Adapters(self.database)
        self.read: list[tuple[str, str]] = []
        self.problem: DataError | None = None
        self.rows = [ROW, ROW]
        self.reading = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.tuning = self.started(folder)

    def started(self, folder: Path, see: See = Seen) -> FineTuning:
        """What a process that begins now works with."""
        queue = Queue(jobs=Jobs(self.database), folder=folder / "tuning")
        return FineTuning(
            queue,
            self.files,
            self.adapters,
            tunable=self._tunable,
            read=self._read,
            remove=lambda one: self.adapters.delete(one.tenant, one.id),
            see=see,
        )

    def _tunable(self, name: str | None, key: Key) -> Sequence[Model]:
        return [BASE] if name in (None, "local/tiny", "alias") else []

    def _read(self, path: Path, method: str, param: str, file: str) -> Sequence[Row]:
        self.read.append((param, path.read_text()))
        self.reading.set()
        assert self.go_on.wait(PATIENCE_S)
        if self.problem is not None:
            raise self.problem
        return self.rows

    def file(self, data: bytes = b"{}\n", purpose: str = "fine-tune", tenant: str = "") -> str:
        incoming = self.files.incoming(tenant, 1000)
        incoming.write(data)
        return self.files.keep(
            incoming, tenant=tenant, key="k", name="n", purpose=purpose, lives_s=None
        ).id  # fmt: skip

    def long_file(self) -> str:
        incoming = self.files.incoming("", LONG + 1)
        incoming.write(b" " * (LONG + 1))
        return self.files.keep(incoming, tenant="", key="k", name="n", purpose="fine-tune", lives_s=None).id

    def order(self, tenant: str = "", key: Key = Key(), **facts: object) -> TuneJob:
        given = {"model": "local/tiny", "training_file": self.file(tenant=tenant), **facts}
        return self.tuning.order(Order(**given, asked=given), key, tenant)  # type: ignore[arg-type]

    def now(self, job: TuneJob) -> TuneJob:
        found = self.tuning.jobs.get(job.spec.tenant, job.spec.id)
        assert found is not None
        return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.go_on.set()
    made.database.close()


def test_files_become_rows_in_the_folder_of_a_queued_job(house: House) -> None:
    job = house.order(validation_file=house.file(b"valid"), suffix="s", seed=5, effort="medium")
    assert house.now(job).status is JobStatus.VALIDATING and house.tuning.validate() == 1
    now, folder = house.now(job), house.tuning.queue.at(job.spec.id)
    assert now.status is JobStatus.QUEUED and folder.spec() == now.spec
    assert [row.hash for row in folder.train()] == [ROW.hash] * 2 == [row.hash for row in folder.valid()]
    assert house.read == [("training_file", "{}\n"), ("validation_file", "valid")]
    assert (now.spec.seed, now.spec.suffix, now.spec.effort, now.spec.base) == (
        5,
        "s",
        "medium",
        "local/tiny",
    )
    assert now.spec.data_hash and house.tuning.validate() == 0


def test_a_seed_is_drawn_where_none_is_given_and_the_job_shows_it(house: House) -> None:
    seeds = {house.order().spec.seed for _ in range(3)}
    assert len(seeds) == 3 and all(0 <= seed < 2**31 for seed in seeds)


def test_what_a_dead_process_left_half_validated_is_validated_by_the_next(
    house: House, tmp_path: Path
) -> None:
    job = house.order()
    house.go_on.clear()
    first = threading.Thread(target=house.tuning.validate)
    first.start()
    assert house.reading.wait(PATIENCE_S)
    other = house.started(tmp_path)
    assert other.validate() == 0, "somebody is at it"
    house.go_on.set()
    first.join(PATIENCE_S)
    assert house.now(job).status is JobStatus.QUEUED
    left = house.order()  # a server that died before it looked: nothing holds this job
    assert other.validate() == 1 and house.now(left).status is JobStatus.QUEUED


def test_a_job_that_is_cancelled_while_its_files_are_read_stays_cancelled(house: House) -> None:
    job = house.order()
    house.go_on.clear()
    reading = threading.Thread(target=house.tuning.validate)
    reading.start()
    assert house.reading.wait(PATIENCE_S)
    house.tuning.queue.cancel("", job.spec.id)
    house.go_on.set()
    reading.join(PATIENCE_S)
    assert house.now(job).status is JobStatus.CANCELLED


def test_a_file_is_in_use_until_its_job_has_a_copy(house: House) -> None:
    job = house.order()
    file = str(job.asked["training_file"])
    assert house.tuning.using("", file) == job.spec.id and house.tuning.using("other", file) is None
    house.tuning.validate()
    assert house.tuning.using("", file) is None


def test_a_problem_of_a_file_ends_the_job_with_its_code(house: House) -> None:
    house.problem = DataError("finetuning.invalid_file", message="Example 1 …", code="invalid_n_examples")
    job = house.order()
    house.tuning.validate()
    wanted = {"code": "invalid_n_examples", "message": "Example 1 …", "param": "training_file"}
    assert (house.now(job).status, house.now(job).error) == (JobStatus.FAILED, wanted)


def test_a_file_that_was_deleted_meanwhile_ends_the_job(house: House) -> None:
    job = house.order()
    house.files.delete("", str(job.asked["training_file"]))
    house.tuning.validate()
    error = house.now(job).error
    assert error is not None and (error["code"], error["param"]) == ("invalid_training_file", "training_file")


def test_what_this_machine_cannot_do_is_refused_before_there_is_a_job(house: House) -> None:
    def unable(recipe: str) -> None:
        raise MissingExtra("core.missing_extra", module="torch", extra="tune", purpose=recipe)

    house.tuning.able = unable
    with pytest.raises(MissingExtra):
        house.order()
    for wrong in ({"recipe": "magic"}, {"model": "far/away"}, {"training_file": house.file(purpose="batch")}):
        with pytest.raises(CallRefused):
            house.order(**wrong)
    assert house.tuning.jobs.page(None, limit=9) == []


def test_one_tenant_cannot_fill_the_queue(house: House) -> None:
    file = house.file(tenant="a")
    for _ in range(MOST_WAITING):
        house.order(tenant="a", training_file=file)
    with pytest.raises(LimitReached):
        house.order(tenant="a", training_file=file)
    house.order(tenant="b")


def test_a_model_of_ones_own_can_be_a_base_and_of_anybody_else_not(house: House) -> None:
    facts = {"base": "local/tiny", "base_hash": "", "folder": "", "created_ms": 0, "status": "ready"}
    house.adapters.put(Adapter(id="ad_1", name="ft:tiny:o::1", tenant="a", **facts))  # type: ignore[arg-type]
    assert house.order(tenant="a", model="ft:tiny:o::1").spec.base == "ft:tiny:o::1"
    narrow = Key(models=("ft:other*",))
    for tenant, key in (("b", Key()), ("a", narrow)):
        with pytest.raises(CallRefused):
            house.order(tenant=tenant, key=key, model="ft:tiny:o::1")
    assert house.tuning.forget("b", "ft:tiny:o::1") is False
    assert house.tuning.forget("a", "ft:tiny:o::1") is True
    with pytest.raises(CallRefused):
        house.order(tenant="a", model="ft:tiny:o::1")


def test_an_alias_is_permitted_by_its_own_name_or_by_its_models(house: House) -> None:
    for models in (("alias",), ("local/*",), ()):
        assert house.order(model="alias", key=Key(models=models)).spec.base == "local/tiny"
    with pytest.raises(CallRefused):
        house.order(model="alias", key=Key(models=("else",)))


def progress(step: int, **figures: float) -> dict[str, object]:
    told = TuneProgress(step=step, steps=3, epoch=1.0, loss=figures.pop("loss", 1.0), **figures)  # type: ignore[arg-type]
    return {"kind": "progress", "progress": plain(told)}


def test_a_step_that_was_told_again_after_a_kill_stands_once(house: House) -> None:
    events = [
        progress(1, loss=2.0, accuracy=0.25),
        progress(2, loss=1.5),
        {"kind": "started"},
        progress(2, loss=1.25, valid_loss=1.75, valid_accuracy=0.5),
        {"kind": "progress", "progress": {"step": 3, "loss": None}},
    ]
    assert results(events) == (
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n"
        "1,2.00000,0.25000,,\n"
        "2,1.25000,,1.75000,0.50000\n"
        "3,,,,\n"
    )


def test_results_are_kept_once_however_often_a_job_is_adopted(house: House) -> None:
    job = house.order()
    house.tuning.validate()
    folder = house.tuning.queue.at(job.spec.id)
    folder.tell("progress", progress=TuneProgress(step=1, steps=1, epoch=1.0, loss=0.5))
    made = house.tuning.results(replace(job, model="ft:tiny:o::1"))
    (id,) = made.files
    path = house.files.path("", id)
    path.with_name(f"{id}.part").write_bytes(b"half")  # of a process that died
    assert house.tuning.results(made).files == (id,)
    file = house.files.get("", id)
    assert file is not None and file.bytes == path.stat().st_size and file.purpose == "fine-tune-results"
    assert base64.b64decode(path.read_bytes()).decode().splitlines()[1] == "1,0.50000,,,"


@pytest.mark.parametrize("how", ["report", "mask", "refuse"])
def test_personal_data_is_told_masked_or_refused_as_the_settings_say(house: House, how: How) -> None:
    said = Message(role="user", content="Write to anna.schmidt@example.com")
    personal = replace(ROW, messages=(said, ROW.messages[1]), line=3)
    house.rows = [ROW, personal]
    house.tuning = house.started(house.files.folder.parent, see=lambda rows: seen(rows, how))
    job = house.order()
    house.tuning.validate()
    now, events = house.now(job), {one.kind: one for one in house.tuning.jobs.events(job.spec.id, limit=9)}
    if how == "refuse":
        assert now.error is not None and "Line 3" in now.error["message"]
        assert (now.status, now.error["code"]) == (JobStatus.FAILED, "invalid_training_file")
        return
    rows = house.tuning.queue.at(job.spec.id).train()
    assert rows[0].messages == ROW.messages
    assert ("anna.schmidt@example.com" in str(rows[1].messages[0].content)) == (how == "report")
    assert [line["step"] for line in now.spec.cleaned] == (["mask_pii"] if how == "mask" else [])
    assert ("personal_data_masked" if how == "mask" else "personal_data") in events


def test_long_files_are_read_by_another_process_and_short_ones_here(house: House) -> None:
    called: list[str] = []
    house.tuning.apart = lambda: called.append("apart")
    short, long = house.order(), house.order(training_file=house.long_file())
    assert house.tuning.validate() == 2 and called == ["apart"]
    assert house.now(short).status is JobStatus.QUEUED
    assert house.now(long).status is JobStatus.VALIDATING, "the other process does it"


def test_a_job_over_which_that_process_dies_has_failed_and_is_not_tried_for_ever(house: House) -> None:
    def dies() -> None:
        raise BaimoError("finetuning.validation_died", problem="MemoryError")

    house.tuning.apart = dies
    job = house.order(training_file=house.long_file())
    house.tuning.validate()
    error = house.now(job).error
    assert error is not None and error["code"] == "server_error" and "MemoryError" in error["message"]
    assert house.tuning.validate() == 0


@pytest.mark.slow
def test_another_process_validates_what_waits(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    with Workspace(tmp_path) as workspace:
        database = workspace.store.database
        files = Files(database, workspace.path / "files")
        tuning = fine_tuning(
            workspace, files, lambda name, key: [BASE], lambda: workspace.settings, lambda: None
        )
        tuning.able = lambda recipe: None
        incoming = files.incoming("", 10_000)
        incoming.write(f"{json.dumps(row)}\n".encode() * 12)
        file = files.keep(incoming, tenant="", key="k", name="n", purpose="fine-tune", lives_s=None)
        order = Order(model="local/tiny", training_file=file.id, asked={"training_file": file.id})
        job = tuning.order(order, Key(), "")
        apart(workspace)
        now = tuning.jobs.get("", job.spec.id)
        assert now is not None and now.status is JobStatus.QUEUED
        assert len(tuning.queue.at(job.spec.id).train()) == 12
