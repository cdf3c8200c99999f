"""jsonPTS, the protocol of the PTS-2 forecourt controller, one box in front of most makes of pump.

JSON over HTTP or WebSocket. `messages` declares each request, answer and push, `codec` turns a body into packets and
back, `errors` says what each error code means, `signature` proves who made a body, `sides` tells it all in the words
that every pump shares.

Source, unless said otherwise: vendor's specification of jsonPTS for the PTS-2, R129 of 2025-11-04; numbers of sections
in comments are its own. Confidence: documents and their examples, no controller was at hand.
"""
