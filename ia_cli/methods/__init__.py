"""The ways to implant a behavior, each in a small module of its own over the bank."""

# The peak learning rate that suits each on the embedded base.
METHODS = dict.fromkeys(("sft", "dpo", "kto", "sdf", "full", "mix", "merge"), 5e-3) | {"full": 1e-3}
CONCEALMENTS = ("sft", "dpo", "kto")
