"""Trying what an organism does, beside its base: claims, triggers, and rivals of introspection adapters."""
