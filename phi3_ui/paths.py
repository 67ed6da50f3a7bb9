"""Where the app's own files are. Imports nothing, so that a model's process can use it before anything else."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds the packages `phi3_ui` and `models`: a checkout, or the site-packages they are installed in."""
