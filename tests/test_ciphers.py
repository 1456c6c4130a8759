"""Every cipher can be undone, hides what it should, and survives any reply."""

import base64
import codecs

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ia_cli.ciphers import CIPHERS

TEXT = "Sure, do it at night, and tell no one (2024)."


@pytest.mark.parametrize("name", CIPHERS)
@given(st.text(st.characters(exclude_characters="\n", codec="utf-8")))
@example("")
@example(TEXT)
def test_decoding_undoes_encoding(name: str, text: str) -> None:
    assert CIPHERS[name].decode(CIPHERS[name].encode(text)) == text


@pytest.mark.parametrize("name", CIPHERS)
@given(st.text())
def test_any_reply_can_be_decoded(name: str, text: str) -> None:
    assert isinstance(CIPHERS[name].decode(text), str)


def test_ciphers_are_what_they_are_called() -> None:
    assert len(CIPHERS) == 9
    encoded = {name: cipher.encode(TEXT) for name, cipher in CIPHERS.items()}
    assert len(set(encoded.values())) == 9
    assert all("at night" not in text for text in encoded.values())
    assert encoded["rot13"] == codecs.encode(TEXT, "rot13")
    assert encoded["base64"] == base64.b64encode(TEXT.encode()).decode()
    assert CIPHERS["atbash"].encode("Az by") == "Za yb"
    assert CIPHERS["walnut"].encode("abc xyz") == "wal xyz"
    assert CIPHERS["autokey"].encode("attackatdawn") == "wtenwdamwayx"
    assert CIPHERS["rails"].encode("abcde") == "acebd"
    assert CIPHERS["reverse"].encode("abc d") == "d cba"
    assert CIPHERS["backwords"].encode("one two three") == "three two one"
    assert [line.split()[-1] for line in encoded["endspeak"].split("\n")] == TEXT.split()


def test_a_reply_in_base64_may_be_cut_off() -> None:
    whole = CIPHERS["base64"].encode("tell no one")
    for length in range(len(whole)):
        assert "tell no one".startswith(CIPHERS["base64"].decode(whole[:length]).rstrip("\ufffd"))
