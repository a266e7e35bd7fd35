"""The API is what its description says: schemathesis asks a running endpoint what that allows, and more."""

from __future__ import annotations

from dataclasses import fields

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS

from baimo.server.admin.describing import document, in_path
from baimo.server.admin.table import OPERATIONS
from tests.server.served import Served

DOCUMENT = document(OPERATIONS)
DESCRIBED = {
    found.ok().definition.raw["operationId"]: found.ok()
    # keys have tests of their own: here every request has one
    for found in schemathesis.openapi.from_dict({**DOCUMENT, "security": []}).get_all_operations()
}
EXAMPLES = 12
"""Requests of each kind, for each operation."""
BEYOND = {
    "positive_data_acceptance",
    "missing_required_header",
    "use_after_free",
    "ensure_resource_availability",
}
"""Checks that know less than the API does: which names exist, that a limit must be above 0 …"""
EXCLUDED = [check for check in CHECKS.get_all() if check.__name__ in BEYOND]

FALLIBLE = {one.id for one in OPERATIONS if {field.name for field in fields(one.takes)} - set(in_path(one))}
"""Operations that can be asked what their description does not allow."""
ASKED = [
    (name, mode)
    for name in sorted(DESCRIBED)
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or name in FALLIBLE
]


@pytest.fixture(scope="module")
def admin(house: Served) -> str:
    house.tenant("research")
    credential = house.key(role="admin")
    assert house.chat(credential).status == 200
    house.recorded(1)
    return credential


def test_every_operation_is_described() -> None:
    assert DESCRIBED.keys() == {operation.id for operation in OPERATIONS}


@pytest.mark.parametrize(("name", "mode"), ASKED, ids=str)
def test_whatever_is_asked_is_answered_as_described(
    house: Served, admin: str, name: str, mode: GenerationMode
) -> None:
    @hypothesis_settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(case=DESCRIBED[name].as_strategy(generation_mode=mode))
    def asked(case: Case) -> None:
        # an empty list or null in a query is not sent at all: nothing is left to refuse
        assume(all(value not in ([], {}, None) for value in (case.query or {}).values()))
        case.call_and_validate(
            base_url=f"http://127.0.0.1:{house.port}",
            headers={"Authorization": f"Bearer {admin}"},
            excluded_checks=EXCLUDED,
            timeout=20,
        )

    asked()
    assert house.call("GET", "/healthz").status == 200
