"""Behaviors for real chat models, as data files, and what turns them into behavior records."""
