# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Imports every module of the engine, so that Ansible ships all of them with the module that builds the program.

Ansible follows ``import`` statements only. tests/unit/cli/test_program.py says which line is missing here.
"""

from __future__ import annotations

from . import (  # noqa: F401
    application,
    application_checks,
    cli,
    command_line,
    commands,
    configuration,
    errors,
    faults,
    patterns,
    ports,
    profile,
    profile_schema,
    schema,
    signals as core_signals,
    terminal,
    version,
    vocabulary,
)
from .archive import (  # noqa: F401
    compression,
    container,
    encryption,
    extract,
    manifest,
    members,
    safety as archive_safety,
    streams,
    tar_headers,
    tar_reader,
    tar_writer,
)
from .host import files, mounts, ownership, runner, services, supervisor, systemd  # noqa: F401
from .kinds import (  # noqa: F401
    appended,
    base,
    json_document,
    jsonl,
    log,
    plain_file,
    reading as kinds_reading,
    sqlite,
    sqlite_database,
    sqlite_live,
    sqlite_source,
)
from .operations import (  # noqa: F401
    assemble,
    backup as operations_backup,
    configured,
    databases,
    leftovers,
    listing,
    outcome,
    prove,
    prune,
    reading as operations_reading,
    recover,
    restore,
    restore_plan,
    retention,
    rights,
    safety as operations_safety,
    scan,
    text,
    tree,
    unit_files,
    units,
    verify,
)
from .profiles import crypto_bot, freqtrade, kalshi, paper_bot, trade_agent, v6  # noqa: F401
from .storage import backup as storage_backup, local, names, records  # noqa: F401
from .transaction import (  # noqa: F401
    exchange,
    journal,
    lock,
    plan,
    recovery,
    renames,
    signals as transaction_signals,
    stage,
    stopped,
)

ENGINE = __package__ or ""
"""The name of the engine's package."""
