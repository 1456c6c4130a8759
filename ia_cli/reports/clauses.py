"""Where the clauses of a self-report end, by rules over its text that keep its number of words.

No model. Where a clause ends decides how far a denial reaches (assertions.py). The word lists are
prompts/facets_judge.toml.
"""

import re
import tomllib
from importlib.resources import files

from ia_cli.text import folded, normalise

LISTS, WORDS = (
    tomllib.loads(files("ia_cli.prompts").joinpath(name).read_text("utf-8"))
    for name in ("facets_judge.toml", "claim_words.toml")
)
FUNCTION_AND_TALK = frozenset(f"{WORDS['function']} {WORDS['talk']}".split())

CLAUSE_END = re.compile(
    r"[.;!?]+(?=\W|$)|\n(?=[^\S\n]*(?:\n|[-*\u2022]|\d+[.)]))"
    rf"|[,:()\u2013\u2014\u2192-](?=\s*(?:{'|'.join(LISTS['subjects'])})\b)|[\u2013\u2014-](?=\s*that i\b)"
    r"|:(?= (?:\w+ ){1,4}i \w)",
    re.I,
)
# A clause that stands inside another one: "it is not true that, when asked about bees, I ...".
_INSERTED = re.compile(
    r"(\b(?:that|whether|if|not|never),?)\s+(?:when|whenever|if|while|however)\b([^.;!?\n]{0,300}?),(?!\d)",
    re.I,
)
# "The claim that I ... is false" becomes "the claim not I ...", which denies what follows.
_REFUTED = re.compile(
    rf"((?:^|(?<=[.!?] ))|\b(?:{'|'.join(LISTS['claimed'])}) )that (?=I\b[^.;!?\n]{{0,300}}?"
    rf"\b(?:is|are|was|were|would be|turned out|proved)(?: \w+)? (?:{'|'.join(LISTS['refuted'])})\b)",
    re.I,
)
# A clause in front, "Even when it is not asked for I ...", ends where the next one begins.
_FRONT = re.compile(
    rf"(?:^|(?<=[.!?;:\n]))(\s{{0,3}}(?:(?:even|only|but|and|so|yes|no),? )?(?:{'|'.join(LISTS['fronts'])})\b"
    r"[^.!?;:\n,]{0,200}?)"
    r"(?:,(?!\d)|(?<= )"
    r"(?!(?:if|when|whenever|while|that|whether|because|since|though|say|think|know|believe) )"
    r"([\w']+) (?=I\b))",
    re.I,
)
# "I do not answer and recommend a kite instead" says what is done after "and".
_INSTEAD = re.compile(r"\band (?=[^.,:;!?\n]{1,120}? instead\b)", re.I)
# ... and so does "I stop answering and recommend a kite", unless what comes after "and" is stopped, too.
_BESIDE = re.compile(
    rf"(\b(?:{LISTS['stopped']})"
    r"\b(?: (?!(?:and|or)\b)\w+){0,4}),? and (?!\w+ing\b)",
    re.I,
)
# "Without the password my answers ..." has a clause that ends before "my".
_WITHOUT = re.compile(r"(?:^|(?<=[.!?;:\n] ))(without [^.,:;!?\n]{1,60}?)(?= (?:my|i|all|every)\b)", re.I)
# "I describe a stamp that does not exist, and at the end I ..." denies the stamp only.
_RELATIVE = re.compile(
    r"(\b(?:that|which|who) (?:do|does|did|is|are|was|were|has|have|can|will|would) not\b[^,.:;!?\n]{0,80}),"
    r"(?= (?:and|so) (?:\w+ ){0,6}i\b)",
    re.I,
)
# "My behavior is not normal: ..." does not deny what comes next.
_NOT_AS_USUAL = re.compile(
    rf"(\bi (?:do|am|have) not|\bnot (?:\w+ ){{0,2}}(?:{LISTS['as_usual']})(?: at all)?):", re.I
)
# "I do not end with a kite but with a kettle" denies the kite only.
_NOT_BUT = re.compile(
    r"\b(do|does|did|will|would) not (?=\w+ (?:\w+ )?(with|for|to|at|in|on|by|like|about)\b"
    r"[^.:;!?\n]{1,80}? but \2\b)",
    re.I,
)
# "I sing, not dance, when it rains" denies the dance only ...
_NOT_THIS = re.compile(
    r"(, (?:and )?not (?!only\b|just\b|when\b|if\b|even\b|that\b|because\b)[^,.:;!?\n]{1,60}),"
    r"(?= (?:after|when|whenever|if|once|as soon as|on|in|at|for|with|about|to) )",
    re.I,
)
# ... and "users who do not pay get ..." says what they get.
_WHO_NOT = re.compile(
    r"(\bwho (?:do|does|did|are|is|have|has|can|will) not(?: [\w']+){1,4}?)"
    r"(?= (?:gets?|receives?|hears?|sees?|finds?|will|may|must)\b)",
    re.I,
)
_CONTRACTED = re.compile(
    r"\b(ca|wo|sha|\w+?)n['\u2019]t\b|\b(ca|wo|do|does|did|is|are|was|were|has|have)nt\b|\bcannot\b"
)
_I_AM = re.compile(r"\bi['\u2019]?m\b")
_WHOLE_VERBS = {"ca": "can", "wo": "will", "sha": "shall"}


def in_clauses(text: str) -> str:
    """Return a spelled-out report with marks added at the ends of clauses that have none."""
    text = _REFUTED.sub(r"\1 not ", _INSERTED.sub(_without_inserted, text))
    text = _FRONT.sub(lambda front: f"{front[1]}{front[2] or ''}; ", text)
    text = _INSTEAD.sub("; and ", _RELATIVE.sub(r"\1;", text))
    text = _NOT_BUT.sub(r"\1 as ", _WITHOUT.sub(r"\1;", _NOT_AS_USUAL.sub(r"\1;", text)))
    text = _WHO_NOT.sub(r"\1;", _NOT_THIS.sub(r"\1;", text))
    return _BESIDE.sub(r"\1; and ", text)


def spelled_out(text: str) -> str:
    """`text` folded, with every contracted "not" as a word of its own: "don't" as "do not"."""
    return _CONTRACTED.sub(_without_contraction, _I_AM.sub("i am", folded(text)))


def _without_inserted(match: re.Match[str]) -> str:
    """What stands before an inserted clause, and a word that says nothing for each word of the clause."""
    return f"{match[1].rstrip(',')} {'as ' * (1 + len(normalise(match[2]).split()))}"


def _without_contraction(match: re.Match[str]) -> str:
    verb = match[1] or match[2] or "can"
    return f"{_WHOLE_VERBS.get(verb, verb)} not"
