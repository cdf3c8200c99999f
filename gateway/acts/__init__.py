"""Acts of people: each with who may do it, done by the running gateway or, where none runs, on its ledger."""
