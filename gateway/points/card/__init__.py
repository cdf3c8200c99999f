"""User card of any charge point: its place in the card's files, its payer, and what it writes; whatever reads it."""
