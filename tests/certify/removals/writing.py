# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards of hazards B1 to B3: how a backup gets its name, its checksum and its exit status."""

from __future__ import annotations

from .removal import Removal

CONTAINER = "tests/unit/archive/test_archive_container.py::test_"
BACKUP = "tests/unit/operations/test_operation_backup.py::test_hazard_"
FOLLOWER = "tests/unit/archive/test_archive_follower.py::test_hazard_"
CATALOG = "tests/unit/storage/test_storage_catalog.py::test_"
CATALOG_GUARDS = "tests/unit/storage/test_catalog_guards.py::test_hazard_"
HOST_KEY = "tests/unit/operations/test_operation_host_key.py::test_"
GUARDS = "tests/unit/operations/test_operation_guards.py::test_hazard_"
HAZARDS = "tests/unit/operations/test_operation_hazards.py::test_hazard_"

WRITING = (
    # B1: names only for what is whole and verified; private from the first byte; nothing left behind
    Removal(
        "b1",
        "an archive never replaces a file",
        "archive/streams.py",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW",
        "os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW",
        (CONTAINER + "hazard_b1_containers_are_private_and_never_overwrite",),
    ),
    Removal(
        "b1",
        "an archive is private from its first byte",
        "archive/streams.py",
        "os.open(path, flags, 0o600)",
        "os.open(path, flags, 0o666)",
        (CONTAINER + "hazard_b1_containers_are_private_and_never_overwrite",),
    ),
    Removal(
        "b1",
        "the manifest on the disk is the one that was told ahead",
        "archive/comparison.py",
        'if not end == self._last == last_line(entries, content_bytes, digest.hexdigest()).encode("ascii"):',
        "if False:",
        (FOLLOWER + "b1_the_manifest_on_the_disk_must_be_the_one_that_was_told",),
    ),
    Removal(
        "b1",
        "entries agree with the lines that were told ahead",
        "archive/comparison.py",
        "                self._compare(parse_entry(line), observed)\n            self",
        "                pass\n            self",
        (FOLLOWER + "b1_an_archive_that_differs_from_its_own_manifest_is_not_confirmed",),
    ),
    Removal(
        "b1",
        "files that are recognized together are those that were captured",
        "archive/tar_reader.py",
        "if sha256(self._source.take(span.size)).digest() != span.sha256:",
        "if len(self._source.take(span.size)) != span.size:",
        (FOLLOWER + "b1_a_batch_that_is_not_what_was_captured_is_not_confirmed",),
    ),
    Removal(
        "b1",
        "an archive is written under another name",
        "operations",
        "temporary = catalog.temporary(job.final_name)",
        "temporary = plan.directory / job.final_name",
        (BACKUP + "b1_nothing_has_a_name_before_it_is_verified",),
    ),
    Removal(
        "b1",
        "an archive is read back before it gets its name",
        "operations",
        "proof = prove_sealed(temporary, container, totals, plan.encryption, ports, prover)",
        'proof = {"level": "entries"}',
        (BACKUP + "b1_what_the_disk_gives_back_wrong_gets_no_name",),
    ),
    Removal(
        "b1",
        "the file read back has the digest of the one written",
        "operations",
        "digest != container.sha256",
        "False",
        (GUARDS + "b1_what_was_sealed_to_a_public_key_is_read_back_too",),
    ),
    Removal(
        "b1",
        "the manifest read back is the one written",
        "operations",
        "report.manifest_sha256 != totals.manifest_sha256",
        "False",
        (GUARDS + "b1_what_was_sealed_to_a_public_key_is_read_back_too",),
    ),
    Removal(
        "b1",
        "what is not verified gets no name",
        "storage",
        "        check_finished(temporary, sidecar)\n",
        "",
        (CATALOG + "hazard_b1_no_name_before_it_is_whole_and_verified",),
    ),
    Removal(
        "b1",
        "two backups of one second do not overwrite each other",
        "storage",
        "if not self._taken(parsed):",
        "if True:",
        (CATALOG + "same_second_never_overwrites",),
    ),
    Removal(
        "b1",
        "a name is given without replacing",
        "storage",
        "os.link(temporary, final, follow_symlinks=False)",
        "os.replace(temporary, final)",
        (CATALOG_GUARDS + "b1_a_name_that_is_taken_meanwhile_is_left_alone",),
    ),
    Removal(
        "b1",
        "the backup directory is private",
        "storage",
        "set_mode(path, 0o700)",
        "path.stat()",
        (CATALOG_GUARDS + "b1_a_directory_that_was_opened_up_is_closed_again",),
    ),
    Removal(
        "b1",
        "a directory where everybody can write is refused",
        "storage",
        "if status.st_mode & stat.S_IWOTH:",
        "if False:",
        (CATALOG + "a_world_writable_directory_is_refused",),
    ),
    Removal(
        "b1",
        "without gpg there is no backup",
        "archive",
        "    require_gpg(runner)\n    with contextlib.ExitStack() as stack:\n        home = stack.enter_context(",
        "    with contextlib.ExitStack() as stack:\n        home = stack.enter_context(",
        (CONTAINER + "hazard_b1_a_missing_gpg_leaves_no_plaintext",),
    ),
    Removal(
        "b1",
        "what is to be encrypted is",
        "archive",
        "if self._encryption is not None and self.encrypted:",
        "if False:",
        (CONTAINER + "hazard_b8_with_a_passphrase_file_and_back",),
    ),
    Removal(
        "b1",
        "a component can require encryption",
        "operations",
        "    if wanted is False and required:\n",
        "    if False and required:\n",
        (GUARDS + "b1_a_component_that_must_be_encrypted_is",),
    ),
    Removal(
        "b1",
        "a configured key encrypts every archive",
        "operations",
        "return Encryption() if said is False else encryption_of(application)",
        "return encryption_of(application) if said else Encryption()",
        (HOST_KEY + "hazard_b1_a_configured_key_encrypts_every_tier[daily]",),
    ),
    Removal(
        "b1",
        "a safety backup is encrypted as every archive is",
        "operations/safety.py",
        "BackupPlan.of_label(label, encryption_of(application), ",
        "BackupPlan.of_label(label, type(application.encryption)(), ",
        (HOST_KEY + "hazard_b1_safety_backups_are_encrypted_too",),
    ),
    Removal(
        "b1",
        "a secret is in no plain archive where there is a key",
        "operations",
        "if said is False and secret:",
        "if False:",
        (HOST_KEY + "hazard_b1_a_secret_is_in_no_plain_archive_where_there_is_a_key",),
    ),
    Removal(
        "b8",
        "a restore proves first that what it replaces can be encrypted",
        "operations/restore.py",
        "        require_usable_keys(application, ports)\n",
        "        pass\n",
        (HOST_KEY + "a_restore_begins_only_where_what_it_replaces_can_be_kept",),
    ),
    Removal(
        "b8",
        "the host's secret key can be read by nobody else",
        "operations/host_key.py",
        'secret.encode("ascii"), mode=0o600)',
        'secret.encode("ascii"), mode=0o644)',
        (HOST_KEY + "the_host_key_is_the_hosts_alone",),
    ),
    Removal(
        "b8",
        "what writes archives does not see the host's secret key",
        "operations/unit_sight.py",
        "        keys=(*_key_files(application), *_host_keys(application)),\n",
        "        keys=(*_key_files(application), *_host_keys(application, secret=True)),\n",
        (
            "tests/unit/operations/test_unit_sandbox.py::"
            "test_what_writes_archives_sees_the_public_half_of_the_hosts_key_alone",
        ),
    ),
    Removal(
        "b1",
        "an archive that failed is removed by its writer",
        "archive",
        "self._path.unlink()",
        "self._path.stat()",
        (CONTAINER + "hazard_b1_a_failing_writer_leaves_nothing",),
    ),
    Removal(
        "b1",
        "and by the backup",
        "operations",
        "temporary.unlink(missing_ok=True)",
        "temporary.exists()",
        (BACKUP + "b1_what_the_disk_gives_back_wrong_gets_no_name",),
    ),
    Removal(
        "b1",
        "copies of databases are removed after a failure",
        "host/filesystem/scratch.py",
        """        yield place
    finally:
        try:
            _remove(place, lock)
""",
        """        yield place
    finally:
        try:
            place.exists()
""",
        (BACKUP + "a4_a_corrupt_or_encrypted_database_fails_the_backup",),
    ),
    Removal(
        "b1",
        "keys in the temporary directory are removed",
        "host/filesystem/scratch.py",
        "        try:\n            _remove(place, lock)\n",
        "        try:\n            str(place)\n",
        (GUARDS + "b1_no_key_is_left_in_the_temporary_directory",),
    ),
    Removal(
        "b1",
        "keys that a killed run left there are swept",
        "archive",
        "sweep(place, purpose=_PURPOSE, before=lambda home: _end_agent(str(home), runner))",
        "str(place)",
        ("tests/unit/archive/test_gpg_homes.py::test_homes_and_agents_of_killed_runs_go_with_the_next_one",),
    ),
    Removal(
        "b1",
        "what a killed backup left is swept",
        "operations",
        "    catalog.sweep_leftovers()\n    sweep_state(application)",
        "    sweep_state(application)",
        (GUARDS + "b1_what_a_killed_backup_left_is_swept",),
    ),
    Removal(
        "b1",
        "what a running backup needs is not swept",
        "storage",
        "not process_lives(int(part[1]))",
        "True",
        (CATALOG + "only_leftovers_of_dead_processes_are_swept",),
    ),
    # B2
    Removal(
        "b2",
        "the checksum file names the archive beside it",
        "storage",
        "f\"{sidecar['sha256']}  {filename}\\n\"",
        "f\"{sidecar['sha256']}  {self.directory.name}/{filename}\\n\"",
        (CATALOG + "hazard_b2_sha256sum_accepts_the_sidecar_beside_the_archive",),
    ),
    Removal(
        "b2",
        "a checksum file that names something else is told",
        "storage",
        "if match is None or match[2] != archive:",
        "if match is None:",
        (CATALOG_GUARDS + "b2_a_sidecar_of_another_archive_is_told",),
    ),
    Removal(
        "b2",
        "two sidecars that disagree are told",
        "storage",
        'if listed and sidecar.get("sha256") not in (None, listed):',
        "if False:",
        (CATALOG_GUARDS + "b2_two_sidecars_that_disagree_are_told",),
    ),
    # B3: every failure reaches the exit status
    Removal(
        "b3",
        "an error is the exit status of the command",
        "cli.py",
        "return error.exit_status",
        "return ExitStatus.DONE",
        (HAZARDS + "b3_one_failed_database_is_the_exit_status_of_the_whole",),
    ),
    Removal(
        "b3",
        "a mistake in the program is one too",
        "cli.py",
        "return self._failed(unforeseen(error))",
        "self._failed(unforeseen(error))\n        return ExitStatus.DONE",
        (GUARDS + "b3_a_mistake_in_the_program_is_no_success",),
    ),
    Removal(
        "b3",
        "a stage of a pipe that fails fails the whole",
        "host/runner.py",
        "        _raise_for_status(completed)\n        return completed\n\n    def kill",
        "        return completed\n\n    def kill",
        (HAZARDS + "b3_a_last_stage_that_fails_after_writing_fails_the_backup",),
    ),
    Removal(
        "b3",
        "a program that fails is an error",
        "host/runner.py",
        "        if check:\n            _raise_for_status(completed)",
        "",
        (GUARDS + "b3_a_program_that_fails_is_an_error",),
    ),
    Removal(
        "b3",
        "a bad backup is the exit status of verify",
        "operations/verify.py",
        "ExitStatus.FINDINGS if bad else ExitStatus.DONE",
        "ExitStatus.DONE",
        (GUARDS + "b3_one_bad_backup_is_the_exit_status_of_verify_all",),
    ),
    Removal(
        "b3",
        "a prune that removed nothing for a reason is no success",
        "operations/prune.py",
        "ExitStatus.DONE if refusal is None else ExitStatus.FINDINGS",
        "ExitStatus.DONE",
        ("tests/unit/operations_r/test_prune_units.py::test_hazard_b4_prune_refuses_when_the_newest_is_bad",),
    ),
)
