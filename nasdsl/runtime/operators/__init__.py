"""What supernets compute, made fast and small: backward passes of their own, precision, recomputation."""
