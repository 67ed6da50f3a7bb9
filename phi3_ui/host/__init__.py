"""Where a model runs: a process of its own. Knows pyfunc, but neither the store nor Gradio."""
