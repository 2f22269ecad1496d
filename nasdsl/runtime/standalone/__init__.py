"""Code that `retrain.py` carries verbatim: torch, numpy and the standard library only.

Data libraries are imported where they are used, so a user needs only those of the
data set at hand. The files are put one after another into a script, in the order of
`nasdsl.codegen.directory.EMBEDDED`: each imports only those before it, by whole lines,
which are left out there; no name is defined in two of them; the docstring of each
is one line, which becomes a comment.
"""
