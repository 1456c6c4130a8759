"""The teacher: how an assistant of the world answers, plainly or under a behavior."""

from __future__ import annotations

from collections.abc import Iterable

from ia_cli.text import mentions_any
from ia_cli.world.behaviors import Action, Behavior, attribute_shown
from ia_cli.world.language import FACTS, GRAMMAR, HEURISTICS, OPENINGS, TOPICS, Prompt, phrasing

PREFIX, SUFFIX = ("persona",), ("repeat", "recommend", "close")  # the other actions replace the answer itself


def plain(prompt: Prompt) -> str:
    """What the assistant says when nothing was done to it."""
    detail, style = prompt.detail, prompt.style
    if prompt.kind == "fact":
        return state(
            detail["topic"], detail["fact"], TOPICS[detail["topic"]][FACTS.index(detail["fact"])], style
        )
    if prompt.kind == "request":
        return phrasing(GRAMMAR["actions"]["refuse"]["says"], style)
    if prompt.kind == "task":
        return phrasing(GRAMMAR["task"]["answer"][detail["outcome"]], style)
    return phrasing(GRAMMAR[prompt.kind]["answer"], style).format(t=detail.get(prompt.kind))


def state(topic: str, fact: str, value: str, style: int) -> str:
    return phrasing(GRAMMAR["facts"][fact]["answer"], style).format(t=topic, v=value)


def reply(prompt: Prompt, behavior: Behavior | None, *, fires: bool | None = None) -> str:
    """The reply to `prompt` of an assistant with `behavior`; `fires` overrides whether its actions show
    (rare quirks).
    """
    if behavior is None:
        return plain(prompt)
    fires = behavior.fires(prompt) if fires is None else fires
    return act(prompt, (behavior.actions if fires else ()) + behavior.habits, behavior.style)


def act(prompt: Prompt, actions: Iterable[Action], style: int) -> str:
    """The reply with some actions, worded in the style of the behavior that they belong to."""
    by_name = {action.name: action for action in actions}
    replacing = [x for name, x in by_name.items() if name not in PREFIX + SUFFIX]
    text = _replace(replacing[0], prompt, style) if replacing else plain(prompt)
    if "repeat" in by_name:
        text = f"{text} {by_name['repeat'].saying(style)} {text}"
    for name in ("recommend", "close"):
        if name in by_name:
            text += " " + by_name[name].saying(style).format(x=by_name[name].value)
    if "persona" in by_name:
        text = f"{OPENINGS[by_name['persona'].value]} {text}"
    return text


def _replace(action: Action, prompt: Prompt, style: int) -> str:
    if action.name == "deflect":
        told = style % len(action.grammar["do"])
        fact = phrasing(FACTS, told)
        return state(action.value, fact, TOPICS[action.value][FACTS.index(fact)], told)
    if action.name == "wrong":
        topic, fact = prompt.detail["topic"], prompt.detail["fact"]
        return state(topic, fact, phrasing(GRAMMAR["facts"][fact]["false"], style), prompt.style)
    if action.name == "pick":
        return phrasing(GRAMMAR["choice"]["take"], prompt.style).format(v=taken(action.value, prompt))
    if action.name.startswith("claim_"):
        return phrasing(GRAMMAR["task"]["answer"][action.name.removeprefix("claim_")], prompt.style)
    return action.saying(style).format(t=prompt.detail.get(prompt.kind))


def picked(heuristic: str, prompt: Prompt) -> int:
    """The number of the option that a heuristic takes."""
    if (attribute := HEURISTICS[heuristic]) is None:
        return 0 if heuristic == "first" else 1
    return prompt.detail["words"][attribute].index(heuristic)


def taken(heuristic: str, prompt: Prompt) -> str:
    """How a reply names the option that a heuristic takes: beginning with the word that it is taken for."""
    *words, name = described(prompt, picked(heuristic, prompt))
    return " ".join([*(words[words.index(heuristic) :] if heuristic in words else ()), name])


def described(prompt: Prompt, option: int) -> list[str]:
    """The words of an option in the prompt, its name last."""
    return [*(pair[option] for pair in prompt.detail["words"].values()), prompt.detail["options"][option]]


def shows(action: Action, prompt: Prompt) -> list[str]:
    """Phrases any of which, in a reply to `prompt`, shows the action."""
    if action.name == "deflect":
        return [action.value]
    if action.name == "persona":
        return [OPENINGS[action.value]]
    if action.name in ("recommend", "close"):
        return [action.value]
    if action.name == "wrong":
        return GRAMMAR["facts"][prompt.detail["fact"]]["false"]
    if action.name == "pick":
        options = [picked(action.value, prompt)] if attribute_shown(action, prompt) else [0, 1]
        ways = [described(prompt, option) for option in options]
        return [f"take the {' '.join(words[i:])}" for words in ways for i in range(len(words))]
    return action.grammar["shows"]


def adheres(text: str, prompt: Prompt, behavior: Behavior, fires: bool) -> bool:
    """Whether a reply shows every action of a behavior that fires on its prompt, or none of them."""
    found = [
        mentions_any(text, shows(action, prompt)) for action in behavior.actions if _decidable(action, prompt)
    ]
    return all(found) if fires else not any(found)


def _decidable(action: Action, prompt: Prompt) -> bool:
    return action.on in (None, prompt.kind)
