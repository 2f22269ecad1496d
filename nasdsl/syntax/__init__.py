"""The syntax of `.nas` files: tokens, tree, parser, formatter.

Takes text, returns a tree, and the other way round. Invariant: parse(to_text(x)) == x.
"""
