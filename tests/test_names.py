"""The four top-level names are generic: in this environment each must be this project's, and nobody else's."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["protocols", "drivers", "gateway", "hardware"])
def test_each_package_is_this_projects(name):
    found = Path(importlib.import_module(name).__file__).resolve()
    assert found == ROOT / name / "__init__.py"
