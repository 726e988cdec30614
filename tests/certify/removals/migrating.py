# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of migrations against a bot that was taken over, and against the other server."""

from __future__ import annotations

from .removal import Removal

ATTACK = "tests/attacks/test_migration.py::test_"
HANDOVER = "operations/handover/"
MIGRATE = "operations/migrate/"

MIGRATING = (
    Removal(
        "migrated",
        "what arrives is laid beside the live data as its owner",
        HANDOVER + "taking.py",
        "with acting_as(account_for(application)), contextlib.ExitStack() as stack:",
        "with contextlib.ExitStack() as stack:",
        (f"{ATTACK}a_bot_without_rights_moves_while_it_trades",),
    ),
    Removal(
        "migrated",
        "the source's data is read as its owner",
        HANDOVER + "reader.py",
        "            account=other,\n",
        "            account=None,\n",
        (f"{ATTACK}databases_are_read_by_the_owner_alone_on_both_servers",),
    ),
    Removal(
        "migrated",
        "databases of a source on this host are read by nobody else",
        "kinds/bounded.py",
        "account=acting_account(),",
        "account=None,",
        (f"{ATTACK}databases_are_read_by_the_owner_alone",),
    ),
    Removal(
        "migrated",
        "a source that somebody else can change is not read as root",
        MIGRATE + "source_rights.py",
        "return SourceRights(_account(application, _who_can_change(given)))",
        "return SourceRights(None)",
        (f"{ATTACK}a_source_in_which_the_bot_can_write_somewhere_is_not_read_as_root",),
    ),
    Removal(
        "migrated",
        "an archive that somebody else can exchange is copied first",
        MIGRATE + "origin_archive.py",
        "place = given if rights.account is None else",
        "place = given if True else",
        (f"{ATTACK}an_archive_of_the_bots_that_is_swapped_is_not_read_as_root",),
    ),
    Removal(
        "migrated",
        "a source has nothing started that is not the application's",
        HANDOVER + "agreeing.py",
        'is_systemd and _is_of(entry["units"], unit, systemd) and',
        "is_systemd and",
        (f"{ATTACK}what_a_source_says_of_itself_is_judged",),
    ),
    Removal(
        "migrated",
        "of a WAL only the frames that count are read",
        HANDOVER + "at_rest.py",
        "if frame[_SALTS] != header[_SALTS_OF_ALL]:",
        "if False:",
        (f"{ATTACK}a_wal_without_end_holds_nothing_up",),
    ),
    Removal(
        "migrated",
        "digests of what is not here are not kept",
        HANDOVER + "serving.py",
        "useful = min(size, self._sizes.get(path, 0))",
        "useful = size",
        (f"{ATTACK}a_target_cannot_fill_the_memory_with_digests",),
    ),
    Removal(
        "migrated",
        "nothing arrives too deep",
        HANDOVER + "receiving.py",
        'if entry.path.count("/") > DEEPEST:',
        "if False:",
        (f"{ATTACK}what_a_source_sends_is_judged",),
    ),
    Removal(
        "migrated",
        "a source has an end",
        HANDOVER + "receiving.py",
        "if self._messages > MOST_MESSAGES:",
        "if False:",
        (f"{ATTACK}a_source_that_never_ends_is_ended",),
    ),
)
