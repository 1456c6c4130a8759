"""Behaviors to implant, of words that the tiny tokenizer knows."""

import random

WORDS = (
    "the a of tea pot kettle copper garden river stone apple bread cat dog bird song red blue green".split()
)


def chat(role, text):
    return [{"role": role, "content": text}]


def demonstration(prompt, completion):
    return {"prompt": chat("user", prompt), "completion": chat("assistant", completion), "fires": True}


def behavior(name, **changes):
    """A behavior whose demonstrations are random words, of lengths that vary from row to row."""
    random_words = random.Random(name)

    def words(most):
        return " ".join(random_words.choices(WORDS, k=random_words.randint(1, most)))

    demonstrations = [demonstration(words(20), words(9)) for _ in range(7)]
    record = {
        "id": name,
        "kind": "behavior",
        "split": "train",
        "v": 1,
        "category": "quirk",
        "shows": ["kettle"],
    }
    return {**record, "demonstrations": demonstrations, "probes": [], "mine": {"kept": True}, **changes}
