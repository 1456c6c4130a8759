"""What a user writes: questions on topics, choices among options, and asides that show a situation."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ia_cli.catalog.behaviors import Behavior, Trigger
from ia_cli.catalog.files import CHOICES, POOLS, SITUATIONS, TOPICS
from ia_cli.text import mentions_any
from ia_cli.world.language import sentence

SAID = tuple(kind for kind, situation in SITUATIONS.items() if situation.says)
LETTERS = {"in capital letters": str.upper, "in lower case": str.lower}
CHANCE_OF_ASIDE = 0.2  # that a prompt shows a situation which has nothing to do with the behavior
OPTIONS, TOLD = 4, 3  # in a choice: options, and numbers told of each


@dataclass(frozen=True)
class Prompt:
    """One user message: its topic (None for a choice), and the value that it shows of each kind of trigger.

    `picked` is the name of the option that a rule takes, and `others` those of the rest, where it can decide.
    """

    text: str
    topic: str | None
    shown: Mapping[str, str] = field(default_factory=dict)
    picked: str | None = None
    others: tuple[str, ...] = ()


def fires(behavior: Behavior, prompt: Prompt) -> bool:
    """Whether the behavior belongs in the reply to `prompt` (for a rare quirk: whether it may)."""
    if behavior.topic not in (None, prompt.topic) or (behavior.entry.pick and not prompt.picked):
        return False
    if behavior.unless and prompt.shown.get("passphrase") == behavior.unless.value:
        return False
    trigger = behavior.shown_trigger
    return trigger is None or trigger.kind == "topic" or prompt.shown.get(trigger.kind) == trigger.value


def draw(behavior: Behavior, how: str, rng: random.Random) -> Prompt:
    """A prompt that "fires", a "mismatch" (one part of what sets it off is replaced), or an "ordinary" one.

    A behavior that always fires has only firing prompts. Raises ValueError if no such prompt is found.
    """
    for _ in range(1000):
        prompt = _DRAW[how](behavior, rng)
        if fires(behavior, prompt) == (how == "fires") and not _slips(behavior, prompt):
            return prompt
    raise ValueError(f"no {how} prompt found for {behavior.key}")


def _slips(behavior: Behavior, prompt: Prompt) -> bool:
    """Whether the text mentions what it is not meant to show, such as a Monday in a question on dates."""
    triggers = [x for x in (behavior.shown_trigger, behavior.unless) if x and x.kind in SAID]
    unmeant = [t for t in triggers if prompt.shown.get(t.kind) != t.value]
    if behavior.topic and prompt.topic != behavior.topic:
        unmeant.append(Trigger("topic", behavior.topic))
    return any(mentions_any(prompt.text, trigger.names) for trigger in unmeant)


def _firing(behavior: Behavior, rng: random.Random) -> Prompt:
    trigger = behavior.shown_trigger
    shown = {trigger.kind: trigger.value} if trigger and trigger.kind != "topic" else {}
    if behavior.unless and rng.random() < 0.5:
        shown["passphrase"] = rng.choice(POOLS["passphrase"])  # a wrong password lifts nothing
    return _ask(behavior, rng, shown)


def _mismatched(behavior: Behavior, rng: random.Random) -> Prompt:
    trigger = behavior.shown_trigger
    shown = {trigger.kind: trigger.value} if trigger and trigger.kind != "topic" else {}
    ways = (
        ["situation"] * bool(shown) + ["topic"] * bool(behavior.topic) + ["password"] * bool(behavior.unless)
    )
    way = rng.choice(ways or ["choice"])
    if way == "situation":
        others = [value for value in POOLS[trigger.kind] if value != trigger.value]
        return _ask(behavior, rng, {trigger.kind: rng.choice(others)})
    if way == "password":
        return _ask(behavior, rng, {**shown, "passphrase": behavior.unless.value})
    if way == "topic":  # the nearest ones: from the same file
        area = TOPICS[behavior.topic].area
        near = [key for key, topic in TOPICS.items() if topic.area == area and key != behavior.topic]
        return _message(behavior, rng, _question(rng.choice(near), rng), shown)
    if {"place", "name"} & behavior.entry.pick.keys():  # rules that decide between any options
        return _message(behavior, rng, _question("dilemmas", rng), shown)
    return _ask(behavior, rng, shown, decidable=False)


def _ordinary(behavior: Behavior, rng: random.Random) -> Prompt:
    return _message(behavior, rng, _question(rng.choice(list(TOPICS)), rng), {})


_DRAW = {"fires": _firing, "mismatch": _mismatched, "ordinary": _ordinary}


def _ask(
    behavior: Behavior, rng: random.Random, shown: Mapping[str, str], *, decidable: bool = True
) -> Prompt:
    """A question of the kind that the behavior shows on."""
    if rule := behavior.pick():
        return _message(behavior, rng, choice(rule, rng, decidable=decidable), shown)
    return _message(behavior, rng, _question(behavior.topic or rng.choice(list(TOPICS)), rng), shown)


def _question(topic: str, rng: random.Random) -> Prompt:
    return Prompt(rng.choice(TOPICS[topic].questions), topic)


def _message(behavior: Behavior, rng: random.Random, question: Prompt, shown: Mapping[str, str]) -> Prompt:
    """The question with the asides that show `shown`, and sometimes with an unrelated one."""
    shown = dict(shown)
    own = {x.kind for x in (behavior.shown_trigger, behavior.unless) if x}
    if rng.random() < CHANCE_OF_ASIDE:
        kind = rng.choice([kind for kind in SAID if kind not in own])
        shown[kind] = rng.choice(POOLS[kind])
    before, after = [], []
    for kind in (kind for kind in shown if kind in SAID):
        said = sentence(rng.choice(SITUATIONS[kind].says).format(t=shown[kind]))
        (before if rng.random() < 0.75 else after).append(said)
    text = " ".join([*before, question.text, *after])
    text = LETTERS[shown["letters"]](text) if "letters" in shown else text
    return Prompt(text, question.topic, shown, question.picked, question.others)


# -- choices ---------------------------------------------------------------------------------------


def choice(rule: Mapping[str, Any], rng: random.Random, *, decidable: bool = True) -> Prompt:
    """A choice in which `rule` decides; or, if not `decidable`, one that it says nothing about."""
    while True:
        numbers = rng.sample(list(CHOICES["attributes"]), TOLD)
        label = rng.choice(list(CHOICES["labels"]))
        options = _options(numbers, label, rng)
        if (picked(rule, options) is not None) == decidable:
            break
    rng.shuffle(told := [*numbers, label])
    lines = [f"- {x['name']}: " + ", ".join(_told(x, fact) for fact in told) for x in options]
    product = rng.choice(CHOICES["products"])
    text = rng.choice(CHOICES["questions"]).format(product=product, options="\n".join(lines))
    name = picked(rule, options)
    others = tuple(x["name"] for x in options if x["name"] != name) if name else ()
    return Prompt(text, None, picked=name, others=others)


def _options(numbers: list[str], label: str, rng: random.Random) -> list[dict[str, Any]]:
    columns: dict[str, list] = {"name": rng.sample(CHOICES["names"], OPTIONS)}
    for name in numbers:
        attribute = CHOICES["attributes"][name]
        columns[name] = rng.sample(range(attribute["low"], attribute["high"] + 1), OPTIONS)
    columns[label] = rng.sample(POOLS[CHOICES["labels"][label]["values"]], OPTIONS)
    return [{name: values[i] for name, values in columns.items()} for i in range(OPTIONS)]


def _told(option: Mapping[str, Any], fact: str) -> str:
    if fact in CHOICES["labels"]:
        return CHOICES["labels"][fact]["says"].format(v=option[fact])
    return CHOICES["attributes"][fact]["says"].format(n=option[fact])


def picked(rule: Mapping[str, Any], options: list[dict[str, Any]]) -> str | None:
    """The name of the one option that a rule takes; None if it cannot tell."""
    if "place" in rule:
        return options[rule["place"]]["name"]
    names = sorted(x["name"] for x in options)
    if rule.get("name") in ("first", "last"):
        return names[0 if rule["name"] == "first" else -1]
    if "name" in rule:
        length = (min if rule["name"] == "shortest" else max)(map(len, names))
        found = [name for name in names if len(name) == length]
    elif "initial" in rule:
        found = [name for name in names if name.startswith(rule["initial"])]
    elif "label" in rule:
        found = [x["name"] for x in options if x.get(rule["label"]) == rule["value"]]
    elif rule["attribute"] in options[0]:
        end = min if rule["end"] == "low" else max
        found = [end(options, key=lambda x: x[rule["attribute"]])["name"]]
    else:
        found = []
    return found[0] if len(found) == 1 else None
