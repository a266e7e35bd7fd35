"""Keys and tenants from the command line, in both languages."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from baimo.core.credential import presented
from tests.cli.bad_accounts import ACCOUNTS
from tests.cli.runner import baimo, has_chinese
from tests.cli.test_bad_input import check


@pytest.mark.parametrize("name", ACCOUNTS)
def test_a_wrong_right_is_told_with_what_and_what_next(name: str, lang: str, folder: Path) -> None:
    bad = ACCOUNTS[name]
    check(baimo(*bad.arrange(folder)), lang, bad.code, bad.names, bad.hints)


def test_a_key_is_printed_once_and_alone_on_stdout(folder: Path, lang: str) -> None:
    ended = baimo("keys", "create", "--label", "search")
    assert ended.code == 0
    credential = presented(ended.out)
    assert credential is not None
    assert has_chinese(ended.err) == (lang == "zh")
    later = baimo("keys", "show", "search").all + baimo("keys", "list", "--all", "--json").all
    assert credential.public in later
    assert credential.secret not in later + ended.err
    for path in (folder / ".baimo").rglob("*"):
        assert not path.is_file() or credential.secret.encode() not in path.read_bytes()


def test_rights_and_limits_are_kept_as_they_were_said(folder: Path) -> None:
    rights = "--role engineer --model deepseek/* --surface chat --surface messages --network 10.0.0.0/8"
    limits = (
        "--limit cost=20/month --limit requests=60/minute --limit tokens=100000/day --limit concurrency=8"
    )
    made = baimo("keys", "create", *rights.split(), *limits.split(), "--tag", "team=a", "--json").data
    assert presented(made.pop("credential")) is not None
    shown = baimo("keys", "show", made["key"]).data
    assert set(shown.pop("spent")) == set(made["limits"])
    assert shown == made
    assert shown["limits"] == ["cost=20/month", "requests=60/minute", "tokens=100000/day", "concurrency=8"]
    assert (shown["models"], shown["surfaces"]) == (["deepseek/*"], ["chat", "messages"])
    assert (shown["networks"], shown["tags"]) == (["10.0.0.0/8"], {"team": "a"})
    assert (shown["role"], shown["tenant"], shown["standing"]) == ("engineer", "owner", "valid")


def test_a_key_and_its_tenant_are_shown_with_what_is_used_of_their_limits(folder: Path) -> None:
    baimo("tenants", "create", "acme", "--limit", "tokens=1000")
    key = baimo("keys", "create", "--tenant", "acme", "--limit", "cost=20", "--json").data["key"]
    with closing(sqlite3.connect(folder / ".baimo" / "baimo.db")) as database, database:
        database.execute("INSERT INTO meters (bucket, used) VALUES (?, 3250000)", (f"key:{key}:cost:total:",))
        database.execute("INSERT INTO meters (bucket, used) VALUES ('tenant:acme:tokens:total:', 7)")
        for holder in ("a", "b"):
            row = (f"key:{key}:cost:total:", holder, 250_000)
            database.execute("INSERT INTO leases (bucket, holder, amount) VALUES (?, ?, ?)", row)
    shown = baimo("keys", "show", key).data["spent"]
    assert shown == {"cost=20": {"used": "3.25", "held": "0.5", "until": None}}
    shown = baimo("tenants", "show", "acme").data["spent"]
    assert shown == {"tokens=1000": {"used": "7", "held": "0", "until": None}}
    after = baimo("keys", "rotate", key, "--json").data["key"]
    assert baimo("keys", "show", after).data["spent"]["cost=20"]["used"] == "3.25"  # no new budget


def test_a_change_replaces_what_is_said_and_clears_what_is_named(folder: Path, lang: str) -> None:
    baimo("keys", "create", "--label", "x", "--limit", "cost=1/day", "--surface", "chat", "--expires", "9d")
    ended = baimo("keys", "change", "x", "--limit", "cost=2/day", "--clear", "expires", "--clear", "surface")
    assert (ended.code, ended.out) == (0, "")
    assert has_chinese(ended.err) == (lang == "zh")
    shown = baimo("keys", "show", "x").data
    assert (shown["limits"], shown["surfaces"], shown["expires"]) == (["cost=2/day"], [], None)
    assert baimo("keys", "change", "x", "--clear", "limit", "--json").data["limits"] == []


def test_a_name_that_fits_no_model_is_kept_and_noted(folder: Path, lang: str) -> None:
    ended = baimo("keys", "create", "--model", "deepseek/*", "--model", "fast-one")
    assert ended.code == 0
    assert "fast-one" in ended.err
    assert "deepseek" not in ended.err


def test_revoking_a_key_names_the_one_before_it_that_is_still_valid(folder: Path) -> None:
    old = presented(baimo("keys", "create", "--label", "x").out)
    assert old is not None
    baimo("keys", "rotate", "x", "--grace", "2h")
    assert f"baimo keys revoke {old.public}" in baimo("keys", "revoke", "x").err
    assert "valid" not in baimo("keys", "revoke", old.public).err


def test_a_rotated_key_is_listed_with_its_successor_until_it_ends(folder: Path, lang: str) -> None:
    old = presented(baimo("keys", "create", "--label", "x").out)
    rotated = baimo("keys", "rotate", "x", "--grace", "2h")
    new = presented(rotated.out)
    assert old is not None and new is not None
    assert old.public in rotated.err
    rows = [line.split("\t") for line in baimo("keys", "list").out.splitlines()]
    assert {row[0]: row[3] for row in rows} == {old.public: "replaced", new.public: "valid"}
    assert baimo("keys", "show", "x").data["key"] == new.public  # the label names the one that stays
    assert baimo("keys", "rotate", "x", "--grace", "0m").code == 0
    shown = {row["key"]: row["standing"] for row in baimo("keys", "list", "--all", "--json").data}
    assert shown[new.public] == "expired"
    assert new.public not in baimo("keys", "list").out


def test_a_revoked_key_is_shown_only_when_all_are_asked_for(folder: Path, lang: str) -> None:
    baimo("keys", "create", "--label", "x")
    assert has_chinese(baimo("keys", "revoke", "x").err) == (lang == "zh")
    listed = baimo("keys", "list")
    assert (listed.code, listed.out) == (0, "")
    assert has_chinese(listed.err) == (lang == "zh")
    assert [row["standing"] for row in baimo("keys", "list", "--all", "--json").data] == ["revoked"]


def test_a_tenant_is_shown_with_its_keys_and_nobody_else_s(folder: Path, lang: str) -> None:
    made = baimo("tenants", "create", "acme", "--title", "Acme", "--limit", "cost=5/day", "--pii", "mask")
    assert (made.code, made.out) == (0, "")
    assert has_chinese(made.err) == (lang == "zh")
    baimo("keys", "create", "--tenant", "acme", "--label", "theirs")
    baimo("keys", "create", "--label", "ours")
    shown = baimo("tenants", "show", "acme").data
    assert [key["label"] for key in shown["keys"]] == ["theirs"]
    assert (shown["limits"], shown["pii"], shown["disabled"]) == (["cost=5/day"], "mask", False)
    assert [key["label"] for key in baimo("tenants", "show", "owner").data["keys"]] == ["ours"]
    names = [line.split("\t")[0] for line in baimo("tenants", "list").out.splitlines()]
    assert names == ["owner", "acme"]


def test_a_tenant_is_changed_disabled_and_accepted_again(folder: Path, lang: str) -> None:
    baimo("tenants", "create", "acme", "--keep-contents", "on", "--contents-days", "7")
    changed = baimo("tenants", "change", "acme", "--cache", "on", "--clear", "contents_days", "--json").data
    assert (changed["cache"], changed["contents_days"], changed["keep_contents"]) == ("on", None, True)
    assert (
        baimo("tenants", "change", "acme", "--keep-contents", "off", "--json").data["keep_contents"] is False
    )
    assert baimo("tenants", "disable", "acme").code == 0
    assert baimo("tenants", "show", "acme").data["disabled"] is True
    assert baimo("tenants", "disable", "acme", "--undo").code == 0
    assert [row["disabled"] for row in baimo("tenants", "list", "--json").data] == [False, False]


def test_nothing_to_forget_is_no_error(folder: Path, lang: str) -> None:
    baimo("tenants", "create", "acme")
    ended = baimo("tenants", "forget", "acme", "--yes")
    assert ended.code == 0
    assert re.search(r"\b0\b", ended.err)
    assert baimo("tenants", "forget", "acme", "--yes", "--json").data["deleted"]["contents"] == 0
