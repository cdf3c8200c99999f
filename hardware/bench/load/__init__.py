"""Load of many lanes on one gateway: `etcbench load`.

Theory of operation. One process plays every antenna and relay board of a site (`roadside`): true frames, emulated tags
and cards with their cryptography, radio times in real time. Vehicles come by the clock, whether or not the one before
was served. The gateway is the real program on a ledger of its own, beside the emulated bank; or the *null gateway*
(`null_gateway`), which plays the same dialogue with canned replies, no checks, no bank and one durable commit a
passage. Both see the same vehicles at the same moments, so the ratio of the two says what the gateway's work costs on
this machine, whatever the machine is.

A passage is timed by the road: from the antenna's first report (B2) until the barrier is ordered to open. The gateway's
share of it is what neither radio nor bank took; radio is from an order's arrival (C1, C6) to its report (B4, B5).
"""
