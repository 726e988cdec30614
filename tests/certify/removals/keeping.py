# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of hazards B4 to B9: keeping backups, locks, space, keys, timers and services."""

from __future__ import annotations

from .removal import Removal

PRUNE = "tests/unit/operations_r/test_prune_units.py::test_hazard_"
RULES = "tests/unit/operations_r/test_retention_rules.py::test_hazard_"
UNITS = "tests/unit/operations_r/test_unit_guards.py::test_hazard_"
GUARDS = "tests/unit/operations/test_operation_guards.py::test_hazard_"
REHEARSAL = "tests/unit/operations/test_operation_rehearsal.py::test_"
KEYS = "tests/unit/operations/test_operation_keys.py::test_hazard_"
CONTAINER = "tests/unit/archive/test_archive_container.py::test_"
SERVICES = "tests/unit/host/test_host_services.py::test_hazard_"
RUNS = "tests/unit/operations/test_operation_runs.py::test_hazard_"
LOCK = "tests/unit/host/test_host_files.py::test_hazard_"
CATALOG = "tests/unit/operations/test_operation_catalog.py::test_hazard_"
BAD_INPUT = "tests/faults/test_bad_input.py::test_hazard_"

KEEPING = (
    # B4: pruning
    Removal(
        "b4",
        "no pruning while the newest backup is bad",
        "operations",
        "    if not newest.good:\n        return f",
        "    if False:\n        return f",
        (PRUNE + "b4_prune_refuses_when_the_newest_is_bad",),
    ),
    Removal(
        "b4",
        "a verification that failed makes a backup bad",
        "storage",
        'if not record["ok"]:',
        "if False:",
        (PRUNE + "b4_prune_refuses_when_the_newest_is_bad",),
    ),
    Removal(
        "b4",
        "no pruning while the newest backup is of the future",
        "operations",
        "if newest.moment > now + FUTURE_TOLERANCE:",
        "if False:",
        (PRUNE + "b4_prune_refuses_when_the_clock_jumped",),
    ),
    Removal(
        "b4",
        "no pruning when the clock went back",
        "operations",
        "if last_prune is not None and now + FUTURE_TOLERANCE < last_prune:",
        "if False:",
        (PRUNE + "b4_prune_refuses_when_the_clock_jumped",),
    ),
    Removal(
        "b4",
        "a file that is dated in the future is not the newest backup",
        "operations",
        "for item in decisions if not is_future(item.backup, now)]",
        "for item in decisions]",
        (PRUNE + "b4_a_future_date_is_kept_reported_and_holds_nothing_up",),
    ),
    Removal(
        "b4",
        "no pruning by age when the clock may have jumped forward",
        "operations",
        "if after is not None:",
        "if False:",
        (PRUNE + "b4_a_clock_far_ahead_does_not_make_everything_too_old",),
    ),
    Removal(
        "b4",
        "no pruning while the results of verifications are lost",
        "operations",
        " or _doubt(catalog)",
        "",
        (CATALOG + "b4_a_damaged_catalog_stops_prune_until_the_backups_are_verified",),
    ),
    Removal(
        "b4",
        "bad backups are not counted",
        "operations",
        'if not backup.good:\n        return "not counted',
        'if False:\n        return "not counted',
        (RULES + "b4_what_is_set_aside_stays_and_takes_no_place[bad]",),
    ),
    Removal(
        "b4",
        "backups of the future are not counted",
        "operations",
        'if is_future(backup, now):\n        return "dated',
        'if False:\n        return "dated',
        (RULES + "b4_what_is_set_aside_stays_and_takes_no_place[of the future]",),
    ),
    Removal(
        "b4",
        "named backups stay until they are released",
        "operations",
        'if backup.pinned:\n        return "named"',
        'if False:\n        return "named"',
        (RULES + "b4_what_is_set_aside_stays_and_takes_no_place[named]",),
    ),
    Removal(
        "b4",
        "days count from the newest backup, not from the clock",
        "operations",
        "counted[0].moment - timedelta(days=retention.within_days)",
        "datetime.now(counted[0].moment.tzinfo) - timedelta(days=retention.within_days)",
        (RULES + "b4_thirty_days_count_from_the_newest_backup",),
    ),
    Removal(
        "b4",
        "the archive goes before its sidecars",
        "storage",
        "for name in (backup.name, *sidecars_of(backup.name)):",
        "for name in (*sidecars_of(backup.name), backup.name):",
        (GUARDS + "b4_a_prune_that_is_cut_off_leaves_no_archive_without_its_checksum",),
    ),
    # B5: locks
    Removal(
        "b5",
        "the kernel's lock keeps others out",
        "transaction/lock.py",
        "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        (LOCK + "b5_a_busy_lock_says_who_and_dies_with_its_process",),
    ),
    Removal(
        "b5",
        "a file that is there is no lock",
        "transaction/lock.py",
        "os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC",
        "os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC",
        (LOCK + "b5_a_busy_lock_says_who_and_dies_with_its_process",),
    ),
    Removal(
        "b5",
        "it says who holds it and since when",
        "transaction/lock.py",
        "write_all(descriptor, json.dumps(holder).encode())",
        "str(holder)",
        (LOCK + "b5_a_busy_lock_says_who_and_dies_with_its_process",),
    ),
    *(
        Removal(
            "b5",
            f"{operation} takes it",
            "operations",
            f'Path(application.application_state_dir),\n        operation="{operation}"',
            f'Path(application.application_state_dir) / "elsewhere",\n        operation="{operation}"',
            (f"{GUARDS}b5_no_two_operations_overlap[{operation}]",),
        )
        for operation in ("backup", "prune", "restore")
    ),
    Removal(
        "b5",
        "recover takes it",
        "operations",
        'state_dir, operation="recover", clock=ports.clock, wait_seconds',
        'state_dir / "elsewhere", operation="recover", clock=ports.clock, wait_seconds',
        (GUARDS + "b5_no_two_operations_overlap[recover]",),
    ),
    # B6: space and places
    Removal(
        "b6",
        "bytes are counted before a backup",
        "operations",
        "if free.bytes_free < plan.space_needed:",
        "if False:",
        (GUARDS + "b6_space_is_looked_at_before_a_backup[bytes]",),
    ),
    Removal(
        "b6",
        "inodes are counted before a backup",
        "operations",
        "if free.inodes_free is not None and free.inodes_free < 32:",
        "if False:",
        (GUARDS + "b6_space_is_looked_at_before_a_backup[inodes]",),
    ),
    Removal(
        "b6",
        "a disk that fills up is said to be full",
        "archive/streams.py",
        "if error.errno in _FULL:",
        "if False:",
        (CONTAINER + "hazard_b6_disk_full_is_a_space_error[zlib]",),
    ),
    Removal(
        "b6",
        "no --output inside the data",
        "operations/backup_plan.py",
        "if found is not None:",
        "if False:",
        (BAD_INPUT + "b6_a_backup_directory_inside_the_data",),
    ),
    Removal(
        "b6",
        "nor through a symlink",
        "operations",
        "real = Path(os.path.realpath(directory))",
        "real = directory",
        (BAD_INPUT + "b6_a_backup_directory_inside_the_data",),
    ),
    Removal(
        "b6",
        "no backup_dir inside the data",
        "application_checks.py",
        'raise _inside(key, directory, found.component.name, "inside")',
        "return",
        (GUARDS + "b6_a_configured_backup_directory_inside_the_data_is_refused",),
    ),
    Removal(
        "b6",
        "no backup_dir around the data",
        "application_checks.py",
        'if key == "backup_dir" and _within(root, directory):',
        "if False:",
        (GUARDS + "b6_a_configured_backup_directory_around_the_data_is_refused",),
        more=(('if key == "backup_dir" and _within(root / path, directory):', "if False:"),),
    ),
    Removal(
        "b6",
        "nothing is written below a mount that is not there",
        "host/fstab.py",
        "    if point is not None:\n        raise",
        "    if False:\n        raise",
        (
            REHEARSAL + "a_mount_that_is_not_there_is_found_and_nothing_is_written_below_it[fstab]",
            REHEARSAL + "no_tree_is_made_below_a_mount_that_is_not_there",
        ),
    ),
    # B8: secrets and keys
    Removal(
        "b8",
        "config check proves the passphrase",
        "operations",
        "_failures(lambda: prove_keys(application, ports, recovery_key))",
        "()",
        (KEYS + "b8_config_check_decrypts_a_sample",),
    ),
    Removal(
        "b8",
        "config check proves the recovery key",
        "operations",
        "if encryption.passphrase_file is not None or recovery_key is not None:",
        "if encryption.passphrase_file is not None:",
        (KEYS + "b8_a_recovery_key_of_somebody_else_is_found",),
    ),
    Removal(
        "b8",
        "the sample must come back as it was",
        "archive",
        'if b"".join(plain) != sample:',
        'if not b"".join(plain):',
        (KEYS + "b8_config_check_decrypts_a_sample",),
    ),
    Removal(
        "b8",
        "a passphrase is never an argument",
        "archive",
        '"--cipher-algo", "AES256", "--passphrase-fd", str(secret[0]))',
        '"--cipher-algo", "AES256", "--passphrase", Path(encryption.passphrase_file).read_text().strip())',
        (CONTAINER + "hazard_b8_no_secret_is_an_argument",),
    ),
    Removal(
        "b8",
        "a passphrase file that others can read is refused",
        "archive",
        "if os.fstat(descriptor).st_mode & 0o077:",
        "if False:",
        (CONTAINER + "hazard_b8_bad_keys_and_passphrase_files_are_refused_before_anything_is_written",),
    ),
    Removal(
        "b8",
        "a passphrase file that is empty is refused",
        "archive",
        "if not found.typed:",
        "if False:",
        (CONTAINER + "hazard_b8_bad_keys_and_passphrase_files_are_refused_before_anything_is_written",),
    ),
    Removal(
        "b8",
        "a secret key does not belong on the host",
        "archive",
        "        _refuse_secret_key(recipient)\n",
        "",
        (CONTAINER + "hazard_b8_bad_keys_and_passphrase_files_are_refused_before_anything_is_written",),
    ),
    # B9: timers and services
    Removal(
        "b9",
        "a timer catches up",
        "operations",
        "Persistent=true\\n",
        "\\n",
        (UNITS + "b9_timers_catch_up_at_a_time_that_stays_the_same",),
    ),
    Removal(
        "b9",
        "its jitter stays the same",
        "operations",
        "FixedRandomDelay=true\\n",
        "\\n",
        (UNITS + "b9_timers_catch_up_at_a_time_that_stays_the_same",),
    ),
    Removal(
        "b9",
        "a unit that fails says so",
        "operations",
        """OnFailure=tradekeep-failure-{application.name}@%n.service\\n"
        + f"RequiresMountsFor={' '.join(map(argument""",
        """# tradekeep-failure-{application.name}@%n.service\\n"
        + f"RequiresMountsFor={' '.join(map(argument""",
        (UNITS + "b9_a_unit_that_fails_starts_one_that_says_so",),
    ),
    Removal(
        "b9",
        "the unit that says so is there",
        "operations",
        'units[f"tradekeep-failure-{name}@.service"] = _failure(application)',
        "_failure(application)",
        (UNITS + "b9_a_unit_that_fails_starts_one_that_says_so",),
    ),
    Removal(
        "b9",
        "without root a job that fails starts one that says so, too",
        "operations/user_units.py",
        'f"OnFailure=tradekeep-failure-{application.name}@%n.service\\n"',
        '""',
        (
            "tests/unit/operations/test_user_units.py::"
            "test_the_units_are_those_of_the_system_but_for_the_guard_and_claim_no_sandbox_of_roots",
        ),
    ),
    Removal(
        "b9",
        "a run without an end is a failure",
        "operations",
        "return not self.running and self.exit_status != ExitStatus.DONE",
        "return self.exit_status not in (None, ExitStatus.DONE)",
        (RUNS + "b9_what_power_cut_off_is_seen_by_list_and_made_up_for_at_boot",),
    ),
    Removal(
        "b9",
        "a backup that is overdue is a problem",
        "operations",
        "if now > due:",
        "if False:",
        (RUNS + "b9_a_backup_is_overdue_when_its_schedule_says_so",),
    ),
    Removal(
        "b9",
        "a backup that fails is not followed by a prune",
        "operations",
        'f"ExecStart={tradekeep} --no-progress {command}\\n"',
        'f"ExecStart=-{tradekeep} --no-progress {command}\\n"',
        (UNITS + "b9_no_step_of_a_unit_may_fail_in_silence",),
    ),
    Removal(
        "b9",
        "timers are enabled and started",
        "operations",
        'manager.systemctl("reenable", *plan.enable)',
        "str(plan)",
        (UNITS + "b9_timers_are_enabled_and_started",),
        more=(('manager.systemctl("restart", *timers)', "str(plan)"),),
    ),
    Removal(
        "b9",
        "a timer that was stopped is started again",
        "operations",
        "if name in write or not _is_set_up(name, states.get(name, {}))",
        "if name in write",
        (UNITS + "b9_timers_are_enabled_and_started",),
    ),
    Removal(
        "b9",
        "a schedule that systemd does not know is refused",
        "operations",
        "    _check_calendars(ports, write)\n",
        "",
        (UNITS + "b9_a_schedule_that_systemd_does_not_know_is_refused",),
    ),
    Removal(
        "b9",
        "a service that dies after a good start is found",
        "host/systemd.py",
        'if state.active != "active":\n                raise self._failure(unit, "does not stay up", state)',
        "",
        (SERVICES + "b9_a_unit_that_dies_after_a_good_start_is_found",),
    ),
    Removal(
        "b9",
        "a program that is still starting is not up",
        "host/supervisor.py",
        "if not waiting or self._clock.monotonic() >= deadline:",
        "return\n            if not waiting:",
        ("tests/unit/host/test_host_services.py::test_starting_is_not_success",),
    ),
    Removal(
        "b9",
        "a service that is started again and again is found",
        "host/services.py",
        "if identity != known[name]:",
        "if False:",
        (SERVICES + "b9_a_unit_that_is_restarted_is_not_steady",),
    ),
)
