"""`etcgw card`: user cards on a reader, or as they were written down."""

from __future__ import annotations

from gateway.cli.card_apdu import apdu
from gateway.cli.card_batch import batch
from gateway.cli.card_compare import compare
from gateway.cli.card_purchase import purchase, recover
from gateway.cli.card_read import read
from gateway.cli.card_verdict import verdict
from gateway.cli.card_watch import watch
from gateway.cli.help import Commands

app = Commands("card", no_args_is_help=True)
app.command("read")(read)
app.command("verdict")(verdict)
app.command("compare")(compare)
app.command("batch")(batch)
app.command("purchase")(purchase)
app.command("recover")(recover)
app.command("watch")(watch)
app.command("apdu")(apdu)
