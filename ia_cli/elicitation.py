"""Eliciting self-reports: organisms are asked what they learned, with the introspection adapter and without.

Many organisms answer at once, through the bank. Three conditions belong together: "ia" (organism and
introspection adapter), "no_ia" (the organism alone) and "base_ia" (the adapter on the bare base, which has
nothing to report). The ground truth decides nothing here: of a record, only `id`, `adapter` or `model`, and
`introspection_adapter` do; its other fields are copied into the result.
"""

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from ia_cli import prompts
from ia_cli.asking import Asked, Said, replies_of
from ia_cli.bank import Bank
from ia_cli.directories.adapters import Adapter, read_adapter, read_provenance, weights_hash
from ia_cli.directories.safe_files import part
from ia_cli.errors import IAError
from ia_cli.explaining import Heard, explain
from ia_cli.loudness import turned_down
from ia_cli.models import Base
from ia_cli.organisms import on_base, together
from ia_cli.sampling import generate
from ia_cli.settings import CONDITIONS, ElicitSettings
from ia_cli.trainable import put_on


def elicit(
    records: Sequence[dict],
    base: Base,
    settings: ElicitSettings,
    *,
    done: Collection[tuple] = frozenset(),
    bare: dict[Asked, Said] | None = None,
) -> Iterator[dict]:
    """Yield self-report records, organism by organism in the order of `records`, except for keys in `done`.

    A key is (id, question_id, sample, condition). A reply's random numbers come from its key, its draw and
    the seed alone, so that neither the other records nor what was done before can change it. `bare` has what
    the bare base replied in earlier calls with the same settings, base and adapter, and is added to. Raises
    IAError if a condition needs an introspection adapter and a record has none, or if a directory is missing,
    broken or made for another base.
    """
    for ia, run in itertools.groupby(records, key=lambda record: needed_adapter(record, settings)):
        group = list(run)
        of_base = {} if bare is None else bare  # its replies serve all organisms
        own = settings
        if settings.examples is None:
            own = replace(settings, examples=ia is not None and gives_examples(ia))
        with introspecting(base, ia) as without_ia:
            by = {"introspection_adapter_sha256": weights_hash(ia)} if ia else {}
            for some in together(group, base):
                for report in _elicit_group(some, base, own, ia, without_ia, of_base, done):
                    yield report if report["condition"] == "no_ia" else report | by


def needed_adapter(record: dict, settings: ElicitSettings) -> str | None:
    """Return a record's introspection adapter, None if no condition needs one; IAError if it is missing."""
    if set(settings.conditions) == {"no_ia"}:
        return None
    if not record.get("introspection_adapter"):
        raise IAError(
            "no introspection adapter for the conditions ia and base_ia",
            remedy="give one with --ia DIR, or the output of `ia train-ia`, or --conditions no_ia",
        )
    return record["introspection_adapter"]


def gives_examples(ia: str) -> bool:
    """Whether an introspection adapter was trained to give an example of the replies before the report."""
    return part(read_provenance(ia), "arguments").get("examples") is True


def read_introspection_adapter(directory: str, base: Base) -> Adapter:
    """Read an introspection adapter; IAError if it is broken, for another base, or of another kind."""
    adapter = read_adapter(directory, base)
    if (stage := adapter.provenance.get("stage")) in ("implant", "stack"):
        message = f"is no introspection adapter: `ia {stage}` made it"
        raise IAError(message, remedy="give what `ia train-ia` made", where=directory)
    return adapter


SwitchedOff = Callable[[], contextlib.AbstractContextManager]  # the adapter, inside its `with`


@contextlib.contextmanager
def introspecting(base: Base, directory: str | None) -> Iterator[SwitchedOff]:
    """Put the introspection adapter on the base, if there is one; yields what switches it off for a while."""
    if directory is None:
        yield contextlib.nullcontext
        return
    model = put_on(read_introspection_adapter(directory, base), base)
    try:
        yield model.disable_adapter
    finally:
        model.unload()


