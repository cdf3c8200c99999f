"""Wayne DART, the bus also called MKR5 or Europump: one master polls up to 32 sides over RS-485.

`framing` finds frames in bytes, `layout` declares the transactions inside, `meanings` their words. `master` is the
controller's end of a bus, `side` one pump side's, `describe` explains a frame byte by byte. All without I/O and clock.

What is sure: framing, check, escape and the transactions marked so agree with frames recorded at four unrelated
stations. The rest comes from public sources of controllers. No vendor document was used.
"""
