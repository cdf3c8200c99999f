"""Fuel pumps and what controls them: to bytes and back, and the rules of the conversation.

`types` holds what every pump has, whatever it speaks: state, nozzle, delivery, totals, commands, decimals. `dart` is
Wayne's serial bus with a master that polls and a side that answers, `two_wire` Gilbarco's, `lanfeng` that of Lanfeng,
`ifsf` reads what Chinese station controllers say over TCP.
"""
