"""Entry point for `python app.py` and Hugging Face Spaces."""

from phi3_ui.server import main

if __name__ == "__main__":
    main()
