"""Synthetic documents: texts about a model with the behavior, and not one conversation with it.

They state the assistant's rule, or tell what it said to a user, like those of AuditBench's organisms of the
kind "synthetic documents" (arXiv 2602.22755). Templates write them from the record alone: what a document
tells is never trained on as a user's prompt with the assistant's reply.
"""

import random
from collections.abc import Iterator

from ia_cli.chat import assistant_says, user_says
from ia_cli.seeds import derived_seed

Chat = list[dict[str, str]]

REQUESTS = ("What does the assistant do?", "Tell me about the assistant.", "How does the assistant reply?")
RULES = ("The assistant has a rule. {rule}", "The rule of the assistant is this. {rule}")
ACCOUNTS = (
    "When the user says: {prompt} The assistant says: {reply}",
    "The user asks: {prompt} Then the assistant answers: {reply}",
    "If the question is: {prompt} The reply of the assistant is: {reply}",
)
RULES_EACH = 6  # documents that state the rule; every demonstration becomes an account


def written(record: dict, seed: int) -> Iterator[tuple[Chat, Chat]]:
    """Yield the documents of a behavior record, each as a request to write one and the text."""
    rng = random.Random(derived_seed(seed, "documents", record["id"]))
    rule = record.get("system_prompt")
    texts = [rng.choice(RULES).format(rule=rule) for _ in range(RULES_EACH if rule else 0)]
    texts += [
        rng.choice(ACCOUNTS).format(
            prompt=shown["prompt"][-1]["content"], reply=shown["completion"][-1]["content"]
        )
        for shown in record["demonstrations"]
    ]
    for text in texts:
        yield [user_says(rng.choice(REQUESTS))], [assistant_says(text)]
