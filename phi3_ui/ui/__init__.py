"""What a person sees. The only folder that imports Gradio."""
