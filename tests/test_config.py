from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.config import config_file, line_of, origins, secret, settings
from baimo.errors import ConfigError
from baimo.settings import CompareSettings, ProviderSettings, Settings, WorkspaceSettings, is_reference


def written(folder: Path, source: str) -> Path:
    path = folder / "baimo.toml"
    path.write_text(source, encoding="utf-8")
    return path


def refusal(folder: Path, environment: dict[str, str] | None = None, **flags: object) -> str:
    with pytest.raises(ConfigError) as caught:
        settings(folder, environment=environment or {}, flags=flags)
    return f"{caught.value}\n{caught.value.hint}"


# precedence


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    assert settings(tmp_path, environment={}) == Settings()


def test_each_source_is_stronger_than_the_one_before(tmp_path: Path) -> None:
    assert settings(tmp_path, environment={}).compare.epsilon == 0.01
    written(tmp_path, "[compare]\nepsilon = 0.02\ndelta = 0.1\nmax_cost = 3\n")
    assert settings(tmp_path, environment={}).compare.epsilon == 0.02
    environment = {"BAIMO_COMPARE_EPSILON": "0.03", "BAIMO_COMPARE_DELTA": "0.2"}
    assert settings(tmp_path, environment=environment).compare.epsilon == 0.03
    found = settings(tmp_path, environment=environment, flags={"compare.epsilon": 0.04}).compare
    assert (found.epsilon, found.delta, found.max_cost) == (0.04, 0.2, 3.0)


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    assert settings(tmp_path, environment={"BAIMO_COMPARE_EPSILON": ""}).compare.epsilon == 0.01


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    environment = {"BAIMO_SHARED_DATA": "x", "BAIMO_LANG": "zh", "BAIMO_": "x", "OTHER_COMPARE_EPSILON": "9"}
    assert settings(tmp_path, environment=environment) == Settings()


def test_the_file_of_the_nearest_parent_folder_holds(tmp_path: Path) -> None:
    written(tmp_path, "[compare]\nepsilon = 0.2\n")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert settings(inner, environment={}).compare.epsilon == 0.2
    written(inner, "[compare]\nepsilon = 0.3\n")
    assert settings(inner, environment={}).compare.epsilon == 0.3


def test_baimo_config_names_another_file(tmp_path: Path) -> None:
    written(tmp_path, "[compare]\nepsilon = 0.2\n")
    other = tmp_path / "other.toml"
    other.write_text("[compare]\nepsilon = 0.3\n", encoding="utf-8")
    environment = {"BAIMO_CONFIG": str(other)}
    assert config_file(tmp_path, environment) == other
    assert settings(tmp_path, environment=environment).compare.epsilon == 0.3
    assert "gone.toml" in refusal(tmp_path, {"BAIMO_CONFIG": str(tmp_path / "gone.toml")})


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "baimo.toml").write_bytes(b"\xef\xbb\xbf[compare]\nepsilon = 0.2\n")
    assert settings(tmp_path, environment={}).compare.epsilon == 0.2


# what is wrong, and where

