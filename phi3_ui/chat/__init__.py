"""What a chat is. Knows no Gradio and no tracking store."""
