"""Whether a model's answers may train another one.

Prevents the failure that shows a year later, in a contract review: a model that was taught by one whose terms forbid
it. What nobody looked up is unknown, and unknown is never taken for allowed.
"""

from __future__ import annotations

import fnmatch
import functools
import tomllib
from importlib import resources
from typing import Literal

import msgspec

from baimo.core.model import Model
from baimo.text import language
from baimo.typed import converted

Training = Literal["allowed", "conditions", "competing", "forbidden", "unknown"]


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one vendor, licence or family of models."""

    match: tuple[str, ...] = ()
    """Names, with * for anything; capitals do not matter."""
    training: Training = "unknown"
    """Whether answers may train another model."""
    note: str = ""
    """What exactly is allowed or not, in one sentence."""
    note_zh: str = ""
    """Likewise, in Chinese."""
    source: str = ""
    """Where that was read."""
    as_of: str = ""
    """When."""

    @property
    def told(self) -> str:
        """The note in the reader's language."""
        return self.note_zh if language() == "zh" and self.note_zh else self.note

    def named(self, name: str) -> bool:
        """Whether this is about `name`."""
        return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in self.match)


class TermsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """data/terms.toml."""

    names: list[Terms]
    """By the model's own name, whoever serves it; the strictest that fits counts together with the others."""
    licenses: list[Terms]
    """By the SPDX id of the weights; counts where the weights run on own machines."""
    vendors: list[Terms]
    """By the vendor whose API answers."""


_STRICTNESS: tuple[Training, ...] = ("allowed", "conditions", "unknown", "competing", "forbidden")


def terms_of(model: Model, *, inside: bool) -> Terms:
    """What is known of `model` as a teacher: its own terms, and those of the vendor or of the licence.

    Args:
        model: who would teach.
        inside: it runs within the company's walls, so there is no vendor whose terms would hold.

    Returns:
        The strictest of what fits; training = "unknown" where nothing is known of one side.
    """
    known = terms_file()
    own = next((one for one in known.names if one.named(model.name)), None)
    by_license = next((one for one in known.licenses if one.named(model.license)), None)
    if inside:
        return own or by_license or Terms()
    vendor = next((one for one in known.vendors if one.named(model.vendor)), Terms())
    return max((one for one in (own, vendor) if one), key=lambda one: _STRICTNESS.index(one.training))


@functools.cache
def terms_file() -> TermsFile:
    """data/terms.toml, read once."""
    source = (resources.files("baimo.models") / "data" / "terms.toml").read_text(encoding="utf-8")
    return converted(tomllib.loads(source), TermsFile)
