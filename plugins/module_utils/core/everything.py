# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Names every module of the engine, so that Ansible ships all of them with the module that builds the program.

Ansible follows ``import`` statements only, wherever they stand. They are not carried out: to import what nobody needs
takes longer than what most of them do. tests/unit/cli/test_program.py says which line is missing here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

# pylint: disable=unused-import
if TYPE_CHECKING:
    from . import (  # noqa: F401
        application,
        application_checks,
        byte_code,
        cli,
        command_line,
        commands,
        configuration,
        deploy_schema,
        deploy_settings,
        drill_schema,
        drill_settings,
        errors,
        faults,
        formatting,
        migrate_schema,
        migrate_settings,
        patterns,
        ports,
        profile,
        profile_schema,
        schema,
        terminal,
        version,
        vocabulary,
    )
    from .archive import (  # noqa: F401
        alike,
        comparison,
        compression,
        container,
        encryption,
        extract,
        follower,
        manifest,
        members,
        reported,
        streams,
        tar_headers,
        tar_reader,
        tar_source,
        tar_writer,
    )
    from .git import (  # noqa: F401
        checkout,
        export,
        failures,
        holders,
        ignored,
        mirror,
        objects,
        process,
        refs,
        rescue,
        signatures,
        urls,
    )
    from .host import (  # noqa: F401
        account,
        companion,
        confinement,
        files,
        gates,
        health,
        masking,
        memory,
        mounts,
        ownership,
        runner,
        scheduling,
        services,
        supervisor,
        systemd,
        transient,
        trust,
        watch,
        worker,
        writers,
    )
    from .host.filesystem import beneath, chown, given, identity  # noqa: F401
    from .host.filesystem import scratch as host_scratch  # noqa: F401
    from .kinds import (  # noqa: F401
        appended,
        base,
        bounded,
        json_document,
        jsonl,
        log,
        plain_file,
        small,
        sqlite,
        sqlite_database,
        sqlite_live,
        sqlite_rows,
        sqlite_source,
    )
    from .operations import (  # noqa: F401
        apart,
        assemble,
        configured,
        databases,
        exchange_run,
        fence,
        gather,
        leftovers,
        listing,
        outcome,
        prove,
        prune,
        recover,
        release,
        requests,
        restore,
        restore_elsewhere,
        restore_plan,
        restore_stage,
        retention,
        rights,
        scan,
        server_recovery,
        text,
        tree,
        tree_plan,
        tree_reader,
        unit_confinement,
        unit_files,
        units,
        verify,
        write_archive,
    )
    from .operations.deploy import (  # noqa: F401
        attended,
        backup_first,
        carry_out,
        code,
        code_plan,
        code_stage,
        data_reader,
        dependencies,
        deploy,
        following,
        git_view,
        hooks,
        ignore_lines,
        layouts,
        lock_file,
        look,
        preserved,
        proof,
        records,
        releases,
        request,
        survey,
        watched,
        working_copy,
    )
    from .operations.drills import checks as drill_checks  # noqa: F401
    from .operations.drills import drill, findings, live, scratch, source, unpacking  # noqa: F401
    from .operations.drills import record as drill_record  # noqa: F401
    from .operations.handover import account as handover_account  # noqa: F401
    from .operations.handover import (  # noqa: F401
        agreeing,
        arrivals,
        at_rest,
        blocks,
        channel,
        copies,
        counting,
        fences,
        greeting,
        holding,
        laps,
        laying,
        link,
        looking,
        note,
        reader,
        receiving,
        remote_end,
        served,
        serving,
        shipping,
        starting,
        taking,
    )
    from .operations.handover import attended as attended_takeover  # noqa: F401
    from .operations.migrate import (  # noqa: F401
        credentials,
        migrate,
        migration_plan,
        migration_record,
        migration_run,
        origin,
        origin_archive,
        origin_directory,
        preflight,
        source_rights,
    )
    from .profiles import crypto_bot, freqtrade, kalshi, paper_bot, trade_agent, v6  # noqa: F401
    from .storage import backup as storage_backup  # noqa: F401
    from .transaction import (  # noqa: F401
        exchange,
        fence_file,
        journal,
        lock,
        plan,
        recovery,
        renames,
        stage,
        stage_directory,
        stopped,
    )

# Not __package__: zipimport of Python 3.9 sets it after the module has run.
ENGINE = __name__.rpartition(".")[0]
"""The name of the engine's package."""
