"""Judges besides `facets`, how well they agree with people, and from verdicts to rates."""
