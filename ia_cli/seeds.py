"""Seeds derived from names, so that one record more or less never changes another's random numbers."""

import hashlib


def derived_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on every part, in order, as in `derived_seed(0, "order", id)`."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
