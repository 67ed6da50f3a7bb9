"""Models on remote servers with OpenAI-compatible APIs, as ChatModels."""
