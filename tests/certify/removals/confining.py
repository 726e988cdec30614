# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards against what is taken over and would be more: the sandbox of the units, and where Python finds its modules."""

from __future__ import annotations

from .removal import Removal

UNITS = "operations/unit_files.py"
SIGHT = "operations/unit_sight.py"
SANDBOX = "tests/unit/operations/test_unit_sandbox.py::test_"
PROGRAM = "tests/unit/cli/test_program.py::test_"

CONFINING = (
    Removal(
        "units",
        "a job sees an empty root in which its application alone is mounted",
        SIGHT,
        'f"RootDirectory={whole_line(sandbox_root(application))}\\n"',
        '""',
        (SANDBOX + "a_job_sees_its_application_alone[plain]",),
    ),
    Removal(
        "units",
        "a job has no right of root's but to become the owner and to end his processes",
        UNITS,
        "            capabilities=_TO_BECOME_THE_OWNER,\n            home=sight.home",
        "            capabilities=_TO_MOVE,\n            home=sight.home",
        (SANDBOX + "systemd_finds_little_exposed[kalshi-plain]", SANDBOX + "a_job_sees_its_application_alone[plain]"),
    ),
    Removal(
        "units",
        "a job without encryption has no sockets",
        UNITS,
        'families="AF_UNIX" if sight.gpg_agent else "none"',
        'families="AF_UNIX"',
        (SANDBOX + "sockets_are_there_for_gpg_alone",),
    ),
    Removal(
        "units",
        "of root's keyring a backup sees public keys alone",
        SIGHT,
        "keyring=_PUBLIC_KEYS if",
        "keyring=(*_PUBLIC_KEYS, *_SECRET_KEYS) if",
        (SANDBOX + "of_roots_keyring_a_backup_sees_public_keys_alone",),
    ),
    Removal(
        "units",
        "systemd 257 leaves the right to become the owner",
        UNITS,
        '_HARDENED = """\\\n',
        '_HARDENED = """\\\nUser=root\n',
        (SANDBOX + "systemd_would_take_the_right_to_become_the_owner_away_with_user_root",),
    ),
    Removal(
        "units",
        "a deploy does not see the backups and records of other applications",
        "operations/unit_confinement.py",
        "    if hidden:\n",
        "    if False:\n",
        (SANDBOX + "a_deploy_does_not_see_the_backups_and_records_of_others",),
    ),
    Removal(
        "units",
        "modules come from the program and from Python alone",
        "program.py",
        'PYTHON_OPTIONS = "-IXutf8"',
        'PYTHON_OPTIONS = "-Xutf8"',
        (PROGRAM + "modules_come_from_nowhere_but_the_program_and_python[PYTHONPATH]",),
    ),
    Removal(
        "units",
        "names are UTF-8 whatever the locale says",
        "program.py",
        'PYTHON_OPTIONS = "-IXutf8"',
        'PYTHON_OPTIONS = "-I"',
        (PROGRAM + "names_are_utf_8_whatever_the_locale_says",),
    ),
)
