from __future__ import annotations

import pytest

from baimo.core.tuned_name import brief, briefs

WHOLE = "ft:smollm2-135m-instruct:acme:lamps:01m817zw39vt1t4bc2mf"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (WHOLE, "ft:lamps·4bc2mf"),
        ("ft:smollm2-135m-instruct:acme::01m817zw39vt1t4bc2mf", "ft:smollm2-135m-instruct·4bc2mf"),
        (f"{WHOLE}:ckpt-step-40", "ft:lamps·4bc2mf (40)"),
        (f"{WHOLE}@few-shot, JSON", "ft:lamps·4bc2mf@few-shot, JSON"),
        (f"{WHOLE} short", "ft:lamps·4bc2mf short"),
        ("ft:tiny:acme:灯:01m817zw39vt1t4bc2mf", "ft:灯·4bc2mf"),
        ("local/smollm2-135m-instruct", "local/smollm2-135m-instruct"),
        ("ft:gpt-4o-mini-2024-07-18:acme", "ft:gpt-4o-mini-2024-07-18:acme"),
        ("", ""),
    ],
)
def test_a_tuned_models_name_is_read_from_what_people_chose(name: str, read: str) -> None:
    assert brief(name) == read


def test_names_that_would_be_read_alike_stay_whole() -> None:
    other = WHOLE.replace("01m817", "01m999")
    assert briefs([WHOLE, other, "acme/small"]) == {
        WHOLE: WHOLE,
        other: other,
        "acme/small": "acme/small",
    }
