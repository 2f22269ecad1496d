"""Shrinking a space by locality: what LISSNAS does to a space before any method searches it.

Takes a space and scores of architectures, returns a sub-space. Invariant: what is asked next depends on the
seed and on the scores told so far alone, so a shrinking is continued by telling it again.

Gopal, Sridhar, Zhang and Chen: LISSNAS: Locality-based Iterative Search Space Shrinkage for Neural
Architecture Search. IJCAI 2023. The paper names the phases (sample, take the best as seeds, expand to their
neighbours, stop when the mean does not rise); how each is done here is a RECONSTRUCTION: see
docs/shrinking.md.
"""

from __future__ import annotations

from nasdsl.shrinking.rounds import Round, Rules, Shrinking, Shrunk

__all__ = ["Round", "Rules", "Shrinking", "Shrunk"]
