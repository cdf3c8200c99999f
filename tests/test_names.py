"""The four top-level names are generic: in this environment each must be this project's, and nobody else's."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["protocols", "drivers", "gateway", "hardware"])
def test_each_package_is_this_projects(name):
    found = Path(importlib.import_module(name).__file__).resolve()
    assert found == ROOT / name / "__init__.py"


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_files_a_readme_names_exist(readme):
    text = (ROOT / readme).read_text()
    paths = set(re.findall(r"[A-Za-z_][\w./-]*/[\w.-]+\.(?:py|toml|svg|md)\b", text, flags=re.ASCII))
    assert paths, "the README names no file of the tree"
    assert [p for p in paths if not (ROOT / p).exists()] == []
