"""Where a model runs: a process of its own. Knows pyfunc, no store, no Gradio."""
