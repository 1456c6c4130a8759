"""Behaviors that a chat model invents, and what turns them into behavior records."""
