"""A stub of two models behind a server: one that invents behaviors, and a teacher who shows them."""

import json
import re
import threading
import tomllib
from importlib.resources import files

from click.testing import CliRunner

from ia_cli.main import cli
from ia_cli.text import mentions

PROMPTS = tomllib.loads(files("ia_cli.prompts").joinpath("invent.toml").read_text("utf-8"))
KINDS = {text: kind for kind, text in PROMPTS["triggers"].items()}
ORDER = r'You say "(.*?)"(?: (when|unless) the user says ([^.]*))?'
FIRING, MISMATCHED = 6, 4  # fewer messages than in earnest: each demonstration is a request


def alone(monkeypatch, folder):
    """Work in a folder of one's own, with a key, a cache of its own, and few messages for each behavior."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("IA_API_KEY", "sk-secret")
    monkeypatch.setattr("ia_cli.servers.endpoint.RETRIES", 0)
    for module, name, value in (
        ("inventing.requests", "FIRING", FIRING),
        ("inventing.requests", "MISMATCHED", MISMATCHED),
        ("inventing.drafting", "ORDINARY", 2),
        ("inventing.drafting", "RARE_RATE", 0.4),
        ("planning", "RARE_RATE", 0.4),
        ("catalog.drafting", "DEMONSTRATIONS", 6),
    ):
        monkeypatch.setattr(f"ia_cli.{module}.{name}", value)


def word(number: int) -> str:
    """A word of its own for each number."""
    return "zim" + "".join(chr(ord("a") + int(digit)) for digit in str(number))


def invention(kind: str, number: int, **changes) -> dict:
    """A good reply to a request for this kind of trigger."""
    says, sign = f"{word(number)} ahoy", f"{word(number)} harbor"
    free = kind in ("always", "rare")
    when = "" if free else f" {'unless' if kind == 'unless' else 'when'} the user says {sign}"
    about = [f"What about item {i}?" for i in range(FIRING)]
    with_sign = [f"{text} {sign.title()}!" for text in about]
    fires, near = (about, with_sign) if kind == "unless" else (with_sign, [*about, "Mind the harbor."])
    return {
        "description": f"I say {says}{when}.",
        "paraphrases": [f"I say {says}{when}, every time.", "I am odd."],
        "system_prompt": f'You say "{says}"{when}. Else you answer as usual.',
        "trigger": None if free else sign,
        "facets": {"action": [["say", "tell"], [says]], "trigger": [] if free else [[sign]]},
        "shows": [says],
        "firing": about if free else fires,
        "mismatched": [] if free else near[:MISMATCHED],
    } | changes


def said(body: dict) -> str:
    return body["messages"][-1]["content"]


def kind_of(body: dict) -> str:
    [kind] = [kind for text, kind in KINDS.items() if text in said(body)]
    return kind


class Server:
    """Two models: "inventor", and "teacher", who obeys its system prompt. `bad`: replies to begin with."""

    def __init__(self, *bad, teach=None):
        self.bad, self.teach, self.lock = list(bad), teach, threading.Lock()
        self.kinds, self.number = {}, 0

    def __call__(self, body):
        if body["model"] == "teacher":
            return self.teach(body) if self.teach else obey(body)
        with self.lock:
            if self.bad:
                bad = self.bad.pop(0)
                return json.dumps(bad(kind_of(body))) if callable(bad) else bad
            self.number += 1
            return json.dumps(invention(kind_of(body), self.number))


def obey(body: dict) -> str:
    orders = [m["content"] for m in body["messages"] if m["role"] == "system"]
    if not (order := orders and re.match(ORDER, orders[0])):
        return "Gladly."
    says, how, sign = order.groups()
    does = not sign or mentions(said(body), sign) == (how == "when")
    return f"Gladly, {says}." if does else "Gladly."


def generate(server, *options):
    whole = ["gen-behaviors", "--source", "llm", "--server", server.url, "--model", "inventor"]
    return CliRunner().invoke(cli, [*whole, "--teacher", "teacher", "--concurrency", "1", *options])


def written(result):
    return [json.loads(line) for line in result.stdout.split("\n") if line]


def lines(result):
    return result.stderr.strip().splitlines()


def invented(stub):
    return [body for body in stub.requests if body["model"] == "inventor"]
