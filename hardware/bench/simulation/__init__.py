"""The gateway in virtual time: one thread, one seed, and everything that can go wrong.

The very code a site runs (lanes, antenna driver, debit engine, ledger, bank link, outbox, recovery) is set up against
emulated antennas with real cards, and a bank with a book of its own. Only three things are not what a site has: the
event loop's clock jumps to the next timer, links are in memory and do harm on purpose, and the ledger's writer is
driven by timers instead of its thread. Relay boards are simulated at their coils and inputs.

`world` sets up one such site, `workloads` drive vehicles or debits through it, `invariants` watches every commit, every
posting of the bank, every purchase of a card and every lift of a barrier, `log_reader` every line of the log, and
`trace` writes down what happens. What a seed does, it does again, byte for byte.
"""