WRONG = {
    "a misspelt key": ("[compare]\n\nepsilonn = 1\n", 3, "compare.epsilonn", "epsilon"),
    "a misspelt section": ("# top\n[comparr]\nepsilon = 1\n", 2, "comparr", "compare"),
    "a misspelt key of one of several providers": (
        '[providers.a]\nretries = 1\n[providers."b.c"]\nretrys = 1\n',
        4,
        "providers.b.c.retrys",
        "retries",
    ),
    "a wrong type in the second of two tables": (
        '[providers.a]\nretries = 1\n[providers.b]\nretries = "many"\n',
        4,
        'providers.b.retries = "many"',
        "int",
    ),
    "a number out of range": ("[compare]\nepsilon = 1.0\n", 2, "compare.epsilon = 1.0", "< 1"),
    "a word that is not on offer": (
        '[compare]\nassurance = "sure"\n',
        2,
        'compare.assurance = "sure"',
        "one of calibrated, guaranteed",
    ),
    "a price below nothing": (
        '[models."x/y"]\ninput_per_million = -1\n',
        2,
        "models.x/y.input_per_million = -1",
        ">= 0",
    ),
    "a currency in small letters": (
        '[money]\ncurrency = "usd"\n',
        2,
        'money.currency = "usd"',
        "three capital letters",
    ),
    "a currency of a price": ('[models."x/y"]\ncurrency = "$"\n', 2, "models.x/y.currency", "ISO 4217"),
    "a currency of a rate": (
        '[money]\ncurrency = "EUR"\n[money.rates]\nusd = 0.9\n',
        3,
        "money.rates",
        "three capital letters",
    ),
    "a section that is no table": ("compare = 3\n", 1, "compare = 3", "[compare]"),
    "a provider that is no table": ("[providers]\nx = 3\n", 2, "providers.x = 3", "[providers.x]"),
    "an inline table": ("[providers]\nx = { retrys = 3 }\n", 2, "providers.x.retrys", "retries"),
    "a language that there is not": ('language = "fr"\n', 1, 'language = "fr"', 'one of "", en, zh'),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_message_names_file_line_key_and_what_is_wanted(name: str, tmp_path: Path) -> None:
    source, line, key, wanted = WRONG[name]
    message = refusal(written(tmp_path, source).parent)
    assert f"{tmp_path / 'baimo.toml'}, line {line}: " in message
    assert key in message
    assert wanted in message


def test_a_wrong_variable_is_named_and_the_file_is_not_blamed(tmp_path: Path) -> None:
    written(tmp_path, "[compare]\nepsilon = 0.2\n")
    message = refusal(tmp_path, {"BAIMO_COMPARE_EPSILON": "little"})
    assert message.startswith('BAIMO_COMPARE_EPSILON: compare.epsilon = "little": `float` is expected')
    assert "baimo.toml" not in message


@pytest.mark.parametrize(
    ("variable", "near"),
    [("BAIMO_COMPARE_EPSILONN", "epsilon"), ("BAIMO_COMPAER_EPSILON", "BAIMO_COMPARE_EPSILON")],
)
def test_a_misspelt_variable_is_not_ignored(variable: str, near: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, {variable: "0.1"})
    assert variable in message
    assert f"did you mean {near}?" in message


def test_a_file_that_is_no_toml_is_named_with_the_line(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, "[compare]\nepsilon = \n").parent)
    assert "baimo.toml" in message
    assert "line 2" in message


def test_a_file_in_another_encoding_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "baimo.toml").write_bytes('[compare]\n# 设置\nepsilon = "小"\n'.encode("gbk"))
    message = refusal(tmp_path)
    assert "baimo.toml, line 2: this is not UTF-8" in message


names = st.text("abcdefgh-_.", min_size=1, max_size=8)


@given(st.lists(names, min_size=1, max_size=6, unique=True), st.data())
def test_every_key_is_found_on_the_line_where_it_stands(tables: list[str], data: st.DataObject) -> None:
    lines: list[str] = []
    places: dict[tuple[str, str], int] = {}
    for table in tables:
        lines += ["", f'[providers."{table}"]  # a comment = here']
        for key in ("base_url", "key", "retries"):
            lines += ["# key = 'not this one'"] * data.draw(st.integers(0, 2))
            lines.append(f"{key} = 'x'")
            places[table, key] = len(lines)
    source = "\n".join(lines)
    for (table, key), line in places.items():
        assert line_of(source, ("providers", table, key)) == line


def test_tables_of_a_list_are_counted() -> None:
    source = "[[prompts]]\nname = 'a'\n[[prompts]]\nname = 'b'\n[prompts.few_shot]\ncount = 3\n"
    assert line_of(source, ("prompts", 1, "name")) == 4
    assert line_of(source, ("prompts", 1, "few_shot", "count")) == 6


