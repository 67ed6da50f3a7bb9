"""The MLflow store: its models and registry, and the conversations in its traces. Does not depend on Gradio."""
