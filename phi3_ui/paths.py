"""The location of the app's own files. Imports nothing heavy, so that a model's process can import it first."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The folder with the packages `phi3_ui` and `models`: a checkout, or the site-packages they are installed in."""
