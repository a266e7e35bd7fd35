"""The language of a text, told by its script, and in Latin, Arabic and Cyrillic script by frequent words and letters.

Rules and a table instead of a model: enough to see that a file is half English, to split it evenly and to report
figures per language. Texts of a few words may stay undecided (`und`); `docs/guides/training-data.md` says how often.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter

from baimo.core.tuning import Row
from baimo.tuning.data.turns import text_of

UNKNOWN = "und"
"""ISO 639-2's code for what is not decided."""
NAMED = ("language", "lang", "locale")
"""Fields of a row in which a file says its language itself."""
LOOKED_AT = 600
"""Characters of a text that are looked at."""
_SCRIPTS = {
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "THAI": "th",
    "GREEK": "el",
    "HEBREW": "he",
    "DEVANAGARI": "hi",
    "BENGALI": "bn",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "ARMENIAN": "hy",
    "GEORGIAN": "ka",
    "KHMER": "km",
    "LAO": "lo",
    "MYANMAR": "my",
    "SINHALA": "si",
    "MONGOLIAN": "mn",
}
"""First words of Unicode's letter names → the language that most texts in that script are in."""
_WORDS = {
    "en": "the of and to in is are was for on with that this it you what how my please can turn set at be do not "
    "from have which who off all lights i me there your or if will would should a an by about why when where "
    "as does did need want could must any has had been but still get got use here its no show some make made just",
    "de": "der die das und ist in den dem ein eine nicht zu mit auf für von im wie ich du mein bitte kann alle aus "
    "an schalte wird sind es was sie werden auch bei nach wenn oder mir des einen einer licht stelle welche",
    "fr": "le la les des et est un une dans pour de du au aux en que qui pas sur avec je vous quel quelle mon ma "
    "ce sont il elle ne se sa son ou plus comment combien éteins allume toutes mets mes cette lumière",
    "es": "el la los las de y es un una en para por que con no del al se su mi cuál qué cómo está luz enciende apaga "
    "todas todos lo como más pero son hay este esta luces quiero puede yo cuánto abre cierra",
    "it": "il lo la gli le di e è un una in per che con non del della dei nel al alla si sono mio come qual quale "
    "accendi spegni tutte luce luci questo cosa anche più ho dal sul quanto apri chiudi",
    "pt": "o a os as de e é um uma em para por que com não do da dos das no na se meu minha qual como está luz ligue "
    "desligue todas são mais isso você ao pelo abrir fechar quero eu ligar desligar luzes",
    "nl": "de het een en is in van op voor met dat niet te zijn aan er wat hoe mijn doe alle lamp lampen zet uit "
    "ik je die om als naar bij ook welke kan deze staat wordt open dicht",
    "sv": "och är en ett i på för med att det som inte till av vad hur min mina alla tänd släck den de jag du har kan "
    "var från om ställ lampan lampor stäng",
    "da": "og er en et i på for med at det som ikke til af hvad hvor min mine alle tænd sluk den de jeg du har kan "
    "fra om lyset luk åbn hvilken",
    "nb": "og er en et i på for med at det som ikke til av hva hvor min mine alle skru slå den de jeg du har kan fra "
    "om lyset lukk åpne hvilken",
    "fi": "ja on ei että se mikä missä kaikki laita sammuta sytytä valot valo minun sinä minä ovat kun niin mutta "
    "aseta sulje avaa kuinka päälle pois onko",
    "pl": "i w na z jest nie się do to że jak co wszystkie włącz wyłącz światło światła mój moja ile jaki jaka są "
    "dla przez czy po od ustaw otwórz zamknij",
    "cs": "a v na je se že jak co všechna všechny zapni vypni světlo světla můj moje kolik jaká jaký jsou pro nebo "
    "ale když do od nastav otevři zavři rozsviť zhasni",
    "hu": "a az és van nem hogy mi hol minden kapcsold be ki fel le lámpát lámpa az én egy is meg volt de mennyi "
    "állítsd nyisd zárd mik vannak",
    "ro": "și în la de este nu să cu un o pe din care ce cum toate aprinde stinge lumina luminile mea meu sunt pentru "
    "mai oprește pornește închide deschide",
    "tr": "ve bir bu için ile ne nasıl tüm ışığı ışıkları aç kapat mı mi değil var yok çok daha olarak benim kaç da de "
    "ayarla hangi",
    "vi": "và của là trong có không cho các một được tôi bạn bật tắt đèn tất cả những với này ở nhiệt độ như thế nào "
    "mở đóng đang",
    "id": "dan yang di ke dari untuk dengan ini itu tidak ada apa bagaimana saya nyalakan matikan lampu semua adalah "
    "pada akan bisa berapa buka tutup",
    "ca": "el la els les de i és un una en per que amb no del al es què com està llum llums encén apaga tots totes "
    "meva meu quin quina obre tanca aquest són",
}
_ARABIC = {"fa": "پچژگ", "ur": "ٹڈڑےں"}
_CYRILLIC = {"uk": "іїєґ", "sr": "ђјљњћџ", "bg": "ъ", "ru": "ыэё"}
_LETTERS = {
    "de": "ßäöü",
    "fr": "çœêèàùîôâé",
    "es": "ñ¿¡áéíóú",
    "it": "èàìòù",
    "pt": "ãõçáéêó",
    "sv": "åäö",
    "da": "åæø",
    "nb": "åæø",
    "fi": "äö",
    "pl": "ąćęłńśźż",
    "cs": "ěščřžýůď",
    "hu": "őűáéöüó",
    "ro": "ăâîșțşţ",
    "tr": "ığşçöü",
    "vi": "đăơưạảấầẩậắằặẹẻếềểệịọỏốồổộớờởợụủứừửữựỳỷỹ",
    "ca": "çàèéòóíúï·",
}
_KNOWN: dict[str, tuple[str, ...]] = {}
for _language, _list in _WORDS.items():
    for _word in _list.split():
        _KNOWN[_word] = (*_KNOWN.get(_word, ()), _language)
