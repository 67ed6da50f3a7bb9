"""The core of a chat: requests, answers and conversations. Depends on neither Gradio nor the tracking store."""
