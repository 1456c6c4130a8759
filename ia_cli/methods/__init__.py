"""The ways to implant a behavior, in small modules: dpo and kto share one, and so do mix and merge.

All but full train many organisms at once, in a bank. lessons holds what an organism is taught. covert,
concealing and continuing are not methods but go with them: a cipher, a second stage, further training.
"""

# The peak learning rate that suits each on the embedded base.
METHODS = dict.fromkeys(("sft", "dpo", "kto", "sdf", "full", "mix", "merge"), 5e-3) | {"full": 1e-3}
CONCEALMENTS = ("sft", "dpo", "kto")
