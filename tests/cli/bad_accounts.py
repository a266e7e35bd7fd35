"""Kinds of bad input to the commands for keys, tenants and the ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.cli.bad_input import Bad, of, of_bytes
from tests.cli.runner import baimo


def after(*before: str, then: tuple[str, ...]) -> Callable[[Path], list[str]]:
    """The command `then`, run when the commands in `before` have been."""

    def arrange(_: Path) -> list[str]:
        for command in before:
            ended = baimo(*command.split())
            assert ended.code == 0, ended.err
        return list(then)

    return arrange


ACCOUNTS = {
    **{
        f"the limit {value}": Bad(
            arrange=of("keys", "create", "--limit", value), code=2, names=(value,), hints=hints
        )
        for value, hints in (
            ("cost20", ("cost=20/month",)),
            ("cost=20/year", ("month",)),
            ("requests=1.5/minute", ()),
            ("cost=0", ()),
            ("concurrency=3/day", ("concurrency=8",)),
        )
    },
    "two limits on one thing": Bad(
        arrange=of("keys", "create", "--limit", "cost=1/day", "--limit", "cost=2/day"),
        code=2,
        names=("cost=2/day",),
    ),
    "a surface that there is not": Bad(
        arrange=of("keys", "create", "--surface", "chta"),
        code=2,
        names=("surfaces", "chta"),
        hints=("chat", "embeddings", "messages"),
    ),
    "a role that there is not": Bad(
        arrange=of("keys", "create", "--role", "boss"), code=2, names=("--role", "boss", "admin")
    ),
    "a network that is none": Bad(
        arrange=of("keys", "create", "--network", "10.0.0"),
        code=2,
        names=("10.0.0",),
        hints=("10.0.0.0/8",),
    ),
    "a network that begins in the middle": Bad(
        arrange=of("keys", "create", "--network", "10.1.2.3/8"),
        code=2,
        names=("10.1.2.3/8",),
        hints=("10.0.0.0/8",),
    ),
    "a tag without a value": Bad(
        arrange=of("keys", "create", "--tag", "team"), code=2, names=("team",), hints=("=",)
    ),
    "an end that is no moment": Bad(
        arrange=of("keys", "create", "--expires", "soon"), code=2, names=("soon",), hints=("90d",)
    ),
    "an end that is past": Bad(
        arrange=of("keys", "create", "--expires", "2020-01-01"), code=2, names=("2020-01-01",)
    ),
    "a key for a tenant that there is not": Bad(
        arrange=of("keys", "create", "--tenant", "acme"), code=2, names=("acme",), hints=("tenants create",)
    ),
    "a key for a misspelt tenant": Bad(
        arrange=after("tenants create research", then=("keys", "create", "--tenant", "reserch")),
        code=2,
        names=("reserch",),
        hints=("research",),
    ),
    "a key laxer than its tenant": Bad(
        arrange=after(
            "tenants create acme --data-class confidential",
            then=("keys", "create", "--tenant", "acme", "--data-class", "public"),
        ),
        code=2,
        names=("acme", "public", "confidential"),
    ),
    "a key that there is not": Bad(
        arrange=of("keys", "revoke", "0123456789ab"), code=2, names=("0123456789ab",), hints=("keys list",)
    ),
    "a label that several keys have": Bad(
        arrange=after("keys create --label x", "keys create --label x", then=("keys", "show", "x")),
        code=2,
        names=("2", "x"),
    ),
    "a key that is revoked already": Bad(
        arrange=after("keys create --label x", "keys revoke x", then=("keys", "rotate", "x")),
        code=2,
        hints=("baimo keys create",),
    ),
    "a grace that is no distance": Bad(
        arrange=after("keys create --label x", then=("keys", "rotate", "x", "--grace", "long")),
        code=2,
        names=("long",),
        hints=("90d",),
    ),
    "a key without a name": Bad(arrange=of("keys", "change"), code=2, names=("KEY",), hints=("--help",)),
    "a thing that cannot be taken away": Bad(
        arrange=of("keys", "change", "x", "--clear", "limits"), code=2, names=("--clear", "limits", "limit")
    ),
    "a tenant's name with a capital": Bad(
        arrange=of("tenants", "create", "Acme"), code=2, names=("Acme",), hints=("research-2",)
    ),
    "a tenant that is there already": Bad(
        arrange=after("tenants create acme", then=("tenants", "create", "acme")),
        code=2,
        names=("acme",),
        hints=("tenants change acme",),
    ),
    "the owner as a new tenant": Bad(
        arrange=of("tenants", "create", "owner"), code=2, names=("owner",), hints=("tenants change owner",)
    ),
    "the owner disabled": Bad(
        arrange=of("tenants", "disable", "owner"), code=2, hints=("baimo keys list --tenant owner",)
    ),
    "contents for no days": Bad(
        arrange=of("tenants", "create", "acme", "--contents-days", "0"), code=2, names=("contents_days", "0")
    ),
    "an unknown tenant to show": Bad(arrange=of("tenants", "show", "acme"), code=2, names=("acme",)),
    "an unknown tenant to forget": Bad(
        arrange=of("tenants", "forget", "acme", "--yes"), code=2, names=("acme",)
    ),
    "a deletion that nobody confirms": Bad(
        arrange=after("tenants create acme", then=("tenants", "forget", "acme")),
        code=2,
        names=("acme",),
        hints=("--yes",),
    ),
}

ROW = "2026-11-06,Claude Haiku 4.5,Default,k,message,x,output,lots,,token,,\n"
HEAD = (
    "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,"
    "cost_type,inference_geo,speed\n"
)

LEDGER = {
    "a Record that there is not": Bad(
        arrange=of("ledger", "show", "rec_x"), code=2, names=("rec_x",), hints=("baimo ledger show",)
    ),
    "a group that there is not": Bad(
        arrange=of("ledger", "sum", "--by", "modl"), code=2, names=("modl",), hints=("model", "tag:NAME")
    ),
    "a time that is none": Bad(
        arrange=of("ledger", "sum", "--since", "lately"), code=2, names=("lately",), hints=("90d",)
    ),
    "Records of an unknown tenant": Bad(
        arrange=of("ledger", "show", "--tenant", "acme"), code=2, names=("acme",)
    ),
    "Records of an unknown key": Bad(
        arrange=of("ledger", "show", "--key", "nobody"), code=2, names=("nobody",)
    ),
    "a tag to filter by without a value": Bad(
        arrange=of("ledger", "show", "--tag", "team"), code=2, names=("team",)
    ),
    "a form that there is not": Bad(
        arrange=of("ledger", "export", "--format", "xlsx"), code=2, names=("--format", "xlsx", "csv")
    ),
    "Parquet on standard output": Bad(
        arrange=of("ledger", "export", "--format", "parquet"), code=2, hints=("--output",)
    ),
    "an export where nothing can be written": Bad(
        arrange=of("ledger", "export", "--output", "/proc/no/ledger.csv"),
        code=2,
        names=("/proc/no/ledger.csv",),
    ),
    "an anchor that is none": Bad(
        arrange=of("ledger", "verify", "--anchor", "12:abc"), code=2, names=("12:abc",), hints=("64",)
    ),
    "nothing said of what is old": Bad(
        arrange=of("ledger", "prune", "--yes"), code=2, hints=("--before 365d", "ledger.records_days")
    ),
    "pruning that nobody confirms": Bad(
        arrange=of("ledger", "prune", "--before", "2020-01-01"),
        code=2,
        names=("2020-01-01",),
        hints=("--yes",),
    ),
    "nothing said of what is to be forgotten": Bad(
        arrange=of("ledger", "forget", "--yes"), code=2, hints=("--tenant", "--before", "--record")
    ),
    "forgetting that nobody confirms": Bad(
        arrange=of("ledger", "forget", "--before", "2020-01-01"),
        code=2,
        names=("2020-01-01T00:00:00Z",),
        hints=("--yes",),
    ),
    "a statement that is not there": Bad(
        arrange=of("ledger", "reconcile", "gone.csv"), code=2, names=("gone.csv",)
    ),
    "no statement": Bad(arrange=of("ledger", "reconcile"), code=2, names=("FILE",), hints=("--help",)),
    "a statement of another kind": Bad(
        arrange=of_bytes("x.csv", b"a,b\n1,2\n", "ledger", "reconcile", "x.csv"),
        code=2,
        names=("x.csv:1", "a, b"),
        hints=("openai-usage-json",),
    ),
    "a statement with a cell that is no number": Bad(
        arrange=of_bytes("x.csv", (HEAD + ROW).encode(), "ledger", "reconcile", "x.csv"),
        code=2,
        names=("x.csv:2", "cost_usd", "lots"),
    ),
    "a statement in another encoding": Bad(
        arrange=of_bytes("x.csv", HEAD.encode() + "研究\n".encode("gbk"), "ledger", "reconcile", "x.csv"),
        code=2,
        names=("x.csv:2",),
    ),
    "a tolerance that is none": Bad(
        arrange=of("ledger", "reconcile", "x.csv", "--tolerance", "-1"), code=2, names=("--tolerance -1",)
    ),
}
