"""Languages are told by script and frequent words; what is not certain is `und`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.tuning import Row
from baimo.tuning.data.languages import UNKNOWN, language, language_of
from tests.tuning.data.rows import row


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("en", "What is the weather like in the mountains?"),
        ("zh", "请把客厅的灯打开，谢谢。"),
        ("zh", "用 Python 写一个快速排序函数"),
        ("ja", "リビングの電気を消してください"),
        ("ko", "거실 불을 켜 주세요"),
        ("de", "Schalte bitte das Licht in der Küche ein"),
        ("fr", "Quelle est la température dans le salon ?"),
        ("es", "¿Cuál es la temperatura de la cocina?"),
        ("it", "Qual è la temperatura della cucina?"),
        ("pt", "Qual é a temperatura da cozinha, não está quente?"),
        ("nl", "Wat is de temperatuur in het huis van mijn zus?"),
        ("sv", "Vad är temperaturen i köket och hur är det på vinden?"),
        ("pl", "Jaka jest temperatura w kuchni i czy światło jest włączone?"),
        ("tr", "Mutfakta sıcaklık kaç derece ve ışık açık mı?"),
        ("vi", "Nhiệt độ trong nhà bếp là bao nhiêu?"),
        ("ru", "Какая температура на кухне? Выключи свет, пожалуйста, мы ушли."),
        ("uk", "Яка температура на кухні? Її вже вимкнено?"),
        ("ar", "ما هي درجة الحرارة في المطبخ؟"),
        ("fa", "دمای آشپزخانه چقدر است؟"),
        ("hi", "रसोई का तापमान क्या है?"),
        ("th", "อุณหภูมิในครัวเท่าไหร่"),
        ("el", "Ποια είναι η θερμοκρασία;"),
        ("he", "מה הטמפרטורה במטבח"),
        (UNKNOWN, "42 + 17 = ?"),
        (UNKNOWN, ""),
    ],
)
def test_a_sentence_is_in_its_language(code: str, words: str) -> None:
    assert language(words) == code


def test_a_row_is_in_the_language_of_its_question_unless_it_says_so_itself() -> None:
    assert language_of(row("请翻译这句话", "Here is the translation of it")) == "zh"
    assert language_of(row("42?", "That is the answer to it")) == "en"
    assert language_of(row("hello", item={"lang": "PT_br"})) == "pt-br"
    assert language_of(row("这是问题", system="You are the assistant of the house and answer")) == "zh"
    assert language_of(Row(text="これはペンです")) == "ja"


@given(st.text(max_size=200))
def test_any_text_has_a_language_or_none(words: str) -> None:
    found = language(words)
    assert found == UNKNOWN or len(found) == 2


def test_short_commands_of_many_languages_are_mostly_right_and_rarely_wrong(shared_data: Path) -> None:
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in (shared_data / "ha_intents_dev.jsonl").read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        code, found = one["lang"].lower().split("-")[0], language(one["sentence"])
        total[code] += 1
        right[code] += found == code
        wrong[code] += found not in (code, UNKNOWN)
    for code in ("zh", "ko", "ar", "el"):
        assert right[code] >= 0.95 * total[code]
    for code in ("en", "de", "fr", "es", "zh"):
        assert right[code] >= 0.6 * total[code]
        assert wrong[code] <= 0.05 * total[code]
