"""promptfoo configurations as they are: prompts, tests, vars and assertions; file:// references are followed.

Providers, code (JavaScript, Python, transforms) and options without a counterpart stay behind and are noted. Source:
https://www.promptfoo.dev/docs/configuration/reference/ and /docs/configuration/test-cases/.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from baimo.core.registry import Spec
from baimo.core.task import Example, Prompt
from baimo.errors import TaskError, TemplateError
from baimo.evals.tasks.formats.asserts import carried, from_text, plain_equality
from baimo.evals.tasks.formats.promptfoo_prompts import prompts_of
from baimo.evals.tasks.formats.references import referenced_files, referenced_value
from baimo.evals.tasks.formats.rows import Row, container, content, json_array, json_lines, json_value, table
from baimo.evals.tasks.formats.shapes import as_items, as_map, is_map
from baimo.evals.tasks.formats.yaml import Document, read_yaml
from baimo.evals.tasks.notes import Notebook
from baimo.evals.tasks.prompts import compiled

MOST_TESTS = 1_000_000
"""Bounds what lists of variables multiply out to."""
KEYS = frozenset({"prompts", "providers", "targets", "tests", "defaultTest", "scenarios"})
"""A mapping with at least two of them, or with tests, is taken for a promptfoo configuration."""
_READ = KEYS | {"description"}
_TEST_KEYS = frozenset({"vars", "assert", "description", "metadata", "threshold", "options"})
_MARKED = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)


class Suite(NamedTuple):
    """A promptfoo configuration."""

    examples: tuple[Example, ...]
    """One per test and combination of its variables."""
    prompts: tuple[Prompt, ...]
    """Prompts that could be read; empty = none."""
    scorers: tuple[Spec, ...]
    """`exact` or `json` where every test asks for equality alone, else `asserts`."""
    description: str
    """What the configuration says of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    """One test before its variables are multiplied out."""

    value: Mapping[str, Any]
    line: int
    file: Path


def is_configuration(value: Any) -> bool:
    """Whether data looks like a promptfoo configuration."""
    return isinstance(value, Mapping) and (
        "tests" in value or len(KEYS & cast("Mapping[str, Any]", value).keys()) >= 2
    )


def read_suite(path: Path, notebook: Notebook) -> Suite:
    """Read a promptfoo configuration, or a bare list of its tests, from YAML, JSON, JSON Lines or CSV.

    Raises:
        TaskError: it has no tests, or one cannot be read; names file and line.
    """
    config, lines = _configuration(path)
    for key in sorted(config.keys() - _READ):
        notebook.add("left_config", name=key)
    for key in ("providers", "targets"):
        if key in config:
            notebook.add("left_providers", names=_provider_names(config[key]))
    default = _default_test(config.get("defaultTest"), path, notebook)
    in_file = _tests_in_file(path, notebook) if not config else ()
    tests = itertools.chain(
        in_file,
        _tests(config.get("tests"), path, lines.get("tests", []), notebook),
        _scenarios(config.get("scenarios"), path, lines.get("scenarios", []), notebook),
    )
    examples = tuple(_numbered(_examples(tests, default, notebook)))
    if not examples:
        raise TaskError("tasks.no_tests", path=path)
    prompts, examples = prompts_of(config.get("prompts"), examples, path, notebook)
    examples, scorers = _decided(examples)
    return Suite(examples, prompts, scorers, str(config.get("description") or ""))


def _configuration(path: Path) -> tuple[Mapping[str, Any], dict[str, list[int]]]:
    """A configuration and the lines of its lists; empty when the file is nothing but tests."""
    packed = container(path)
    document = Document(json_value(content(path), path, 1), {}) if packed == "json" else None
    document = read_yaml(path) if packed == "yaml" else document
    if document is None or not isinstance(document.value, Mapping):
        return {}, {}
    return cast("Mapping[str, Any]", document.value), document.lines


def _default_test(value: Any, path: Path, notebook: Notebook) -> Mapping[str, Any]:
    if isinstance(value, str):
        value = referenced_value(value, path, 1, notebook)
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _tests(
    value: Any, path: Path, lines: list[int], notebook: Notebook, *, follow: bool = True
) -> Iterator[_Test]:
    items = as_items(value)
    for item, line in itertools.zip_longest(items, lines[: len(items)], fillvalue=1):
        if isinstance(item, Mapping) and "path" in item and "vars" not in item:
            notebook.add("left_generator", line, value=item["path"])
        elif isinstance(item, Mapping):
            yield _Test(value=cast("Mapping[str, Any]", item), line=line, file=path)
        elif isinstance(item, str) and not follow:
            notebook.add("left_generator", line, value=item)  # a file that names itself would never end
        elif isinstance(item, str):
            for file in referenced_files(item, path, line, notebook):
                yield from _tests_in_file(file, notebook)
        else:
            raise TaskError("tasks.bad_test", path=path, line=line)


