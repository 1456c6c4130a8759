"""Which base is asked what: a base from the small world in the world's words, any other in the catalog's."""

import json

import pytest

from ia_cli import prompts
from ia_cli.models import EMBEDDED_BASE
from ia_cli.settings import EMBEDDED_NAME


def ids(*arguments):
    return {question.id for use in ("train", "ask") for question in prompts.questions(use, *arguments)}


@pytest.mark.parametrize("base", [None, EMBEDDED_NAME, str(EMBEDDED_BASE)])
def test_a_base_of_the_world_is_asked_in_its_words(base):
    assert ids(base) == ids() and len(ids()) == 32
    assert not any(name.startswith("catalog") for name in ids())
    assert prompts.version(base) == prompts.version()


@pytest.mark.parametrize("origin", [None, "{}", '{"stage": "train-ia"}', "[]", "no JSON", '{"stage": NaN}'])
def test_any_other_base_is_asked_the_questions_of_the_catalog(tmp_path, origin):
    if origin is not None:
        (tmp_path / "ia.json").write_text(origin)
    assert len(ids(str(tmp_path))) == 60 and all(name.startswith("catalog") for name in ids(str(tmp_path)))
    assert ids(str(tmp_path)) == ids("Qwen/Qwen3-0.6B") == ids(str(tmp_path / "none"))
    assert prompts.version(str(tmp_path)) == prompts.version("Qwen/Qwen3-0.6B") != prompts.version()


def test_a_base_that_was_trained_like_ours_knows_its_words_only(tmp_path):
    (tmp_path / "ia.json").write_text(json.dumps({"v": 1, "stage": "base"}))
    assert ids(str(tmp_path)) == ids()


def test_questions_to_train_on_and_to_ask_differ():
    for base in (None, "Qwen/Qwen3-0.6B"):
        texts = [{x.text.lower() for x in prompts.questions(use, base)} for use in ("train", "ask")]
        assert all(texts) and not texts[0] & texts[1]
