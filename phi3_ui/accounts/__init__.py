"""Users of the page and the API: passwords, API keys, and their limits."""
