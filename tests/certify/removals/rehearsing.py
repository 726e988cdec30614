# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of drills, which look for what hazards A, B and C may have done to a backup unnoticed."""

from __future__ import annotations

from .removal import Removal

DRILL = "tests/unit/operations_drill/test_drill.py::test_"
KEYS = "tests/unit/operations_drill/test_drill_keys.py::test_"
DRILLS = "operations/drills/"
DEPLOY = "tests/unit/operations_deploy/test_deploy_operation.py::test_"
RECOVERY = "tests/unit/operations_drill/test_server_recovery.py::test_"

REHEARSING = (
    Removal(
        "a1",
        "a drill finds a backup without the rows of the WAL",
        DRILLS + "live.py",
        "if _last_written(str(live)) <= since and",
        "if False and",
        (DRILL + "hazard_a1_a_backup_without_the_rows_of_the_wal_is_found",),
    ),
    Removal(
        "a3",
        "a drill finds rows that vanished from the live data",
        DRILLS + "live.py",
        "if item.table in rows:",
        "if False:",
        (DRILL + "rows_that_vanished_from_the_live_data_are_found",),
    ),
    Removal(
        "b3",
        "a drill finds rows that differ from the manifest",
        DRILLS + "checks.py",
        "for name in differing_tables(entry.facts, report):",
        "for name in ():",
        (DRILL + "rows_that_differ_from_the_manifest_are_found",),
    ),
    Removal(
        "b3",
        "a drill does not take the catalog's word",
        DRILLS + "source.py",
        "if parsed.name in SAFETY_LABELS:",
        "if not LocalCatalog(application, None).find(parsed.filename).good:  # type: ignore[arg-type]",
        (DRILL + "a_stranger_does_not_take_the_catalogs_word",),
    ),
    Removal(
        "b6",
        "a drill looks at space and inodes before",
        DRILLS + "scratch.py",
        "if free.bytes_free < wanted:",
        "if False:",
        (DRILL + "hazard_b6_space_is_looked_at_before",),
    ),
    Removal(
        "b6",
        "a sidecar's word is not trusted with the disk",
        DRILLS + "unpacking.py",
        "limits = Limits(total_bytes=size.bytes)",
        "limits = Limits()",
        (DRILL + "a_sidecar_that_tells_too_little_does_not_fill_the_disk",),
    ),
    Removal(
        "b6",
        "the scratch place goes whatever happens",
        "host/filesystem/scratch.py",
        "        try:\n            _remove(place, lock)\n",
        "        try:\n            str(place)\n",
        (DRILL + "sigterm_leaves_nothing",),
    ),
    Removal(
        "b6",
        "what a killed drill left goes with the next one",
        DRILLS + "scratch.py",
        "        sweep(directory, purpose=_PURPOSE)\n",
        "        str(directory)\n",
        (DRILL + "what_a_killed_drill_left_goes_with_the_next_one",),
    ),
    Removal(
        "b8",
        "a drill leaves the host's own keyring out",
        DRILLS + "unpacking.py",
        "gnupg_home=keys.home,",
        "gnupg_home=keys.home if keys.given else None,",
        (KEYS + "without_a_key_the_drill_fails_even_where_the_host_has_it",),
    ),
    Removal(
        "b9",
        "a drill that finds something ends with a status that its unit reports",
        DRILLS + "record.py",
        'return ExitStatus.DONE if verdict == "passed" else ExitStatus.FINDINGS',
        "return ExitStatus.DONE",
        (DRILL + "a_slow_recovery_misses_its_target",),
    ),
    Removal(
        "c4",
        "a damaged database of an old archive is no mere note",
        DRILLS + "checks.py",
        "known = not foreign and (kind in _LEFT_TO_THE_WRITER",
        "known = foreign or (kind in _LEFT_TO_THE_WRITER",
        (DRILL + "hazard_c4_a_damaged_database_of_an_old_archive_is_found",),
    ),
    Removal(
        "c5",
        "code that comes before its data starts no bot",
        "operations/deploy/carry_out.py",
        "if self._survey.missing or self._survey.leave_down:",
        "if self._survey.missing:",
        (DEPLOY + "hazard_c5_no_bot_starts_before_its_data_is_there",),
    ),
    Removal(
        "c5",
        "a rehearsal with a living bot is found",
        "operations/server_recovery.py",
        "if recovery.state == REHEARSED:\n        problems",
        "if False:\n        problems",
        (RECOVERY + "hazard_e_a_rehearsal_with_a_living_bot_is_a_finding",),
    ),
    Removal(
        "c6",
        "an archive that was recovered is known again",
        "operations/server_recovery.py",
        '(done.get("state"), done.get("sha256")) == (RECOVERED, sha256)',
        "False",
        (RECOVERY + "an_archive_that_was_recovered_is_known_again",),
    ),
)
