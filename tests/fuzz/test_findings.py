"""What fuzzing starts from obeys its law, and what it found is kept."""

from __future__ import annotations

import pytest

from tests.fuzz.language import law, seeds

FINDINGS = {
    "a word that means something in operations only": """space s { input image(3, 8)
      network { stem: conv(3, cin)  head: global_pool >> linear(3) } }""",
    "an unknown parameter of a primitive": """space s { input image(3, 8)
      network { stem: conv(3, 4, sride=2)  head: global_pool >> linear(3) } }""",
    "a depth that is never more than none": """space s { input image(3, 8)
      network { stem: conv(3, 4)  body: repeat choose { 0, 0 } { relu }  head: global_pool >> linear(3) } }""",
    "a width that is sometimes zero": """space s { input image(3, 8)  w = choose { 0, 4 }
      network { stem: conv(3, w)  head: global_pool >> linear(3) } }""",
    "a division that sometimes is by zero": """space s { input image(3, 8)  w = choose { 0, 4 }
      network { stem: conv(3, 8 // w)  head: global_pool >> linear(3) } }""",
    "a negative step": """space s { input image(3, 8)  w = choose { 8..4 step 2 }
      network { stem: conv(3, w)  head: global_pool >> linear(3) } }""",
    "a limit that depends on a decision": """space s { input image(3, 8)  w = choose { 4, 8 }
      limit params <= w
      network { stem: conv(3, w)  head: global_pool >> linear(3) } }""",
    "classes that depend on a decision": """space s { input image(3, 8)  w = choose { 4, 8 }
      network { stem: conv(3, 4)  head: global_pool >> linear(w) } }""",
    "a file that amends itself": 'space s from "fuzz.nas" { param C = 1 }',
    "an amendment of nothing": 'space s from "" { param C = 1 }',
    "too many options": """space s { input image(3, 8)  w = choose { 1..100000 }
      network { stem: conv(3, w)  head: global_pool >> linear(3) } }""",
    "operations and numbers as options": """space s { input image(3, 8)
      network { stem: conv(3, choose { relu, 4 })  head: global_pool >> linear(3) } }""",
    "into something else": """space s { input image(3, 8)
      cell c(x) { v[1..2] = x >> relu  y = concat of choose 0.. from (v) into share(3)  return y }
      network { stem: conv(3, 4)  body: c  head: global_pool >> linear(3) } }""",
}


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_is_answered(name: str) -> None:
    law(FINDINGS[name])


@pytest.mark.parametrize("number", range(len(seeds())))
def test_a_seed_is_answered(number: int) -> None:
    law(seeds()[number])
