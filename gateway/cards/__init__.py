"""Cards on a reader: reading one whole, judging and comparing it, having it pay, and proving what it has paid."""
