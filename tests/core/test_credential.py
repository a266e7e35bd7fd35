from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.credential import ENTROPY_BYTES, digest_of, fits, minted, presented


@given(st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES))
def test_a_credential_is_read_as_it_is_written(entropy: bytes) -> None:
    made = minted(entropy)
    assert (len(made.public), len(made.secret)) == (12, 48)
    assert presented(f" {made.written()}\n") == made
    assert not set(made.public + made.secret) & set("ilou")


def test_every_bit_of_the_secret_comes_from_its_entropy() -> None:
    secrets = {minted(bytes(8) + (1 << bit).to_bytes(30, "big")).secret for bit in range(240)}
    assert len(secrets) == 240
    with pytest.raises(ValueError, match="entropy"):
        minted(bytes(ENTROPY_BYTES - 1))


@pytest.mark.parametrize(
    "source",
    ["", "bm-", "sk-abc", "bm-" + "0" * 12, f"bm-{'0' * 12}-{'0' * 47}", f"bm-{'0' * 12}-{'u' * 48}", "bm--"],
)
def test_what_has_not_the_shape_is_no_credential(source: str) -> None:
    assert presented(source) is None


def test_a_secret_is_in_no_repr() -> None:
    made = minted(bytes(range(ENTROPY_BYTES)))
    assert made.secret not in repr(made) + str(made) + f"{made!r}"
    assert made.public in repr(made)


def test_only_the_secret_itself_fits_its_digest() -> None:
    secret = minted(bytes(range(ENTROPY_BYTES))).secret
    digest = digest_of(secret)
    assert digest == hashlib.sha256(secret.encode()).hexdigest()
    assert fits(secret, digest)
    assert not fits(secret[:-1] + "0", digest)
    assert not fits("", digest)
