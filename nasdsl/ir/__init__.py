"""The intermediate form: nodes, graphs, text, verification, cost."""
