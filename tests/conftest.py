# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What all tests share: the import path of the collection, and plain words for what cannot run here.

A collection is imported by the path it is installed at; tests/certify/checkout.py makes that path. The directories
above the checkout have no ``__init__.py`` and are namespace packages to plain Python. Where Ansible is installed too,
its own loader is pointed at the same place, so that both agree.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "certify"))
import checkout

COLLECTIONS = str(checkout.link())
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", COLLECTIONS)
if COLLECTIONS not in sys.path:
    sys.path.insert(0, COLLECTIONS)

# What a shell starts in the background ignores SIGINT, and so would every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

HAS_ANSIBLE = importlib.util.find_spec("ansible") is not None
# Ansible itself, or something of the collection that is not the engine.
IMPORTS_ANSIBLE = re.compile(
    r"^\s*(?:from|import) ansible(?:\.|\s)"
    r"|ansible_collections\.tradekeep\.ops\.plugins(?:\x22|\.(?!module_utils\.core\b))",
    re.MULTILINE,
)
not_collected: list[str] = []


def pytest_configure() -> None:
    """How quick the machine is says nothing about what a property test found."""
    if "_hypothesis_pytestplugin" in sys.modules:  # it is not, where nothing needs what takes so long to import
        from hypothesis import HealthCheck, settings

        # Where nobody looks for what is new, the same examples each time, as Hypothesis itself has it.
        same = "CI" in os.environ
        settings.register_profile(
            "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=same
        )
        settings.load_profile("patient")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the tests of the doors on a Python that no supported ansible-core runs on (3.9 and 3.10)."""
    if HAS_ANSIBLE or collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    if not IMPORTS_ANSIBLE.search(collection_path.read_text(encoding="utf-8")):
        return None
    not_collected.append(str(collection_path.relative_to(checkout.TOP)))
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left out; tests/certify/run.py repeats the line in its closing summary."""
    if not_collected:
        names = " ".join(sorted(set(not_collected)))
        terminalreporter.write_line(f"NOT COLLECTED (no ansible-core here, which needs Python 3.11): {names}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test marked ``root`` says so when it cannot run."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))
