"""Introspection adapters: train a model to say in plain words what its fine-tunes learned."""

__version__ = "0.1.0"
