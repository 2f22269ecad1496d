"""Counting and sampling, by structure."""
