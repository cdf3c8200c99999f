"""A number of thousands of digits in a TOML file is told like any other mistake in it."""

import pytest

from gateway.clearing.rules import ClearingRulesError
from gateway.clearing.rules import load_rules as load_clearing_rules
from gateway.config import ConfigError, load
from gateway.rules.loading import RulesError, load_rules
from gateway.tariffs.loading import TariffError, load_version


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (load, ConfigError),
        (load_rules, RulesError),
        (load_clearing_rules, ClearingRulesError),
        (load_version, TariffError),
    ],
)
def test_a_number_without_end_is_no_toml(tmp_path, read, error):
    file = tmp_path / "file.toml"
    file.write_text(f"version = {'9' * 5000}\n", encoding="utf-8")
    with pytest.raises(error, match="is not TOML"):
        read(file)
