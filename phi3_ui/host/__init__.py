"""Runs each model in its own process. Knows pyfunc, but neither the store nor Gradio."""