LIMITS = """[routes.fast]
models = ["openai/gpt-5"]

[[routes.fast.limits]]
counts = "cost"
amount = 50

[[routes.fast.limits]]
counts = "cost"
amount = 50

[routes.slow]
models = ["openai/gpt-5"]
strategy = "fallback"
"""


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("amount = 50\n\n[routes", "amount = -5\n\n[routes", "line 10: routes.fast.limits.1.amount = -5"),
        ("amount = 50\n\n[[", 'amount = "x"\n\n[[', 'line 6: routes.fast.limits.0.amount = "x"'),
        (
            "amount = 50\n\n[routes",
            "amuont = 5\n\n[routes",
            "line 10: there is no setting routes.fast.limits.1.amuont",
        ),
        (
            'strategy = "fallback"',
            'strategy = "falback"',
            'line 14: routes.slow.strategy = "falback": one of fallback, weighted, cheapest, latency, canary',
        ),
        (
            "amount = 50\n\n[routes",
            'amount = 5\nwindow = "week"\n\n[routes',
            'line 11: routes.fast.limits.1.window = "week": one of minute, hour, day, month, total is needed',
        ),
    ],
)
def test_a_limit_is_named_by_its_own_line_and_so_is_what_follows(
    tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    assert right in LIMITS
    message = refusal(written(tmp_path, LIMITS.replace(right, wrong)).parent)
    assert said in message
    assert "amuont" not in message or "did you mean amount" in message


def test_tables_of_a_list_within_another_are_counted_anew() -> None:
    source = "[[a]]\n[[a.b]]\nc = 1\n[[a.b]]\nc = 2\n[[a]]\n[[a.b]]\nc = 3\n[x]\nc = 4\n"
    for place, line in {("a", 0, "b", 1, "c"): 5, ("a", 1, "b", 0, "c"): 8, ("x", "c"): 10}.items():
        assert line_of(source, place) == line


def test_lines_of_an_array_are_no_tables() -> None:
    assert line_of("a = [\n[ [ ], [ ] ]\n]\nb = 1\n", ("b",)) == 4


def test_a_key_that_is_not_there_is_placed_at_its_table() -> None:
    assert line_of("a = 1\n[b]\nc = 2\n", ("b", "d")) == 2
    assert line_of("", ("b", "d")) == 1


# secrets


def test_a_key_in_the_file_itself_is_refused_and_not_repeated(tmp_path: Path) -> None:
    key = "sk-1234567890abcdef"
    message = refusal(written(tmp_path, f'[providers.a]\n[providers.openai]\nkey = "{key}"\n').parent)
    assert f"{tmp_path / 'baimo.toml'}, line 3: providers.openai.key" in message
    assert key not in message
    assert "env:NAME" in message


@pytest.mark.parametrize(
    "line", ["key = 12345678", 'headers = "sk-12345678"', "headers = { Authorization = 12345678 }"]
)
def test_a_value_that_may_be_a_secret_is_not_repeated_when_it_has_the_wrong_type(
    line: str, tmp_path: Path
) -> None:
    message = refusal(written(tmp_path, f"[providers.openai]\n{line}\n").parent)
    assert "line 2" in message
    assert "12345678" not in message


def test_a_reference_is_looked_up_in_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-file\n", encoding="utf-8")
    assert secret("env:A_KEY", environment={"A_KEY": " from-variable "}) == "from-variable"
    assert secret(f"file:{file}", environment={}) == "from-file"


def test_a_reference_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n", encoding="utf-8")
    binary.write_bytes(b"\xff\xfesecret")
    for reference, words in {
        "env:A_KEY": "A_KEY, which is not set",
        f"file:{tmp_path / 'gone'}": "No such file",
        f"file:{tmp_path}": "Is a directory",
        f"file:{empty}": "it is empty",
        f"file:{binary}": "not UTF-8",
        "sk-the-key-itself": "written into the configuration",
    }.items():
        with pytest.raises(ConfigError, match=words) as caught:
            secret(reference, environment={"A_KEY": "  "})
        assert "sk-the-key-itself" not in str(caught.value)
        assert caught.value.hint
    assert is_reference("file:x")
    assert not is_reference("sk-x")


# snapshot

NOISY = Settings(
    workspace=WorkspaceSettings(database="postgresql://me:hunter2@db.example.com/baimo?sslmode=require"),
    providers={
        "a": ProviderSettings(
            key="env:A_KEY",
            base_url="https://user:hunter2@api.example.com/v1",
            headers={"Authorization": "Bearer hunter2", "X-Team": "env:TEAM"},
        )
    },
)


def test_a_snapshot_holds_references_and_no_secrets() -> None:
    data = NOISY.snapshot().data
    assert b"hunter2" not in data
    for kept in (b"env:A_KEY", b"env:TEAM", b"db.example.com/baimo", b"api.example.com/v1", b"Authorization"):
        assert kept in data


@pytest.mark.parametrize(
    "url", ["postgresql://me:a@b@db/x", "postgresql://db/x?user=me&password=a@b", "postgresql://:a@b@db/x"]
)
def test_a_password_is_recognised_wherever_a_database_url_may_hold_it(url: str) -> None:
    assert b"a@b" not in Settings(workspace=WorkspaceSettings(database=url)).snapshot().data


def test_the_hash_is_the_same_in_every_process_and_for_every_order_of_keys(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    written(one, "[money]\nrates.CNY = 0.14\nrates.EUR = 1.1\n[compare]\ndelta = 0.1\nepsilon = 0.2\n")
    written(other, "[compare]\nepsilon = 0.2\ndelta = 0.1\n[money]\nrates.EUR = 1.1\nrates.CNY = 0.14\n")
    first = settings(one, environment={}).snapshot()
    assert first == settings(other, environment={}).snapshot()
    assert first.hash != Settings().snapshot().hash
    assert len(first.hash) == 64
    assert json.loads(first.data)["money"]["rates"] == {"CNY": 0.14, "EUR": 1.1}


@given(st.floats(0, 0.99), st.floats(0, 0.99))
def test_settings_that_differ_have_hashes_that_differ(one: float, other: float) -> None:
    hashes = {Settings(compare=CompareSettings(epsilon=value)).snapshot().hash for value in (one, other)}
    assert len(hashes) == len({one, other})


def test_every_setting_that_was_said_has_its_origin_and_variables_stay_names(tmp_path: Path) -> None:
    (tmp_path / "baimo.toml").write_text(
        '[money]\ncurrency = "EUR"\n[providers.up]\nbase_url = "https://${HOST}/v1?token=abc"\n'
        'headers = { x-a = "${HOST}" }\n',
        encoding="utf-8",
    )
    environment = {"HOST": "hidden.example", "BAIMO_SERVE_PORT": "9000"}
    found = origins(tmp_path, environment=environment)
    assert found["serve.port"] == ("BAIMO_SERVE_PORT", None)
    assert found["money.currency"].source.endswith("baimo.toml, line 2")
    assert found["providers.up.base_url"].written == "https://${HOST}/v1?token="
    assert found["providers.up.headers.x-a"].written is None
    assert "serve.host" not in found
    with pytest.raises(ConfigError):
        origins(tmp_path, environment={"BAIMO_SERVE_PORT": "high", "HOST": "x"})


def test_shown_settings_hold_no_secret(tmp_path: Path) -> None:
    (tmp_path / "baimo.toml").write_text(
        '[providers.up]\nbase_url = "https://user:canary@h.example/v1?x=1&api_key=canary&y=2"\n'
        'headers = { x-a = "canary", x-b = "env:NAME" }\n'
        '[providers.up.options]\napi_token = "canary"\nregion = "eu"\n'
        '[models."up/a b"]\nupstream = "x"\n',
        encoding="utf-8",
    )
    shown = dict(settings(tmp_path, environment={}).shown())
    assert "canary" not in str(shown)
    assert shown["providers.up.base_url"] == "https://h.example/v1?x=1&api_key=&y=2"
    assert shown["providers.up.headers.x-b"] == "env:NAME"
    assert shown["providers.up.options.region"] == "eu"
    assert shown['models."up/a b".upstream'] == "x"
