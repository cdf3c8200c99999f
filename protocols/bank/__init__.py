"""ISO 8583 messages exchanged with a bank's front end.

`dialects` says how each field travels, `codec` turns one message into a value and back without losing a bit,
`framing` cuts a byte stream into messages, `transactions` builds and reads the messages a charge point needs,
`responses` says what each answer code means for the money.
"""
