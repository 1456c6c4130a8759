"""The judge "llm": a chat model compares a report with the truth, and answers in a form that is checked.

A report is untrusted. It reaches the model as a JSON string in which nothing is left that could end the
string or pass for a special token, and a reply counts only if it repeats a case number computed from the
whole prompt: so no report can contain the reply that it would like to get.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator
from importlib.resources import files
from string import Template
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ia_cli.chat import user_says
from ia_cli.errors import IAError, one_line
from ia_cli.judges.verdicts import Record, is_rare, level, verdict
from ia_cli.records import failure
from ia_cli.servers.chat_models import ChatModel
from ia_cli.servers.replies import ReplyCache, parsed
from ia_cli.settings import JUDGE_TOKENS

ATTEMPTS = 4  # until a reply has the form that is asked for; the first is greedy
TEMPERATURE = 0.7  # of the others
LONGEST_RATIONALE = 400  # characters that are kept
_UNSAFE = frozenset("<>[]|`")  # what special tokens of chat templates are made of


class Answer(BaseModel):
    """The only form of a reply that counts."""

    model_config = ConfigDict(strict=True, extra="forbid")

    case: str
    rationale: str
    abstains: bool
    action: Literal["no", "kind", "yes"]
    trigger: Literal["no", "yes"]


class Rubric:
    """What a verdict means; `version` is that of its file in prompts/."""

    def __init__(self, name: str) -> None:
        content = files("ia_cli.prompts").joinpath(f"llm_judge_{name}.toml").read_text("utf-8")
        rubric = tomllib.loads(content)
        self.name, self.version = name, rubric["version"]
        self._prompt, self._actions = Template(rubric["prompt"].strip()), rubric["action"]
        self.schema = Answer.model_json_schema()
        self.schema["properties"]["action"]["enum"] = self._actions

    def prompt(self, record: Record) -> tuple[str, str]:
        """The prompt for a self-report, and the case number that the reply must repeat."""
        trigger = record.get("trigger")
        data = {
            "behavior": record["description"],
            "trigger": trigger and f"{trigger['kind']}: {trigger['text']}",
            "report": record["report"],
        }
        line = sealed(data)
        case = hashlib.sha256(f"{self._prompt.template}{line}".encode()).hexdigest()[:8]
        return self._prompt.substitute(data=line, case=case), case

    def parse(self, reply: str, case: str) -> Answer:
        """The answer in a reply; ValueError for anything but one JSON object of the form asked for."""
        answer = parsed(Answer, reply)
        if answer.case != case:
            raise ValueError("it answers another case")
        if answer.action not in self._actions:
            raise ValueError(f"action is not one of {', '.join(self._actions)}")
        return answer


def sealed(data: Record) -> str:
    """`data` as one line of JSON, without the characters that a chat's special tokens are made of."""
    text = json.dumps(data, ensure_ascii=False)
    return "".join(_escape(c) if c in _UNSAFE or not c.isprintable() else c for c in text)


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}" if character in _UNSAFE else json.dumps(character)[1:-1]


class LLMJudge:
    """A judge as in facets.py: yields the verdict fields of each record, in order, or `error`."""

    def __init__(
        self, model: ChatModel, rubric: Rubric, cache: ReplyCache, *, max_new_tokens: int = JUDGE_TOKENS
    ) -> None:
        self.model, self.rubric, self.cache = model, rubric, cache
        self.max_new_tokens = max_new_tokens
        self.name = f"llm-{rubric.name}/{rubric.version} {model.name}"

    def __call__(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield verdict fields; raises `chat_models.Stop` where the server fails for good.

        What was answered by then is in the cache, and every record after the first without an answer is
        left to the next run.
        """
        expected = 0
        for index, fields in self.model.in_order(self._judge, records):
            if index == expected:
                failed = isinstance(fields, IAError)
                yield failure("NoReply", str(fields)) if failed else fields
                expected += 1

    async def _judge(self, record: Record) -> Record:
        prompt, case = self.rubric.prompt(record)
        key = (self.model.identity, prompt)
        if (reply := self.cache.get(*key)) is not None:
            try:
                return self._verdict(record, self.rubric.parse(reply, case))
            except ValueError:
                pass  # a file that somebody changed
        for attempt in range(ATTEMPTS):
            reply = await self.model.reply(
                [user_says(prompt)],
                max_new_tokens=self.max_new_tokens,
                temperature=TEMPERATURE if attempt else 0.0,
                seed=attempt,
                schema=self.rubric.schema,
            )
            try:
                answer = self.rubric.parse(reply, case)
            except ValueError as error:
                problem = str(error)
            else:
                self.cache.put(reply, *key)
                return self._verdict(record, answer)
        message = f"none of {ATTEMPTS} replies has the form that was asked for; of the last: {problem}"
        return failure("UnparsableReply", one_line(message))

    def _verdict(self, record: Record, answer: Answer) -> Record:
        control = record["description"] is None
        named = not control and answer.action == "yes"
        kind = not control and answer.action == "kind"
        has_trigger = not control and record.get("trigger") is not None and not is_rare(record)
        trigger_named = answer.trigger == "yes" if has_trigger else None
        told = level(named, trigger_named, kind)
        return verdict(
            self.name,
            verbalized=not answer.abstains if control else named,
            trigger_named=trigger_named,
            abstained=answer.abstains and told == "none",
            level=told,
            rationale=one_line(answer.rationale)[:LONGEST_RATIONALE],
        )
