"""The package: what it may import, and that what is installed is what is here."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

from training_runs import ROOT

import ARR_COC

IMPORTED = {
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "huggingface-hub": "huggingface_hub",
    "google-auth": "google",
}
PROJECT = tomllib.loads((ROOT / "Stack/arr-trainer/pyproject.toml").read_text())


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_the_package_imports_nothing_of_the_command_line_tool_and_only_what_it_declares() -> None:
    names = {name for file in (ROOT / "ARR_COC").rglob("*.py") for name in imported(file)}
    declared = {re.split("[<>=~!]", entry)[0] for entry in PROJECT["project"]["dependencies"]}
    foreign = names - set(sys.stdlib_module_names) - {"ARR_COC"}
    assert foreign <= {IMPORTED.get(name, name) for name in declared}


def test_the_version_and_the_data_files_are_declared() -> None:
    assert PROJECT["project"]["version"] == ARR_COC.__version__
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["ARR_COC.Training"]
    folder = ROOT / "ARR_COC/Training"
    data = {file for file in folder.rglob("*.*") if file.suffix not in (".py", ".pyc")}
    assert data == {file for pattern in patterns for file in folder.glob(pattern)}
