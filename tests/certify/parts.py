# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What `make test` consists of: every part is a name and the commands that have to succeed one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GROUPS = (
    "molecule",
    "attacks",
    "faults",
    "guards",
    "torture",
    "action",
    "plays",
    "unit",
    "integration",
    "sanity",
    "lint",
)

REFERENCES = ("--validate-collection-refs=all", "--disallow-unknown-collection-refs", "--check-extra-docs-refs")
# The importer says ERROR and ends with 0 when ansible-doc fails.
IMPORT = """python -m galaxy_importer.main tradekeep-ops-*.tar.gz >importer.log 2>&1; status=$?
cat importer.log; test $status = 0 && ! grep -q ^ERROR importer.log"""
# Root deploys to a host with systemd, anybody else to an sshd of the tests' own.
ACTION = """test "$(id -u)" = 0 || exec python -m pytest -q -ra tests/action
set -e; tests/hosts/prepare
trap 'python tests/hosts/nspawn.py down action13' EXIT
trap 'exit 143' TERM INT
python tests/hosts/nspawn.py up action13 --image=trixie --fresh
TRADEKEEP_ACTION_HOST=action13 python -m pytest -q -ra tests/action"""
# Two scenarios at once. Without -v nothing would be shown of tests that pass, and they could not be counted. What is
# ended early takes its hosts down as well.
MOLECULE = """set -eu
trap 'ansible-playbook --inventory=molecule/shared/inventory molecule/shared/destroy.yml' EXIT
trap 'exit 143' TERM INT
tests/hosts/prepare
molecule -v test --all --workers 2"""
ATTACKS = """set -eu
trap 'python tests/hosts/nspawn.py down sandbox-bookworm sandbox-trixie' EXIT
trap 'exit 143' TERM INT
tests/hosts/prepare
python -m pytest -q -ra tests/attacks"""
# Directories of tests that a part below runs as a whole; the guards' tests lie in them.
RUN_WHOLE = ("tests/unit/", "tests/faults/", "tests/attacks/")
SCHEMA = "exec check-jsonschema --builtin-schema vendor.github"


@dataclass(frozen=True)
class Part:
    """One line of the closing table."""

    name: str
    group: str
    commands: tuple[tuple[str, ...], ...]
    # Which copy of the checkout it works in: "", "files" or "installed" (checkout.py).
    copy: str = ""
    # Why it cannot run without root, when it cannot.
    root: str = ""
    # Whether its temporary files are in memory (in_memory.py): tests that do nothing with disks but wait for them.
    memory: bool = False


def pytest(python: Path | str, *arguments: str) -> tuple[str, ...]:
    """The call of pytest; `-ra` names what was skipped and why."""
    return (str(python), "-m", "pytest", "-q", "-ra", *arguments)


def unit(version: str, python: Path, *, newest: bool) -> Part:
    """The unit tests on one Python; those that wait for programs, whatever the Python, only on the newest."""
    chosen = () if newest else ("-m", "not once")
    return Part(f"unit-{version}", "unit", (pytest(python, *chosen, "tests/unit"),), memory=True)


# The longest first, so that the short ones fill the gaps. Programs are those of the development environment.
PARTS = (
    Part(
        "molecule",
        "molecule",
        (("sh", "-c", MOLECULE),),
        root="test hosts are systemd-nspawn machines",
    ),
    Part(
        "attacks",
        "attacks",
        (("sh", "-c", ATTACKS),),
        root="root is attacked from other accounts, and units on systemd-nspawn machines",
    ),
    Part("faults", "faults", (pytest("python", "tests/faults"),), memory=True),
    Part(
        "guards",
        "guards",
        (("python", "tests/certify/guards.py", "--jobs", "2", "--passing-elsewhere"),),
        memory=True,
    ),
    Part("torture", "torture", (pytest("python", "-n", "2", "tests/torture"),), memory=True),
    Part("action", "action", (("sh", "-c", ACTION),)),
    Part("plays", "plays", (pytest("python", "tests/plays"),), memory=True),
    Part(
        "ansible-test",
        "sanity",
        (("ansible-test", "sanity", "--venv", "--requirements", "--color", "no"),),
        copy="installed",
    ),
    Part(
        "integration",
        "integration",
        # No --requirements: the targets have none, and it would change the environment that every part uses.
        (("ansible-test", "integration", "--local", "--allow-unsupported", "--continue-on-error", "--color", "no"),),
        copy="installed",
    ),
    Part(
        "galaxy",
        "sanity",
        (
            ("ansible-galaxy", "collection", "build", "--force", "--output-path", "."),
            ("sh", "-c", IMPORT),
        ),
        copy="files",
    ),
    Part("ansible-lint", "lint", (("ansible-lint", "--offline", "--profile", "production", "--strict"),), copy="files"),
    Part("ruff", "lint", (("ruff", "check", "."),)),
    Part("mypy", "lint", (("mypy",),)),
    Part("paths", "lint", (("python", "tests/certify/paths.py"),)),
    Part(
        "documentation",
        "lint",
        (("antsibull-docs", "lint-collection-docs", "--plugin-docs", *REFERENCES, "."),),
        copy="files",
    ),
    Part("changelog", "lint", (("antsibull-changelog", "lint"),)),
    Part(
        "workflows",
        "lint",
        (
            ("sh", "-c", f"{SCHEMA}-workflows .github/workflows/*.yml"),
            ("sh", "-c", f"set -- .github/actions/*/action.yml; test ! -e $1 || {SCHEMA}-actions $@"),
            ("zizmor", "--offline", "--no-progress", ".github"),
        ),
    ),
)
