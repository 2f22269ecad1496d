"""From a syntax tree to a checked space: names, elaboration, decisions, architectures."""