_WORD = re.compile(r"[^\W\d_]+")


def language(text: str) -> str:
    """ISO 639-1 code of the language that most of a text is in; `und` where the rules cannot tell."""
    text = text[:LOOKED_AT]
    if text.isascii():
        return _latin(text)
    scripts = Counter(_script(letter) for letter in text if letter.isalpha())
    scripts.pop("", None)
    if not scripts:
        return UNKNOWN
    if scripts["HIRAGANA"] + scripts["KATAKANA"]:  # Japanese mixes kana and Han; Chinese has no kana
        scripts["HIRAGANA"] += scripts.pop("CJK", 0)
    for dense in ("CJK", "HIRAGANA", "HANGUL"):
        scripts[dense] *= 3  # one sign says as much as several letters
    script = max(scripts, key=lambda name: scripts[name])
    if script == "LATIN":
        return _latin(text)
    if script == "ARABIC":
        return _by_letters(text, _ARABIC, "ar")
    if script == "CYRILLIC":
        return _by_letters(text, _CYRILLIC, "ru")
    return _SCRIPTS.get(script, UNKNOWN)


def language_of(row: Row) -> str:
    """The language of a row: as it says itself, else of what is asked, else of what is answered."""
    for name in NAMED:
        said = row.item.get(name)
        if isinstance(said, str) and said:
            return said.lower().replace("_", "-")
    if not row.messages:
        return language(row.text)
    for role in ("user", "assistant"):
        words = " ".join(text_of(one) for one in reversed(row.messages) if one.role == role)
        found = language(words)
        if found != UNKNOWN:
            return found
    return UNKNOWN


def _latin(text: str) -> str:
    scores: Counter[str] = Counter()
    for word in _WORD.findall(text.lower()):
        shared = _KNOWN.get(word, ())
        for language in shared:
            scores[language] += 12 // len(shared)
    present = set(text.lower()) if not text.isascii() else set[str]()
    if present:
        for language, letters in _LETTERS.items():
            if own := len(present.intersection(letters)):
                scores[language] += 4 * own
    if not scores:
        return UNKNOWN
    (best, most), *rest = scores.most_common(2)
    return best if not rest or most > rest[0][1] else UNKNOWN


def _by_letters(text: str, letters: dict[str, str], usual: str) -> str:
    counts = {name: sum(text.lower().count(letter) for letter in own) for name, own in letters.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else usual


@functools.lru_cache(maxsize=20_000)
def _script(letter: str) -> str:
    name = "LATIN" if letter.isascii() else unicodedata.name(letter, "").partition(" ")[0]
    return "LATIN" if name == "FULLWIDTH" else name