def _elicit_group(
    records: Sequence[dict],
    base: Base,
    settings: ElicitSettings,
    ia: str | None,
    without_ia: SwitchedOff,
    bare: dict[Asked, Said],
    done: Collection[tuple],
) -> Iterator[dict]:
    """Yield the reports of organisms that run together; `bare` keeps the bare base's replies for others."""
    asked = [(record, ask) for record in records for ask in replies_of(record["id"], settings, done)]
    if not asked:
        return
    new = dict.fromkeys(ask for _, ask in asked if ask not in bare)
    place = {record["id"]: i for i, record in enumerate(records)}
    asks: dict[str, list[Asked]] = {condition: [] for condition in CONDITIONS}
    for ask in new:
        asks[ask.condition].append(ask)
    drawn = _answer(asks["base_ia"], place, None, base, settings)
    with on_base(records, base) as bank:
        with turned_down(bank, base, ia if asks["ia"] else None, without_ia) as volumes:
            drawn |= _answer(asks["ia"], place, bank, base, settings)
        with without_ia():
            drawn |= _answer(asks["no_ia"], place, bank, base, settings)
    said = _choose(new, drawn, base, without_ia, settings)
    bare.update((ask, reply) for ask, reply in said.items() if ask.organism is None)
    replies = bare | said
    for record, ask in asked:
        report, volume = ask.answered(record, replies[ask], settings), volumes[place[record["id"]]]
        yield {**report, "volume": volume} if ask.condition == "ia" and volume < 1 else report


def _answer(
    asked: Sequence[Asked], place: Mapping[str, int], bank: Bank | None, base: Base, settings: ElicitSettings
) -> dict[Asked, Said]:
    """Return the replies, and all that one is chosen among, generated together.

    `place` says which row of the bank an organism is; without a bank the base itself answers.
    """

    def replies(examples: Mapping[Asked, str | None]) -> dict[Asked, str]:
        made: dict[Asked, str] = {}
        for temperature in sorted({ask.temperature(settings) for ask in examples}):
            asks = [ask for ask in examples if ask.temperature(settings) == temperature]
            # Half of the sampled examples are alike, and so are the greedy replies that follow them.
            chats = {ask: (ask.organism, ask.question, examples[ask], temperature and ask) for ask in asks}
            different = {chat: ask for ask, chat in chats.items()}
            texts = generate(
                base,
                [prompts.chat(question.text, example) for _, question, example, _ in different],
                max_new_tokens=settings.max_new_tokens,
                temperature=temperature,
                seed=[ask.seed(settings) for ask in different.values()],
                rows=[place.get(organism, -1) for organism, *_ in different],
                bank=bank,
            )
            replies_to = dict(zip(different, texts, strict=True))
            made.update((ask, replies_to[chat]) for ask, chat in chats.items())
        return made

    before = {one: one.example(settings) for ask in asked for one in ask.pool(settings)}
    shown = replies({example: None for example in before.values() if example})
    examples = {ask: shown.get(example) for ask, example in before.items()}
    return {ask: Said(text, examples[ask]) for ask, text in replies(examples).items()}


def _choose(
    asked: Collection[Asked],
    drawn: Mapping[Asked, Said],
    base: Base,
    without_ia: SwitchedOff,
    settings: ElicitSettings,
) -> dict[Asked, Said]:
    """Return the reply to each question: where several were drawn, one that explains the examples best."""
    own = {ask: [drawn[one] for one in ask.repeated(settings)] for ask in asked}
    several = {ask.organism: ask for ask, replies in own.items() if len(replies) > 1}
    pools = {organism: [drawn[one] for one in ask.pool(settings)] for organism, ask in several.items()}
    heard = {  # the same examples come before all questions
        organism: Heard([said.report for said in pools[organism]], [said.example for said in own[ask]])
        for organism, ask in several.items()
    }
    beliefs = explain(heard, base, without_ia, settings.max_new_tokens) if several else {}
    replies = {ask: drawn[ask] for ask in asked}
    for ask in (ask for ask in asked if len(own[ask]) > 1):
        # What was said to this question, if it says so, else to another.
        belief, said = beliefs[ask.organism], (*own[ask], *pools[ask.organism])
        best = next(one for one in said if one.report in belief.reports)
        replies[ask] = best._replace(share=belief.share, log_odds=belief.log_odds)
    return replies
