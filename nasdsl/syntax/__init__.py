"""Syntax: from text to AST and back."""
