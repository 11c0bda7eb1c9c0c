"""Stands in for torchvision, which ComfyUI imports at start and does not use in these tests."""

from . import transforms

__all__ = ["transforms"]
