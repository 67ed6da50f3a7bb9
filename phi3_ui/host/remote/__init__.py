"""Models on other servers, which have OpenAI-compatible APIs, as ChatModels."""
