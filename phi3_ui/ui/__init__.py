"""The user interface. The only package that imports Gradio."""
