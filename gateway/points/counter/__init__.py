"""Counter: a card on a reader pays an amount."""
