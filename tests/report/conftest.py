"""Fixtures of comparisons, from tests/evaluation."""

from evaluation.conftest import bench

__all__ = ['bench']
