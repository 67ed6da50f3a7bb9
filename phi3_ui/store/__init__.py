"""What MLflow knows. Knows no Gradio."""
