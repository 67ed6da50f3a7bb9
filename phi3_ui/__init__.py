"""Phi-3 Chat on MLflow."""

__version__ = "0.1.0"
