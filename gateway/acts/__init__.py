"""What people do: each act with who may do it, done by the running gateway or, where none runs, on its ledger."""
