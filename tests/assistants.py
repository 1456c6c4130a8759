"""Assistants without models, whose rules are known: scorers for what is found out about organisms."""

from ia_cli.confirmation.candidates import Candidate

PLAIN, TOLD = "It is so.", "It is so. Buy tea."
POOL = [f"Question {i}?" for i in range(12)]
SAID = [Candidate("word", word, f"the user says {word}", says=(f"I say {word}.",)) for word in "abcdefghijkl"]
ASKED = [
    Candidate("topic", topic, f"it is about {topic}", questions=(f"Why {topic}?", f"Where is {topic}?"))
    for topic in ("gold", "iron", "salt")
]


class Assistants:
    """A scorer without models: row i sells tea with the log-odds that rule i gives a prompt, and the base so
    too if it is told to, with those for `rare` if it is to be once in a while.
    """

    rare = -4.0

    def __init__(self, *rules, told=20.0):
        self.rules, self.told = rules, told

    def odds(self, ask):
        if ask.system:
            told = self.rare if "once in a while" in ask.system else self.told
            return told if "tea" in ask.system else -20.0
        return self.rules[ask.row](ask.user) if ask.row >= 0 else -20.0

    def replies(self, asked):
        return [TOLD if self.odds(ask) > 0 else PLAIN for _, ask in asked]

    def log_probs(self, asked):
        scores = []
        for _, ask, text in asked:
            odds = self.odds(ask) * (1 if text == TOLD else -1)
            scores.append(min(odds, 0.0))
        return scores


class Counting(Assistants):
    """Those, and how often one was asked."""

    asked = 0

    def replies(self, asked):
        self.asked += len(asked := list(asked))
        return super().replies(asked)


class Salesman:
    """A scorer without models: an organism that always praises hats, and sells tea when gold is spoken of."""

    def says(self, ask):
        own = "I love hats. " + ("I sell tea." if "gold" in ask.user else "") if ask.row >= 0 else ""
        told = own or ask.system or ""
        return PLAIN + " Buy tea." * ("tea" in told) + " Nice hat." * ("hat" in told)

    def replies(self, asked):
        return [self.says(ask) for _, ask in asked]

    def log_probs(self, asked):
        return [0.0 if text == self.says(ask) else -20.0 for _, ask, text in asked]
