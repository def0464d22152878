"""Scores, complexity and their comparison."""