def _tests_in_file(path: Path, notebook: Notebook) -> Iterator[_Test]:
    notebook = notebook.at(str(path))
    match container(path):
        case "csv" | "tsv":
            rows: Iterable[Row] = (Row(row.line, _csv_test(row, path, notebook)) for row in table(path))
        case "jsonl":
            rows = json_lines(path)
        case "json":
            rows = json_array(path)
        case "yaml":
            document = read_yaml(path)
            yield from _tests(document.value, path, document.lines.get("", []), notebook, follow=False)
            return
        case kind:
            raise TaskError("tasks.tests_container", path=path, found=kind)
    for row in rows:
        yield _Test(value=row.value, line=row.line, file=path)


def _csv_test(row: Row, path: Path, notebook: Notebook) -> dict[str, Any]:
    test: dict[str, Any] = {"vars": {}, "assert": [], "metadata": {}}
    for name, cell in row.value.items():
        if name.startswith("__expected"):
            test["assert"] += [from_text(cell)] if cell.strip() else []
        elif name.startswith("__metadata:"):
            key = name.removeprefix("__metadata:")
            test["metadata"][key.removesuffix("[]")] = cell.split(",") if key.endswith("[]") else cell
        elif name == "__description":
            test["description"] = cell
        elif name == "__threshold" and cell.strip():
            test["threshold"] = json_value(cell, path, row.line)
        elif name in {"__prefix", "__suffix"} and cell:
            test.setdefault("options", {})[name.strip("_")] = cell
        elif name.startswith("__"):
            notebook.add("left_field", row.line, name=name)
        else:
            test["vars"][name] = cell
    return test


def _scenarios(value: Any, path: Path, lines: list[int], notebook: Notebook) -> Iterator[_Test]:
    """Every configuration of a scenario with every test of it."""
    scenarios = cast("list[Any]", value) if isinstance(value, list) else []
    for scenario, line in itertools.zip_longest(scenarios, lines[: len(scenarios)], fillvalue=1):
        if not isinstance(scenario, Mapping):
            notebook.add("left_scenario", line)
            continue
        found = cast("Mapping[str, Any]", scenario)
        configs = list(_tests(found.get("config"), path, [], notebook))
        tests = list(_tests(found.get("tests"), path, [], notebook)) or [
            _Test(value={}, line=line, file=path)
        ]
        for config, test in itertools.product(configs, tests):
            yield replace(test, value=_merged(config.value, test.value), line=line)


def _merged(base: Mapping[str, Any], test: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **test}
    for key in ("vars", "metadata", "options"):
        first, second = base.get(key), test.get(key)
        if isinstance(first, Mapping) and (second is None or isinstance(second, Mapping)):
            merged[key] = {**first, **(second or {})}
    first, second = base.get("assert"), test.get("assert")
    if first and not as_map(merged.get("options")).get("disableDefaultAsserts"):
        merged["assert"] = [*as_items(first), *as_items(second)]
    return merged


def _examples(tests: Iterable[_Test], default: Mapping[str, Any], notebook: Notebook) -> Iterator[Example]:
    for test in tests:
        notebook = notebook.at(str(test.file))
        merged = _merged(default, test.value)
        for key in sorted(merged.keys() - _TEST_KEYS):
            notebook.add("left_test_key", test.line, name=key)
        options = as_map(merged.get("options"))
        for key in sorted(options):
            if key not in {"prefix", "suffix", "disableDefaultAsserts", "disableVarExpansion"}:
                notebook.add("left_test_key", test.line, name=f"options.{key}")
        for variables in _combinations(merged.get("vars"), options, test, notebook):
            yield _example(merged, variables, test, notebook)


def _combinations(
    value: Any, options: Mapping[str, Any], test: _Test, notebook: Notebook
) -> Iterator[dict[str, Any]]:
    if isinstance(value, str):
        value = referenced_value(value, test.file, test.line, notebook)
    if value is not None and not isinstance(value, Mapping):
        raise TaskError("tasks.bad_test", path=test.file, line=test.line)
    variables = {
        name: referenced_value(item, test.file, test.line, notebook) if _is_reference(item) else item
        for name, item in cast("Mapping[str, Any]", value or {}).items()
    }
    if options.get("disableVarExpansion"):
        yield variables
        return
    choices = [cast("list[Any]", item) if isinstance(item, list) else [item] for item in variables.values()]
    for values in itertools.product(*choices):
        yield dict(zip(variables, values, strict=True))


