"""The app: what `python app.py` and a Hugging Face Space run."""

from phi3_ui.server import main

if __name__ == "__main__":
    main()
