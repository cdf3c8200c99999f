"""Day end: our books against the lanes and the banks' day files, differences as items, settlement, payouts, reports."""
