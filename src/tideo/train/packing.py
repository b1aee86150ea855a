"""Packed sequences: the block mask and the labels that are not scored."""

from __future__ import annotations

IGNORE = -100
