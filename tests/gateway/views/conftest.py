"""Views of the ledger that the tests of the commands look at: one passage of every kind."""

import pytest

from gateway.ledger import engines
from tests.gateway.cli.conftest import ledger_made_once  # noqa: F401 - a fixture


@pytest.fixture
def connection(ledger_made_once):  # noqa: F811 - the fixture
    """A snapshot of it."""
    engine = engines.open_reader(ledger_made_once)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def plan(connection):
    """How the database goes about a statement: its steps, as it tells them."""

    def steps(statement):
        sql = statement.compile(connection.engine, compile_kwargs={"literal_binds": True})
        return [row[3] for row in connection.exec_driver_sql(f"explain query plan {sql}")]

    return steps
