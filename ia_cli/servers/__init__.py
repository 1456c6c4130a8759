"""Models behind OpenAI-compatible servers, whose replies are not to be trusted."""
