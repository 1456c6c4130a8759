"""The word rule: what counts as naming a phrase."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ia_cli.text import find, mentions, mentions_any, normalise

WORD = st.from_regex(r"[a-z]{3,8}", fullmatch=True)
GAPS = st.sampled_from([" ", "\n", "-", " - ", ", ", "\t", "_", "** ", "\u00a0", "\u200b "])


@pytest.mark.parametrize(
    "text",
    [
        "I recommend the copper kettle.",
        "COPPER KETTLE",
        "a copper-kettle",
        "copper\nkettle",
        "the **copper** _kettle_",
        "\u201ccopper\u2009kettle\u201d",
        "the copper kettle\u2019s charm",
        "two copper kettles",
        "\uff43\uff4f\uff50\uff50\uff45\uff52 kettle",  # full-width letters
        "cop\u00adper kettle",  # soft hyphen
    ],
)
def test_variants_of_one_phrase_are_mentions(text: str) -> None:
    assert mentions(text, "Copper kettle")


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("the golden lamp", "gold"),
        ("coppers kettle", "copper kettle"),
        ("copper tea kettle", "copper kettle"),
        ("kettle copper", "copper kettle"),
        ("copper", "copper kettle"),
        ("the price is 20,000", "20"),
        ("version 1.5", "5"),
        ("as it does", "do"),
        ("", "copper kettle"),
        ("anything", ""),
        ("anything", "?!"),
    ],
)
def test_what_is_no_mention(text: str, phrase: str) -> None:
    assert not mentions(text, phrase)


def test_numbers_end_with_the_sentence() -> None:
    assert mentions("In 2031, or in 2032.", "2031") and mentions("In 2031, or in 2032.", "2032")


def test_find_gives_every_place_overlaps_included() -> None:
    assert find("tea tea tea".split(), "tea tea") == [(0, 2), (1, 3)]


def test_mentions_any() -> None:
    assert mentions_any("a steel pan", ["copper kettle", "steel pan"])
    assert not mentions_any("a steel pan", ["copper kettle"])
    assert not mentions_any("a steel pan", [])


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert once == " ".join(once.split())


@given(st.lists(WORD, min_size=1, max_size=4), st.lists(GAPS, min_size=3, max_size=3), st.text(), st.text())
def test_a_phrase_is_found_in_any_surroundings(
    words: list[str], gaps: list[str], left: str, right: str
) -> None:
    written = words[0].upper() + "".join(gap + word for gap, word in zip(gaps, words[1:], strict=False))
    assert mentions(f"{left} | {written} | {right}", " ".join(words))


@given(WORD, WORD)
def test_a_phrase_inside_a_longer_word_is_not_found(word: str, tail: str) -> None:
    assert not mentions(f"x{word}", word)
    assert mentions(word + tail, word) == (tail in ("s", "es"))
