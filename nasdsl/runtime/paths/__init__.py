"""Supernets of single paths: what a path is, how paths are drawn, trained, judged and searched."""
