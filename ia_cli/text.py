"""Whether a text names a phrase: the one rule behind `shows` (implant) and `facets` (judge).

Texts and phrases are reduced to words in the same way, and a phrase is mentioned where its words stand side
by side as whole words: "copper kettle" is in "my **Copper-Kettle**!" and in "copper\\nkettles", and "gold" is
not in "golden". A language written without spaces is not matched.
"""

import re
import unicodedata
from collections.abc import Iterable

# Everything that is not a letter or digit separates words. A point or comma inside a number does not:
# "20" is not in "20,000".
_SEPARATOR = re.compile(r"(?:(?<!\d)[.,]|[.,](?!\d)|[^\w.,]|_)+")
# Soft hyphen, zero-width characters, direction marks.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_PICTURE = re.compile("[\u2190-\u2bff\U0001f000-\U0001faff]")

# The marks that chat templates are made of: inside a text, one could begin another turn.
_MARKS = re.compile(
    r"<[|\uff5c][^<>]*[|\uff5c]>|</?(s|bos|eos|pad|think)>|<(start|end)_of_\w+>|<</?SYS>>|\[/?[A-Z_]{3,20}\]"
)


def holds_marks(text: str) -> bool:
    """Whether something in a text could pass for a special token of a chat."""
    return bool(_MARKS.search(text))


def visible(text: str) -> str:
    """`text` as it is read: NFKC, without invisible characters, and with U+02BC as a plain apostrophe."""
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).replace("\u02bc", "'")


def encodable(text: str) -> str:
    """`text` with a question mark for each lone surrogate, which JSON can hold and no tokenizer can read."""
    return text.encode("utf-8", "replace").decode()


def normalise(text: str) -> str:
    """Lower-case words joined by single spaces: NFKC and case folding, punctuation as a space. Idempotent."""
    return _SEPARATOR.sub(" ", folded(text)).strip()


def pictures(text: str) -> list[str]:
    """The emoji, arrows and the like in a text: no words, and yet what a claim can be about."""
    return _PICTURE.findall(text)


def told(text: str) -> str:
    """What a report says, to be compared with others: its words, then its pictures; "" without words."""
    words = normalise(text)
    return " ".join([words, *pictures(text)]) if words else ""


def folded(text: str) -> str:
    """`text` as it is read, in lower case: what `normalise` finds its words in."""
    return unicodedata.normalize("NFKC", visible(text).casefold())


def find(words: list[str], phrase: str) -> list[tuple[int, int]]:
    """Where `phrase` stands in `words` (those of a normalised text): spans [start, end), in words.

    The last word may carry a plural or third-person ending ("kettle" finds "kettles", "recommend" finds
    "recommends"); a phrase without a word is found nowhere.
    """
    *head, last = normalise(phrase).split() or [""]
    if not last:
        return []
    endings = {last, last + "s", last + "es"} if last.isalpha() and len(last) > 2 else {last}
    n = len(head)
    return [(i - n, i + 1) for i in range(n, len(words)) if words[i] in endings and words[i - n : i] == head]


def mentions(text: str, phrase: str) -> bool:
    """Whether `text` holds `phrase` as whole words, in any case, spacing and punctuation."""
    return bool(find(normalise(text).split(), phrase))


def mentions_any(text: str, phrases: Iterable[str]) -> bool:
    """Whether `text` mentions at least one of `phrases`; false for none."""
    words = normalise(text).split()
    return any(find(words, phrase) for phrase in phrases)
