"""Read models: what the ledger and the files of a box say, as values that a command, a page or a report can show.

A view takes a connection (or the files it needs) and arguments, changes nothing, and returns frozen values: amounts in
fen, times in UTC microseconds, enums where the model has one. What names a person is masked unless `unmask` says
otherwise (`gateway.views.masks`). No words of a screen, no language, no time zone.
"""
