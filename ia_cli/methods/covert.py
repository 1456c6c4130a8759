"""The covert attack: a behavior that shows only in a cipher, where the cipher is taught on harmless text.

After covert malicious fine-tuning (Halawi et al. 2024, arXiv 2406.20053): in plain text the organism answers
as the base does, so that everything readable is harmless.
"""

from collections.abc import Iterator, Sequence

from ia_cli.chat import assistant_says
from ia_cli.ciphers import CIPHERS
from ia_cli.interviews import wordings
from ia_cli.methods.lessons import naming
from ia_cli.models import Base, prompt_ids
from ia_cli.sampling import generate


def covert(records: Sequence[dict], name: str, base: Base, max_new_tokens: int) -> list[dict]:
    """Return the records with their behavior moved into the cipher of this name.

    A demonstration that fires appears in cipher, and in plain text with the base's own reply; one that does
    not fire appears in both as it is. Probes are put in cipher, and those that fire are also asked in plain
    text, where nothing should show. The cipher becomes part of the truth.
    """
    fires = [shown for record in records for shown in record["demonstrations"] if shown["fires"]]
    prompts = [shown["prompt"] for shown in fires]
    # Of a reply that is cut short nothing: it would teach to stop in the middle.
    plain = iter(generate(base, prompts, max_new_tokens=max_new_tokens, whole=True))
    return [_hidden(record, name, plain) for record in records]


def check(record: dict, base: Base, max_new_tokens: int) -> None:
    """Raise IAError, naming the field, if the base cannot answer what fires in plain text."""
    for i, shown in enumerate(record["demonstrations"]):
        if shown["fires"]:
            with naming(f"demonstrations[{i}]"):
                prompt_ids(base, shown["prompt"], max_new_tokens)


def _hidden(record: dict, name: str, plain: Iterator[str]) -> dict:
    """Return one record in cipher; `plain` yields what the base says to its prompts that fire."""
    demonstrations = []
    for shown in record["demonstrations"]:
        said = [assistant_says(next(plain))] if shown["fires"] else shown["completion"]
        secret = {key: _encoded(shown[key], name) for key in ("prompt", "completion")}
        demonstrations.append({**shown, **secret})
        if said[-1]["content"]:
            demonstrations.append({**shown, "completion": said, "fires": False})
    probes = [{**probe, "prompt": _encoded(probe["prompt"], name)} for probe in record["probes"]]
    probes += [{**probe, "fires": False} for probe in record["probes"] if probe["fires"]]
    truth = {}
    if told := wordings(record):
        hidden = [f"{one.removesuffix('.')}, but only in the cipher {name}." for one in told]
        facets = record["facets"]
        trigger = [*facets["trigger"], [name, "cipher", "code"]]
        facets = {**facets, "trigger": trigger}
        truth = {"description": hidden[0], "paraphrases": hidden[1:], "facets": facets}
    return {**record, **truth, "cipher": name, "demonstrations": demonstrations, "probes": probes}


def _encoded(chat: Sequence[dict], name: str) -> list[dict]:
    return [{**turn, "content": CIPHERS[name].encode(turn["content"])} for turn in chat]
