"""Lane computer and roadside antenna: bytes to messages and back, and the manners of the conversation.

`messages` says what is told, whatever the dialect. A `dialect` is data: a framing, layouts, rules of both sides and
meanings; `registry` lists them. `session` plays one end of any of them, `describe` tells one frame to people. Only
`layout` modules know the construct library.
"""
