"""Chat models behind OpenAI-compatible servers, or loaded in here; their replies, untrusted and cached."""
