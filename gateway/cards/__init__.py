"""Cards at a desk: reading one whole, judging it as a charge point would, comparing it, and testing many in a row."""
