"""Writes `train.jsonl`, 560 rows a language, from the hand-written phrases in `phrases/<language>.toml`.

    python examples/smart-home/make_train.py

The same phrases always give the same file. A sentence that comes near one of `test.jsonl` in its own language is
thrown away, so that a tuned model cannot have seen the test.

Each phrase file names the `[rooms]` and `[devices]` in the forms its grammar needs, and then, one table per trap,
phrases under a key `"<devices> <action> [<value> [<room>]]"`:
- devices: one, several with commas, or `switchable` (all that have a plain on and off);
- value: a word of the schema, a whole number, `-` for null, or a kind of number from `NUMBERS`, which is drawn
  and filled in as `{n}` (digits), `{word}` (in words) or `{count}` (in words, before a noun: 两度, veintiún grados);
- the room is null unless the key names one or the phrase holds one of a room's forms; `{at2}`, `{n2}` … are the
  wrong room or number of a sentence that names two; `{device}` and `{other}` are the right and the wrong device.
"""

from __future__ import annotations

import json
import random
import re
import tomllib
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz, process

HERE = Path(__file__).parent
LANGUAGES = ("en", "zh", "de", "es", "fr", "ja")
SWITCHABLE = ("light", "climate", "fan", "tv", "speaker")
TOO_NEAR = 85  # of 100; below the 90 that the tests allow, so that a reworded test row does not break them
ROWS = {  # a language; more of what is hard, where sentences differ most from each other
    "plain": 50, "number_word": 60, "two_rooms": 32, "polite": 28, "correction": 52, "out_of_scope": 62,
    "indirect": 88, "relative": 52, "unit": 26, "no_room": 24, "negation": 48, "code_mixed": 16, "word_value": 22,
}  # fmt: skip
NUMBERS = {
    "percent": range(5, 101, 5),
    "degrees": range(16, 29),
    "level": range(1, 6),
    "volume": range(5, 51),
    "step_degrees": range(2, 6),
    "step_percent": range(5, 41, 5),
}
SLOT = re.compile(r"\{(\w+)\}")


def normalised(sentence: str) -> str:
    """Letters and digits only, one case, one width: what two sentences are compared by."""
    return "".join(c for c in unicodedata.normalize("NFKC", sentence).casefold() if c.isalnum())


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def in_words(book: dict[str, Any], number: int, *, before_noun: bool = False) -> str:
    """`number` as this language says it; a KeyError means that no word for it was written."""
    numbers = book["numbers"]
    if before_noun and str(number) in numbers.get("before_noun", {}):
        return numbers["before_noun"][str(number)]
    words = dict(enumerate(numbers["to_thirty"], start=1)) | dict(
        zip(range(35, 101, 5), numbers["fives"], strict=True)
    )
    return words[number]


def number_slots(
    book: dict[str, Any], kind: str, phrase: str, dice: random.Random
) -> tuple[int, dict[str, str]]:
    """A number of this kind and, in every written form, it and a different one (`2`)."""
    sayable = [*range(1, 31), *range(35, 101, 5)]
    spoken = "{word" in phrase or "{count" in phrase
    right, wrong = dice.sample([n for n in NUMBERS[kind] if not spoken or n in sayable], 2)
    slots: dict[str, str] = {}
    for suffix, number in (("", right), ("2", wrong)):
        slots["n" + suffix] = str(number)
        if spoken:
            slots["word" + suffix] = in_words(book, number)
            slots["count" + suffix] = in_words(book, number, before_noun=True)
    return right, slots


def filled(book: dict[str, Any], key: str, phrase: str, dice: random.Random) -> tuple[str, dict[str, Any]]:
    """One sentence of a phrase, with its label."""
    devices, action, *rest = key.split()
    device = dice.choice(SWITCHABLE if devices == "switchable" else devices.split(","))
    other = dice.choice([d for d in SWITCHABLE if d != device])
    room, wrong_room = dice.sample(sorted(book["rooms"]), 2)
    forms = dice.choice(book["rooms"][room])
    slots = forms | {form + "2": said for form, said in dice.choice(book["rooms"][wrong_room]).items()}
    slots["other"] = dice.choice(book["devices"][other])
    if device in book["devices"]:
        slots["device"] = dice.choice(book["devices"][device])
    said, fixed_room, *_ = *rest, "-", "-"
    value: int | str | None = None if said == "-" else int(said) if said.isdecimal() else said
    if said in NUMBERS:
        value, numbers = number_slots(book, said, phrase, dice)
        slots |= numbers
    sentence = SLOT.sub(lambda slot: slots[slot[1]], phrase)
    if device == "none" or forms.keys().isdisjoint(SLOT.findall(phrase)):
        room = None if fixed_room == "-" else fixed_room
    target = {"device": device, "action": action, "room": room, "value": value}
    return sentence[0].upper() + sentence[1:], target


def turns(phrases: dict[str, list[str]], prefix: str, dice: random.Random) -> list[tuple[str, str, str]]:
    """(group, key, phrase) in the order of one round; a phrase that serves five devices gets two turns."""
    flat = [(key, phrase) for key, wordings in phrases.items() for phrase in wordings]
    named = [(f"{prefix}-{n:02d}", key, phrase) for n, (key, phrase) in enumerate(flat, start=1)]
    named += [turn for turn in named if turn[1].startswith("switchable ")]
    dice.shuffle(named)
    return named


def language_rows(language: str, test: list[str]) -> Iterator[dict[str, Any]]:
    """The rows of one language: each trap goes round its phrases until it has its share."""
    book = tomllib.loads((HERE / "phrases" / f"{language}.toml").read_text(encoding="utf-8"))
    dice = random.Random(language)
    test_texts = [normalised(sentence) for sentence in test]
    taken: set[str] = set()
    for trap, wanted in ROWS.items():
        phrases = turns(book[trap], f"t-{language}-{trap}", dice)
        tries = 0
        while wanted:
            group, key, phrase = phrases[tries % len(phrases)]
            tries += 1
            if tries > 200 * len(phrases):
                raise ValueError(f"phrases/{language}.toml [{trap}] is too small: {wanted} rows are missing")
            sentence, target = filled(book, key, phrase, dice)
            text = normalised(sentence)
            if text in taken or process.extractOne(
                text, test_texts, scorer=fuzz.ratio, score_cutoff=TOO_NEAR
            ):
                continue
            taken.add(text)
            wanted -= 1
            metadata = {"language": language, "trap": trap}
            row = {"id": f"{language}-t{len(taken):03d}", "input": sentence, "target": target}
            yield row | {"group": group, "metadata": metadata}


def train_text() -> str:
    """The whole train split as JSON Lines."""
    test = rows_of(HERE / "test.jsonl")
    lines: list[str] = []
    for language in LANGUAGES:
        sentences = [row["input"] for row in test if row["metadata"]["language"] == language]
        lines += (json.dumps(row, ensure_ascii=False) + "\n" for row in language_rows(language, sentences))
    return "".join(lines)


if __name__ == "__main__":
    (HERE / "train.jsonl").write_text(train_text(), encoding="utf-8")