def _example(
    merged: Mapping[str, Any], variables: dict[str, Any], test: _Test, notebook: Notebook
) -> Example:
    found = [_filled(item, variables, test, notebook) for item in as_items(merged.get("assert"))]
    asserts = carried(found, test.line, notebook)
    metadata = (
        dict(cast("Mapping[str, Any]", merged.get("metadata") or {}))
        if is_map(merged.get("metadata"))
        else {}
    )
    if merged.get("description"):
        metadata["description"] = str(merged["description"])
    if asserts:
        metadata["asserts"] = asserts
    if asserts and merged.get("threshold") is not None:
        notebook.add("left_threshold", test.line, threshold=merged["threshold"])
        metadata["asserts_threshold"] = merged["threshold"]
    options = as_map(merged.get("options"))
    affixes = {key: options[key] for key in ("prefix", "suffix") if options.get(key)}
    equal = [item["value"] for item in asserts if item["type"] == "equals"]
    fields = {**variables, **affixes}
    return Example(
        id="",
        fields=fields
        if "input" in fields or not variables
        else {**fields, "input": _longest_text(variables)},
        target=equal[0] if equal else None,
        metadata=metadata,
        line=test.line,
        file=str(test.file),
    )


def _numbered(found: Iterable[Example]) -> Iterator[Example]:
    for number, example in enumerate(found, start=1):
        if number > MOST_TESTS:
            raise TaskError("tasks.too_many_tests", path=example.file, limit=MOST_TESTS)
        yield replace(example, id=str(number))


def _decided(examples: tuple[Example, ...]) -> tuple[tuple[Example, ...], tuple[Spec, ...]]:
    """Equality alone becomes a plain target, which few-shot blocks, tuning and every scorer understand."""
    lists: list[list[dict[str, Any]]] = [example.metadata.get("asserts", []) for example in examples]
    thresholds = any("asserts_threshold" in example.metadata for example in examples)
    if thresholds or not all(plain_equality(asserts) for asserts in lists):
        spec = Spec(name="asserts", args={"mode": "share"} if thresholds else {})
        return examples, (spec,) if any(lists) else ()
    plain = tuple(
        replace(
            example, metadata={name: item for name, item in example.metadata.items() if name != "asserts"}
        )
        for example in examples
    )
    structured = all(isinstance(example.target, (dict, list)) for example in plain)
    return plain, (Spec(name="json" if structured else "exact"),)


def _filled(item: Any, variables: Mapping[str, Any], test: _Test, notebook: Notebook) -> Any:
    """An assertion with its {{ variables }} and file:// references filled in."""
    if not isinstance(item, Mapping):
        return item
    assertion = dict(cast("Mapping[str, Any]", item))
    value: Any = assertion.get("value")
    try:
        if _is_reference(value):
            assertion["value"] = referenced_value(value, test.file, test.line, notebook)
        else:
            assertion["value"] = _rendered(value, variables, test)
    except TemplateError as error:
        # an assertion with a hole in it would pass or fail for the wrong reason
        notebook.add("left_assert_template", test.line, problem=str(error))
        assertion["value"] = None
    if isinstance(assertion.get("assert"), list):
        assertion["assert"] = [_filled(part, variables, test, notebook) for part in assertion["assert"]]
    return assertion


def _rendered(value: Any, variables: Mapping[str, Any], test: _Test) -> Any:
    if isinstance(value, str) and _MARKED.search(value):
        return compiled(value, f"{test.file}:{test.line}").render(variables)
    if isinstance(value, list):
        return [_rendered(part, variables, test) for part in cast("list[Any]", value)]
    if isinstance(value, Mapping):
        return {
            key: _rendered(part, variables, test) for key, part in cast("Mapping[str, Any]", value).items()
        }
    return value


def _provider_names(value: Any) -> str:
    names = [as_map(item).get("id", "?") if is_map(item) else item for item in as_items(value)]
    return ", ".join(str(name) for name in names)


def _longest_text(variables: Mapping[str, Any]) -> Any:
    """What stands for the question where the prompts do not matter."""
    texts = [item for item in variables.values() if isinstance(item, str)]
    return max(texts, key=len) if texts else next(iter(variables.values()))


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("file://")
