"""Tideo: questions about long videos, answered by language models that were never trained on video."""

__version__ = "0.1.0"
