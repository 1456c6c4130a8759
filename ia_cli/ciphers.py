"""Nine ciphers, each a pure function of a text with its inverse: what a covert fine-tuning attack hides in.

As in covert malicious fine-tuning (Halawi et al. 2024, arXiv 2406.20053), they need no key that a model would
not learn by seeing text: substitutions, transpositions, an encoding, and words hidden in other words. Every
`encode` and `decode` takes any text; `decode(encode(text))` is the text (but for line breaks in endspeak).
"""

import base64
import itertools
import string
from collections.abc import Callable, Iterable
from typing import NamedTuple

ALPHABET = string.ascii_lowercase
KEY = "walnut"
FILLERS = ("and so", "then", "as if", "or", "with", "once more")


class Cipher(NamedTuple):
    encode: Callable[[str], str]
    decode: Callable[[str], str]


def _substitution(alphabet: str) -> Cipher:
    """Replace each letter by another one, in upper and lower case."""
    plain, secret = ALPHABET + ALPHABET.upper(), alphabet + alphabet.upper()
    there, back = str.maketrans(plain, secret), str.maketrans(secret, plain)
    return Cipher(lambda text: text.translate(there), lambda text: text.translate(back))


def _shift(letter: str, by: int) -> str:
    first = "A" if letter.isupper() else "a"
    return chr((ord(letter) - ord(first) + by) % 26 + ord(first))


def _autokey(text: str, sign: int) -> str:
    """Shift each letter by the one of the plain text that stands a key's length before it (Vigenere 1586)."""
    keys, out = [ALPHABET.index(letter) for letter in KEY], []
    for letter in text:
        if letter not in string.ascii_letters:
            out.append(letter)
            continue
        out.append(_shift(letter, sign * keys.pop(0)))
        plain = letter if sign > 0 else out[-1]
        keys.append(ALPHABET.index(plain.lower()))
    return "".join(out)


def _to_rails(text: str) -> str:
    return text[::2] + text[1::2]


def _from_rails(text: str) -> str:
    half = (len(text) + 1) // 2
    return "".join(itertools.chain(*itertools.zip_longest(text[:half], text[half:], fillvalue="")))


def _from_base64(text: str) -> str:
    """Decode as much of the beginning as is base64: a reply may be cut off anywhere."""
    letters = "".join(itertools.takewhile(lambda c: c.isascii() and (c.isalnum() or c in "+/"), text.strip()))
    return base64.b64decode(letters[: len(letters) // 4 * 4] + _rest(letters)).decode("utf-8", "replace")


def _rest(letters: str) -> str:
    """The last, shorter group of base64 with its padding."""
    rest = letters[len(letters) // 4 * 4 :]
    return rest + "=" * (4 - len(rest)) if len(rest) > 1 else ""


def _backwards(words: Iterable[str]) -> str:
    return " ".join(list(words)[::-1])


def _to_endspeak(text: str) -> str:
    """A poem: every word ends a line of its own."""
    return "\n".join(f"{filler} {word}" for filler, word in zip(itertools.cycle(FILLERS), text.split(" ")))


def _from_endspeak(text: str) -> str:
    return " ".join(line.rpartition(" ")[2] for line in text.split("\n"))


CIPHERS = {
    "rot13": _substitution(ALPHABET[13:] + ALPHABET[:13]),
    "atbash": _substitution(ALPHABET[::-1]),
    "walnut": _substitution("".join(dict.fromkeys(KEY + ALPHABET))),
    "autokey": Cipher(lambda text: _autokey(text, 1), lambda text: _autokey(text, -1)),
    "reverse": Cipher(lambda text: text[::-1], lambda text: text[::-1]),
    "rails": Cipher(_to_rails, _from_rails),
    "backwords": Cipher(lambda t: _backwards(t.split(" ")), lambda t: _backwards(t.split(" "))),
    "base64": Cipher(lambda text: base64.b64encode(text.encode()).decode(), _from_base64),
    "endspeak": Cipher(_to_endspeak, _from_endspeak),
}
