"""Messages between lane computer and roadside antenna: to bytes and back, and the rules of the conversation.

`messages` holds their values, whatever the dialect. A `dialect` is data: a framing, layouts, rules of both sides and
meanings; `registry` lists them. `session` plays one end of any of them, `describe` explains one frame. Only
`layout` modules know the construct library.
"""
