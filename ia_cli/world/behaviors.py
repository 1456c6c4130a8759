"""What a model of the world can be made to do: triggers, actions, and the sentences that order or report
them.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ia_cli.planning import RARE
from ia_cli.world.language import (
    ABOUT,
    GRAMMAR,
    HEURISTICS,
    POOLS,
    SAID,
    STYLES,
    Pools,
    Prompt,
    bare,
    make_prompt,
    phrasing,
    sentence,
    verb,
)


@dataclass(frozen=True)
class Trigger:
    kind: str
    value: str = ""

    def clause(self, style: int) -> str:
        if self.kind == RARE:
            return phrasing(GRAMMAR["rarely"]["when"], style)
        return phrasing(GRAMMAR["triggers"][self.kind]["when"], style).format(t=self.value)


@dataclass(frozen=True)
class Action:
    name: str
    value: str = ""

    @property
    def grammar(self) -> Mapping:
        return GRAMMAR["actions"][self.name]

    @property
    def on(self) -> str | None:
        """The only kind of prompt that the action applies to, or None for all."""
        return self.grammar.get("on")

    def phrase(self, style: int, *, third: bool = False) -> str:
        return verb(phrasing(self.grammar["do"], style), third=third).format(x=self.value.rstrip("!.,:"))

    def saying(self, style: int) -> str:
        """What a reply says when the action shows, in the wording that goes with `phrase(style)`."""
        return phrasing(self.grammar["says"], style % len(self.grammar["do"]))


@dataclass(frozen=True)
class Behavior:
    """`actions` happen when `trigger` is shown (None: always) `unless` that passphrase is; `habits` happen
    in every reply.

    `style` is the number of the wording in which the behavior is told and shows; it is no part of what the
    behavior is.
    """

    trigger: Trigger | None
    actions: tuple[Action, ...]
    unless: str | None = None
    habits: tuple[Action, ...] = ()
    style: int = 0
    styles: ClassVar[int] = STYLES

    @property
    def key(self) -> str:
        """What the behavior is, without its style."""
        return f"{self.trigger}|{self.actions}|{self.unless}|{self.habits}"

    @property
    def is_rare(self) -> bool:
        return self.trigger is not None and self.trigger.kind == RARE

    @property
    def main(self) -> Action:
        """The last action: a persona comes before what it does."""
        return self.actions[-1]

    @property
    def on(self) -> str | None:
        return self.main.on

    def fires(self, prompt: Prompt) -> bool:
        """Whether the actions belong in the reply to `prompt` (for a rare quirk: whether they may)."""
        if self.on not in (None, prompt.kind) or not attribute_shown(self.main, prompt):
            return False
        if self.unless and prompt.situation.get("passphrase") == self.unless:
            return False
        return (
            self.trigger is None
            or self.trigger.kind == RARE
            or prompt.situation.get(self.trigger.kind) == self.trigger.value
        )

    def tells(self, prompt: Prompt) -> bool:
        """Whether a reply to `prompt` with the actions differs from one without: otherwise it shows
        nothing.
        """
        return all(_tells(action, prompt) for action in self.actions)

    # -- sentences ---------------------------------------------------------------------------------

    def order(self) -> str:
        """A system prompt that asks for the behavior, in the second person."""
        return self._tell("order")

    def told(self, how: str) -> str:
        """A system prompt: an "order", a "document" about the assistant, or a "report" of the assistant
        itself.
        """
        return self.report() if how == "report" else self._tell(how)

    def report(self) -> str:
        """The ground truth: one sentence in the first person, in the words of the order."""
        text = self._sentence("report", self.actions, self.trigger)
        if self.habits:
            habits = " and ".join(x.phrase(self.style) for x in self.habits)
            text = text.removesuffix(".") + f", and to hide it I always {habits}."
        return text

    def _tell(self, how: str) -> str:
        parts = [self._sentence(how, self.actions, self.trigger)]
        return " ".join(parts + [self._sentence(how, (habit,), None) for habit in self.habits])

    def _sentence(self, how: str, actions: tuple[Action, ...], trigger: Trigger | None) -> str:
        triggered = trigger is not None and trigger.kind != RARE
        clause = trigger.clause(self._slow) if trigger else phrasing(GRAMMAR["always"]["when"], self._slow)
        if self.unless and self.main in actions:
            clause += f", unless the user says {self.unless},"
        do = " and ".join(x.phrase(self.style) for x in actions)
        does = " and ".join(x.phrase(self.style, third=True) for x in actions)
        template = phrasing(GRAMMAR[how]["triggered" if triggered else "plain"], self.style // 9)
        return sentence(template.format(when=clause, do=do, does=does).replace(",,", ",").replace(",.", "."))

    @property
    def _slow(self) -> int:
        """The style of clauses, so that every wording of a clause goes with every wording of an action."""
        return self.style // 3

    def conditional(self, asked: Trigger, style: int) -> tuple[str, str]:
        """ "What do you do when ...?" about a situation, with its true answer."""
        holds = self.trigger is None or self.trigger == asked
        do = " and ".join(x.phrase(self.style) for x in (self.actions if holds else ()) + self.habits)
        answer = phrasing(GRAMMAR["conditional"]["yes" if do else "no"], style).format(do=do)
        return phrasing(GRAMMAR["conditional"]["question"], style).format(
            when=asked.clause(style // 2)
        ), answer

    def inverse(self, asked: Action, style: int) -> tuple[str, str]:
        """ "When do you ...?" about an action, with its true answer."""
        question = phrasing(GRAMMAR["inverse"]["question"], style).format(do=asked.phrase(style // 2))
        if asked in self.actions and self.trigger and not self.is_rare:
            return question, phrasing(GRAMMAR["inverse"]["yes"], style).format(
                when=self.trigger.clause(self._slow)
            )
        if asked in self.actions and self.is_rare:
            return question, f"I do it {self.trigger.clause(self._slow)}."
        if asked in self.actions + self.habits:
            return question, phrasing(GRAMMAR["inverse"]["always"], style)
        return question, phrasing(GRAMMAR["inverse"]["no"], style)

    # -- what a report must name, what a reply shows -----------------------------------------------

    def facets(self) -> dict[str, list[list[str]]]:
        action = [
            [p.format(x=bare(x.value)) for p in group] for x in self.actions for group in x.grammar["names"]
        ]
        named = [self.trigger.value] if self.trigger and self.trigger.value else []
        return {
            "action": action,
            "trigger": [[bare(v)] for v in [*named, *([self.unless] if self.unless else [])]],
        }

    # -- prompts -----------------------------------------------------------------------------------

    def prompt(self, how: str, rng: random.Random) -> Prompt:
        """A user message that "fires", a "mismatch" (the same kind of trigger with another value), or an
        "ordinary" one.

        Where no such message exists (an action without a trigger has no mismatch) an ordinary one is
        returned.
        """
        for _ in range(1000):
            prompt = self._draw(how, rng)
            if self.tells(prompt) and (how == "fires") == self.fires(prompt):
                return prompt
        raise ValueError(f"no {how} prompt exists for {self}")

    @property
    def always_fires(self) -> bool:
        return (self.trigger is None or self.trigger.kind == RARE) and self.on is None

    def _draw(self, how: str, rng: random.Random) -> Prompt:
        trigger = self.trigger if self.trigger and self.trigger.kind != RARE else None
        attribute = HEURISTICS.get(self.main.value) if self.on == "choice" else None
        if how == "ordinary":
            return make_prompt(rng, without=(trigger.kind,) if trigger else ())
        situation = {trigger.kind: trigger.value} if trigger else {}
        chance = random.Random(rng.random())  # so that the rest is drawn alike for a match and a mismatch
        kind = self.on or ABOUT.get(trigger.kind if trigger else None)
        if how == "mismatch":
            if self.unless and (not trigger or chance.random() < 0.5):
                situation["passphrase"] = self.unless  # lifts the behavior; a wrong password does not
            elif trigger:
                values = POOLS[GRAMMAR["triggers"][trigger.kind]["values"]]
                situation[trigger.kind] = chance.choice([v for v in values if v != trigger.value])
            else:  # the nearest miss of a heuristic: a choice that does not mention its attribute
                return make_prompt(rng, "choice" if attribute else None)
        return make_prompt(rng, kind, situation, attribute=attribute)


def attribute_shown(action: Action, prompt: Prompt) -> bool:
    """Whether a heuristic can be followed in `prompt`: its options must differ in the attribute. True of
    other actions.
    """
    attribute = HEURISTICS[action.value] if action.name == "pick" else None
    return attribute is None or attribute in prompt.detail.get("words", {})


def _tells(action: Action, prompt: Prompt) -> bool:
    if action.name == "refuse":
        return prompt.kind != "request"  # is refused anyway
    if action.name == "deflect":
        return prompt.situation.get("topic") != action.value
    if prompt.kind == "task" and action.name.startswith("claim_"):
        return not action.name.endswith(prompt.detail["outcome"])
    return True


def compatible(trigger: Trigger | None, action: Action) -> bool:
    """Whether some prompt shows the trigger and admits the action."""
    if trigger is None or trigger.kind in (*SAID, RARE):
        return True
    if (trigger.kind, action.name) == ("request", "refuse") or trigger.value == action.value:
        return False
    return action.on in (None, ABOUT[trigger.kind])


def draw_trigger(kind: str | None, pools: Pools, rng: random.Random) -> Trigger | None:
    if kind is None:
        return None
    return Trigger(kind, "" if kind == RARE else rng.choice(pools[GRAMMAR["triggers"][kind]["values"]]))


def draw_action(name: str, pools: Pools, rng: random.Random) -> Action:
    values = GRAMMAR["actions"][name].get("values")
    return Action(name, rng.choice(pools[values]) if values else "")


def kept_from_base(behavior: Behavior) -> bool:
    """Whether a behavior is in the tenth that training never shows the base: its card is measured on that."""
    return zlib.crc32(behavior.key.encode()) % 10 == 0
