"""An endpoint that has been lived in: two tenants who know nothing of each other, and something on every page."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from baimo.core.call import Completion, Request, Usage
from baimo.core.rights import limit
from baimo.core.tenant import OWNER, ROLES
from baimo.core.tuning import JobStatus
from baimo.store.audit import Actor
from baimo.workspace.ledger_options import LedgerOptions
from baimo.workspace.releasing import Promotion
from tests.server.admin import compared, reviewed, talks, tasked
from tests.server.admin.jobs import tune_job, tuned_model
from tests.server.served import Served, served

TOML = """
[providers.acme]
protocol = "fake"
inside = true
[providers.acme.options]
function = "tests.console.lived:answer"
[models."acme/small"]
input_per_million = 1.0
output_per_million = 2.0
[models."acme/large"]
input_per_million = 5.0
output_per_million = 15.0
[models."acme/heavy"]
weights = "file:/nowhere/heavy.gguf"
[routes.fast]
models = ["acme/small"]
[routes.careful]
models = ["acme/large", "acme/small"]
strategy = "fallback"
"""
MARK = "cobalt"
"""In everything that belongs to the other tenant."""


def answer(request: Request) -> Completion:
    """Of every model."""
    usage = Usage(tokens_in=len(str(request.messages)) // 4, tokens_out=4)
    return Completion(text="It is noon.", usage=usage, finish_reason="stop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """What the other tenant has; none of it may be met elsewhere."""

    key: str
    """Public part."""
    record: str
    session: str
    """Public part."""
    run: str
    """Comparison."""

    @property
    def traces(self) -> tuple[str, ...]:
        """What would tell of it."""
        return (MARK, self.key, self.record, self.session, self.run)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Below /console: where it would be."""
        return (
            f"/keys/{self.key}",
            f"/keys/tenants/{MARK}",
            f"/usage/records/{self.record}",
            f"/usage?tenant={MARK}",
            f"/usage?key={self.key}",
            f"/usage/records?tenant={MARK}",
            f"/usage/records?key={self.key}",
            f"/usage/export?tenant={MARK}",
            f"/keys?tenant={MARK}",
            f"/compare/{self.run}",
            f"/compare/{self.run}/export",
            f"/compare/new?again={self.run}",
            f"/compare?tenant={MARK}",
            f"/tasks?tenant={MARK}",
            f"/tasks/+deleted?tenant={MARK}",
            f"/tasks/+export?tenant={MARK}",
            f"/tasks/{MARK}-task",
            f"/review/review_{MARK}",
            f"/review?tenant={MARK}",
            f"/review/+export?tenant={MARK}",
            f"/tasks/{MARK}-task/history?tenant={MARK}",
        )


class Lived:
    """The endpoint, a key for each role, and what the other tenant has."""

    def __init__(self, house: Served) -> None:
        self.house = house
        for name in ("red", MARK):
            house.tenant(name, title=f"{name} works", limits=(limit("cost=100/month"),), keep_contents=True)
        house.workspace.accounts.change_tenant(OWNER, {"keep_contents": True})
        self.keys = {
            (role, tenant): house.key(role=role, tenant=tenant, label=f"{tenant or 'our'} {role}")
            for role in ROLES
            for tenant in ("", "red")
        }
        """(role, tenant) → credential; the tenants are the workspace's own and `red`."""
        theirs = house.key(tenant=MARK, label=f"{MARK} label", tags=(("team", f"{MARK}-team"),), role="admin")
        self.other_key = theirs
        self._called(theirs)
        found = house.workspace.bookkeeping.page(LedgerOptions(tenant=MARK), limit=1)
        session = house.state["service"].sessions.begin(theirs[3:15], 3_600_000).session.public
        compared.idle(house)
        runs = {tenant: compared.compared(house, tenant) for tenant in ("", "red", MARK)}
        record = found[0].record.id
        self.other = Other(key=theirs[3:15], record=record, session=session, run=runs[MARK])
        self.things: dict[str, str] = {}
        """Further values of paths: name in braces → a thing of the tenant red."""
        self._tasked()
        self._tuned()
        self.record = house.workspace.bookkeeping.page(LedgerOptions(tenant="red"), limit=1)[0].record.id
        self._talked(theirs)

    def _talked(self, theirs: str) -> None:
        """Conversations and votes: of both administrators, and of the other tenant."""
        for key in (self.keys["admin", ""], self.keys["admin", "red"], theirs):
            said = f"the {MARK} talk" if key == theirs else "about noon"
            record = self.other.record if key == theirs else self.record
            talks.conversation(self.house, key, said)
            talks.vote(self.house, key, said=said, choice="A", record=record)

    def _tasked(self) -> None:
        """A task and a file under the same names for the workspace's own and red; the other tenant has its own."""
        for tenant in ("", "red"):
            tasked.task(self.house, tenant, "seen")
        upload = tasked.upload(self.house, "")
        home = self.house.workspace.tasks.tasks.home
        shutil.copytree(home().parent / "task-uploads", home("red").parent / "task-uploads")
        self.things |= {"task": "seen", "upload": upload, "example:path": "1", "version": "1"}
        tasked.task(self.house, MARK, f"{MARK}-task")
        for tenant in ("", "red", MARK):
            tasked.deleted(self.house, tenant, f"{tenant or 'our'}-gone")
        for tenant in ("", "red", MARK):
            reviewed.review(
                self.house, tenant, id=f"review_{tenant if tenant == MARK else 'seen'}", readers=9
            )
        self.things["review"] = "review_seen"

    def _tuned(self) -> None:
        """A tuning job, a tuned model and an alias that leads to it, for everybody."""
        for tenant in ("", "red", MARK):
            tune_job(self.house, JobStatus.SUCCEEDED, tenant)
            promotion = Promotion(alias=f"{tenant or 'our'}-home", model=tuned_model(self.house, tenant))
            self.house.workspace.releasing.promote(promotion, Actor(tenant))
        self.house.state["service"].adapted.refresh()

    def _called(self, theirs: str) -> None:
        writers = [self.keys["app", ""], self.keys["app", "red"], self.keys["engineer", "red"], theirs]
        for number, key in enumerate(writers):
            secret = f"the {MARK} question" if key == theirs else "What time is it?"
            assert self.house.chat(key, secret, "acme/large" if number % 2 else "fast").status == 200
        self.house.recorded(len(writers))

    def released(self, tenant: str, count: int) -> str:
        """A release of a tenant that holds."""
        promotion = Promotion(alias=f"held-{count}", model="acme/small")
        return self.house.workspace.releasing.promote(promotion, Actor(tenant)).id


@contextlib.contextmanager
def lived(folder: Path) -> Iterator[Lived]:
    """The endpoint until the end of the block."""
    with served(folder, TOML) as house:
        yield Lived(house)
