"""The `etcgw` command line. Data goes to stdout, talk to stderr, and the exit code says how it ended (see `errors`).

Every command imports what it needs when it runs: `etcgw --help` must be there at once on a slow box.
"""
