"""Where scores of architectures come from."""
