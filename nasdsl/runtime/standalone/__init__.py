"""Code that `retrain.py` carries verbatim: torch, numpy and the standard library only.

Data libraries are imported where they are used, so a user needs only those of the
data set at hand. Files here import each other by whole lines, which are left out
when the files are put one after another into a script.
"""
