# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Guards that keep root from following the bot: below root, in workers, and to what the bot can change."""

from __future__ import annotations

from .removal import Removal

CAPTURE = "tests/attacks/test_capture.py::test_"
CONFIGURATION = "tests/attacks/test_configuration.py::test_"
DEPTH = "tests/attacks/test_depth.py::test_"
MIGRATION = "tests/attacks/test_migration.py::test_"
RESTORE = "tests/attacks/test_restore.py::test_"
SIGNERS = "tests/attacks/test_signers.py::test_"
TREE = "tests/attacks/test_tree.py::test_"
WORKER = "tests/attacks/test_worker.py::test_"


def _following(
    guard: str, place: str, old: str, new: str, *tests: str, more: tuple[tuple[str, str], ...] = ()
) -> Removal:
    return Removal("following", guard, place, old, new, tests, more)


_BACKUPS = (
    _following(
        "the reader of a backup has the owner's account",
        "operations/tree_reader.py",
        "account=other,",
        "account=None,",
        CAPTURE + "the_reader_is_the_owner_and_nothing_else",
        CAPTURE + "a_directory_that_is_swapped_while_it_is_read_shows_nothing_of_roots",
    ),
    _following(
        "the writer of a backup drops its capabilities",
        "operations/write_archive.py",
        "Readers(other, observe=True, forked=drop_capabilities)",
        "Readers(other, observe=True)",
        CAPTURE + "the_writer_has_no_capability",
    ),
    _following(
        "what cannot be read and matters fails the backup",
        "operations/assemble.py",
        'return not (found.required or found.kind == "sqlite" or found.component in self._critical)',
        "return True",
        CAPTURE + "what_matters_and_cannot_be_read_fails_the_backup",
    ),
    _following(
        "what a component that is critical holds has to be readable",
        "operations/assemble.py",
        " or found.component in self._critical)",
        ")",
        CAPTURE + "what_matters_and_cannot_be_read_fails_the_backup",
    ),
    _following(
        "what cannot be read and does not matter fails no backup",
        "operations/assemble.py",
        "if isinstance(error, UnreadableError) and self._may_be_left_out(found):",
        "if False:",
        CAPTURE + "what_the_owner_cannot_read_is_named_and_left_out",
    ),
    _following(
        "a directory that cannot be read fails the backup",
        "operations/found.py",
        'raise UnreadableError("may not be read by the owner of the data", path=directory.absolute) from None',
        "return []",
        CAPTURE + "a_directory_that_cannot_be_read_fails_the_backup",
    ),
)

_RESTORES = (
    _following(
        "a restore acts as the owner",
        "operations/restore.py",
        "    with acting_as(owner_of(application)):\n",
        "    if True:\n",
        RESTORE + "a_file_of_roots_does_not_become_the_bots_when_the_stage_is_swapped",
        RESTORE + "a_directory_that_is_swapped_during_the_comparison_tells_nothing",
        RESTORE + "the_safety_backup_holds_no_hard_link_to_a_file_of_roots",
    ),
    _following(
        "recover acts as the owner",
        "operations/recover.py",
        "    with acting_as(owner_of(application)):\n        return _recover(",
        "    if True:\n        return _recover(",
        RESTORE + "what_recover_removes_lies_in_the_tree_alone",
    ),
    _following(
        "what the owner cannot read is not replaced",
        "operations/restore_plan.py",
        "        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)\n",
        "        from ..host.filesystem.identity import privileged\n        with privileged():\n"
        "            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)\n",
        RESTORE + "what_the_owner_cannot_read_is_not_replaced",
    ),
    _following(
        "what the owner cannot read is not removed",
        "operations/restore_plan.py",
        "        os.close(_open_live(live))\n",
        "        pass\n",
        RESTORE + "what_the_owner_cannot_read_is_not_replaced",
    ),
    _following(
        "renames go by descriptor beneath the top",
        "transaction/renames.py",
        "return open_at(descriptor, parent[len(top) + 1 :], os.O_RDONLY | os.O_DIRECTORY, shown=top)",
        "return os.open(parent, os.O_RDONLY | os.O_DIRECTORY)",
        RESTORE + "a_directory_that_is_swapped_before_the_exchange_gets_nothing",
    ),
    _following(
        "the tops of an exchange are opened once",
        "transaction/renames.py",
        "return open_at(descriptor, parent[len(top) + 1 :],",
        "return open_at(os.open(top, os.O_RDONLY), parent[len(top) + 1 :],",
        RESTORE + "a_top_that_is_swapped_before_the_exchange_gets_nothing",
    ),
    _following(
        "stages of an earlier version are adopted",
        "transaction/recovery.py",
        "            adopt_stage(directory, acting_uid())\n",
        "            pass\n",
        RESTORE + "what_an_earlier_version_left_half_done_is_brought_to_its_end",
    ),
    _following(
        "what somebody else made is not given away",
        "host/filesystem/chown.py",
        "if present.st_uid != acting_uid() or shared",
        "if shared",
        WORKER + "only_what_was_made_here_is_given_away",
    ),
    _following(
        "what has a second name is not given away",
        "host/filesystem/chown.py",
        "acting_uid() or shared or not",
        "acting_uid() or not",
        WORKER + "only_what_was_made_here_is_given_away",
    ),
    _following(
        "what is neither file nor directory is not given away",
        "host/filesystem/chown.py",
        " or not (_is_plain(present.st_mode)):",
        ":",
        WORKER + "only_what_was_made_here_is_given_away",
    ),
)

_TREES = (
    _following(
        "documents and rights of the tree go by descriptor",
        "operations/tree.py",
        "directory = open_directory_beneath(Path(application.root), parent)",
        "directory = os.open(absolute(application, parent), os.O_RDONLY)",
        TREE + "a_credential_goes_nowhere_else_when_its_directory_is_swapped",
        TREE + "a_mode_is_not_given_to_what_lies_elsewhere",
    ),
    _following(
        "what lies below is looked up without symlinks in one step",
        "host/filesystem/beneath.py",
        "_RESOLVE = 0x04 | 0x08",
        "_RESOLVE = 0",
        TREE + "no_level_is_followed_to_a_directory_of_roots",
    ),
    _following(
        "what lies below is looked up without symlinks level by level",
        "host/filesystem/beneath.py",
        "_ON_THE_WAY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "_ON_THE_WAY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC",
        TREE + "no_level_is_followed_to_a_directory_of_roots",
    ),
    _following(
        "the tree is written in the name of the directory's owner",
        "operations/tree.py",
        "return acting_as(account_of_uid(status.st_uid, status.st_gid))",
        "return acting_as(account_of_uid(0, status.st_gid))",
        TREE + "what_is_made_in_a_directory_is_made_in_its_owners_name",
    ),
    _following(
        "a hard link in the tree is refused",
        "operations/tree_plan.py",
        "if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:",
        "if False:",
        TREE + "a_hard_link_is_not_given_away",
    ),
    _following(
        "a hard link that comes after the plan is refused",
        "operations/tree.py",
        "if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:",
        "if False:",
        TREE + "a_hard_link_that_comes_after_the_plan_is_not_given_away",
    ),
    _following(
        "a root is made level by level",
        "operations/tree.py",
        "            make_root(application.root)\n",
        "            os.makedirs(application.root, exist_ok=True)\n",
        TREE + "a_home_that_is_a_symlink_of_the_bots_leads_nowhere",
    ),
    _following(
        "a level of a root is made in the name of who owns the one above",
        "host/filesystem/beneath.py",
        "            with acting_as(account_of_uid(owner.st_uid, owner.st_gid)):\n",
        "            if owner:\n",
        TREE + "the_levels_above_a_root_belong_to_who_owns_the_one_above",
    ),
    _following(
        "a symlink above a root is root's own",
        "host/filesystem/beneath.py",
        "if holder.st_uid != 0 or holder.st_mode & 0o022:",
        "if False:",
        RESTORE + "a_root_whose_parent_is_swapped_is_not_followed",
        TREE + "a_home_that_is_a_symlink_of_the_bots_leads_nowhere",
    ),
)

_WORKERS = (
    _following(
        "a worker has the account that was asked for",
        "host/confinement.py",
        "        become(account)\n",
        "        pass\n",
        WORKER + "it_has_the_owners_account_and_no_way_back",
    ),
    _following(
        "a worker has no terminal",
        "host/confinement.py",
        "    os.setsid()\n",
        "",
        WORKER + "it_has_no_terminal_and_no_descriptor_of_roots",
    ),
    _following(
        "a worker has no standard output of root's",
        "host/confinement.py",
        "for standard in (0, 1, 2):",
        "for standard in ():",
        WORKER + "it_has_no_terminal_and_no_descriptor_of_roots",
    ),
    _following(
        "a worker has no descriptor of root's",
        "host/companion.py",
        "        _close_all_but(news, result, *keep)\n",
        "",
        WORKER + "it_has_no_terminal_and_no_descriptor_of_roots",
    ),
    _following(
        "a worker gets no rights by a program",
        "host/confinement.py",
        "    _prctl(_PR_SET_NO_NEW_PRIVS, 1)\n    _prctl(_PR_SET_DUMPABLE, 0)\n",
        "    _prctl(_PR_SET_DUMPABLE, 0)\n",
        WORKER + "it_gets_no_more_rights_by_a_program_of_roots",
    ),
    _following(
        "nobody looks into a worker",
        "host/confinement.py",
        "    _prctl(_PR_SET_DUMPABLE, 0)\n    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)\n",
        "    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)\n",
        WORKER + "the_bot_cannot_look_into_it_or_have_it_dump_core",
    ),
    _following(
        "a worker dumps no core",
        "host/confinement.py",
        "    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n",
        "",
        WORKER + "the_bot_cannot_look_into_it_or_have_it_dump_core",
    ),
    _following(
        "a worker ends with who waits for it",
        "host/confinement.py",
        "    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)\n",
        "",
        WORKER + "it_ends_with_who_waits_for_it",
    ),
    _following(
        "the memory of a worker has a limit",
        "host/confinement.py",
        "resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))",
        "pass",
        WORKER + "its_memory_has_a_limit",
    ),
    _following(
        "a worker has an alarm of its own",
        "host/worker.py",
        "            signal.setitimer(signal.ITIMER_REAL, self._seconds)\n",
        "            pass\n",
        WORKER + "one_that_hangs_is_ended_by_its_own_alarm",
    ),
    _following(
        "a worker that ignores its alarm is not waited for",
        "host/worker.py",
        "if not wait_for((self._companion.answers,), seconds=seconds + _GRACE_SECONDS):",
        "if not wait_for((self._companion.answers,)):",
        WORKER + "one_that_ignores_its_alarm_is_not_waited_for",
    ),
    _following(
        "what a worker says at once has an end",
        "host/worker.py",
        "if length > (LARGEST_RESULT if kind == _RESULT else LARGEST_FRAME):",
        "if False:",
        WORKER + "what_it_says_is_judged",
    ),
    _following(
        "what a worker says is JSON",
        "host/worker.py",
        "except (ValueError, RecursionError):",
        "except RecursionError:",
        WORKER + "what_it_says_is_judged",
    ),
    _following(
        "what a worker says is not too deep",
        "host/worker.py",
        "except (ValueError, RecursionError):",
        "except ValueError:",
        WORKER + "what_it_says_is_judged",
    ),
    _following(
        "what a worker says of its progress is judged",
        "host/worker.py",
        "except (TypeError, ValueError):",
        "except KeyError:",
        WORKER + "what_it_says_is_judged",
    ),
    _following(
        "a worker says nothing that nobody asked for",
        "host/worker.py",
        'raise _unusable("sends what nobody asked for")',
        "pass",
        WORKER + "what_it_says_is_judged",
    ),
    _following(
        "an error of a worker's has a form",
        "host/worker.py",
        "if not isinstance(said, dict):",
        "if False:",
        WORKER + "what_it_says_is_judged",
    ),
    _following(
        "an error of a worker's is one of the engine's",
        "host/worker.py",
        "if not (isinstance(kind, type) and issubclass(kind, TradekeepError)):",
        "if kind is None:",
        WORKER + "what_it_says_is_judged",
    ),
    _following(
        "an honest worker's notes have an end",
        "host/worker.py",
        "        if self._notes <= MOST_NOTES:\n            self.send(",
        "        if True:\n            self.send(",
        WORKER + "one_that_is_honest_sends_no_more_notes_than_are_shown",
    ),
    _following(
        "the notes of a worker that was taken over have an end",
        "host/worker.py",
        "            if self._notes <= MOST_NOTES:\n                self._progress",
        "            if True:\n                self._progress",
        WORKER + "its_notes_have_an_end_whatever_it_sends",
    ),
    _following(
        "a note of a worker that was taken over has an end",
        "host/worker.py",
        "self._progress.note(str(_decoded(payload))[:LONGEST_NOTE])",
        "self._progress.note(str(_decoded(payload)))",
        WORKER + "its_notes_have_an_end_whatever_it_sends",
    ),
)

_TRUST = (
    _following(
        "root opens only what nobody else can change",
        "host/trust.py",
        "    if os.geteuid() != 0:\n        descriptor = os.open(path,",
        "    if True:\n        descriptor = os.open(path,",
        CONFIGURATION + "root_reads_no_configuration_that_the_bot_can_change",
        CONFIGURATION + "root_reads_no_passphrase_that_the_bot_can_change",
    ),
    _following(
        "every directory above a file that root opens is looked at",
        "host/trust.py",
        "        found = _judged(level)\n        if found is not None:\n",
        "        found = _judged(level)\n        if found is not None and level.name == os.path.basename(path):\n",
        CONFIGURATION + "root_reads_no_configuration_that_the_bot_can_change",
    ),
    _following(
        "root has no program read what others can change",
        "host/trust.py",
        "    found = untrusted_level(path)\n    if found is not None:\n        raise",
        "    found = untrusted_level(path)\n    if found is not None and False:\n        raise",
        CONFIGURATION + "the_key_of_a_recipient_is_not_the_bots_to_choose",
        CONFIGURATION + "the_known_hosts_of_a_migration_are_not_the_bots_to_choose",
    ),
    _following(
        "a group with members is others",
        "host/trust.py",
        '    return set(group.gr_mem) <= {"root"} and',
        "    return True or",
        CONFIGURATION + "a_directory_of_programs_that_a_group_can_write_counts_while_nobody_is_in_the_group",
    ),
    _following(
        "root starts no program that others can change",
        "host/runner.py",
        "if untrusted_reason(found) is None), None)",
        "), None)",
        CONFIGURATION + "a_directory_of_programs_that_a_group_can_write_counts_while_nobody_is_in_the_group",
    ),
    _following(
        "programs of root's have root's home",
        "host/runner.py",
        "    if os.geteuid() == 0:\n        with contextlib.suppress(KeyError):\n            return pwd",
        "    if False:\n        with contextlib.suppress(KeyError):\n            return pwd",
        CONFIGURATION + "gpg_of_root_reads_no_home_of_the_bots",
    ),
    _following(
        "temporary files of root's go to no place of the bot's",
        ".",
        "    leave_untrusted_places()\n        words",
        "    words",
        CONFIGURATION + "temporary_files_of_root_do_not_go_where_the_bot_says",
        more=(
            (
                "            if untrusted is not None:\n                trouble",
                "            if False:\n                trouble",
            ),
        ),
    ),
    _following(
        "no code of a home comes before the program",
        "program.py",
        'PYTHON_OPTIONS = "-IXutf8"',
        'PYTHON_OPTIONS = "-Xutf8"',
        CONFIGURATION + "the_program_runs_no_code_of_a_home_of_the_bots",
    ),
    _following(
        "supervisorctl runs as the account that can change its file",
        "host/supervisor.py",
        "        found = None if config is None else untrusted_level(config)\n",
        "        found = untrusted_level('/')\n",
        CONFIGURATION + "a_plugin_of_the_bots_for_supervisorctl_never_runs_as_root[fence --dry-run]",
    ),
    _following(
        "supervisorctl does not run with a file that everybody can change",
        "host/supervisor.py",
        "if found.uid == 0 or self._config is None:",
        "if self._config is None:",
        CONFIGURATION + "a_configuration_in_a_directory_of_everybodys_is_not_used_at_all",
    ),
    _following(
        "supervisorctl finds no file of the bot's by itself",
        "host/supervisor.py",
        "if found.uid == 0 or self._config is None:",
        "if found.uid == 0:",
        CONFIGURATION + "a_configuration_of_the_system_that_others_can_write_is_not_used",
    ),
    _following(
        "an ssh signer is judged at the time of the deploy",
        "git/signatures.py",
        "if found is not None and (ssh_signers is None or _is_good_now(git, what, number, ssh_signers)):",
        "if found is not None:",
        SIGNERS + "an_ssh_signer_whose_time_is_over_dates_a_commit_back[20210101]",
        SIGNERS + "an_ssh_signer_whose_time_is_over_dates_a_tag_back",
    ),
    _following(
        "a gpg signature that was good once is not good",
        "git/signatures.py",
        'if _GPG_STATES.findall(completed.stderr) != ["GOODSIG"]:',
        "if False:",
        SIGNERS + "an_expired_gpg_key_dates_a_commit_back",
        SIGNERS + "an_expired_part_of_a_gpg_key_dates_a_commit_back",
        SIGNERS + "a_revoked_gpg_key_dates_a_commit_back",
        SIGNERS + "a_gpg_signature_whose_own_time_is_over",
        # git and the form of the line each refuse it as well.
        more=(
            ("    if completed.status != 0:\n        return None\n    good", "    good"),
            ("GNUPG:\\] GOODSIG", "GNUPG:\\] (?:GOODSIG|EXPSIG|EXPKEYSIG|REVKEYSIG)"),
        ),
    ),
)

_DEPTH = (
    _following(
        "a backup does not look into the depth",
        "operations/found.py",
        'if entry_type == "directory" and lies_too_deep(path):',
        "if False:",
        DEPTH + "a_backup_leaves_out_what_lies_too_deep_and_names_it[1000]",
    ),
    _following(
        "long names are as deep as many",
        "operations/found.py",
        "return len(directory) * 4 > _LONGEST_DIRECTORY and",
        "return False and",
        DEPTH + "long_names_are_as_deep_as_many",
    ),
    _following(
        "a tree is not made in the depth",
        "operations/tree_plan.py",
        "        if lies_too_deep(path):\n",
        "        if False:\n",
        DEPTH + "what_lies_too_deep_stops_no_tree_and_no_restore[1000]",
    ),
    _following(
        "a deploy does not look into the depth",
        "operations/deploy/look.py",
        'deep = {name for name in names if lies_too_deep(f"{below}/{name}")}',
        "deep = set[str]()",
        DEPTH + "a_deploy_takes_what_lies_too_deep_for_data[1000]",
    ),
    _following(
        "a migration does not look into the depth",
        "operations/migrate/origin_directory.py",
        "elif (path in seen or path in above or lookup.leads_on(path)) and not lies_too_deep(path):",
        "elif path in seen or path in above:",
        DEPTH + "what_no_component_has_is_named_without_looking_into_the_depth[1000]",
    ),
    _following(
        "an archive has so many levels and no more",
        "archive/safety.py",
        'if name.count("/") >= MOST_LEVELS:',
        "if False:",
        DEPTH + "an_archive_of_so_many_levels_is_refused",
    ),
    _following(
        "what is moved away while it is removed takes nothing else along",
        "host/files.py",
        "if (facts.st_dev, facts.st_ino) != level.identity:",
        "if False:",
        DEPTH + "a_directory_that_is_moved_away_while_it_is_removed_takes_nothing_else_along",
    ),
)

_ELSEWHERE = (
    _following(
        "what a migration sends is read in the owner's name",
        "operations/handover",
        "with acting_as(account_for(application)), contextlib.ExitStack() as stack:\n"
        "        check_root(application)\n        session",
        "with contextlib.ExitStack() as stack:\n        check_root(application)\n        session",
        MIGRATION + "a_directory_swapped_after_the_stop_sends_nothing_of_roots",
        more=(("            account=other,\n", "            account=None,\n"),),
    ),
    _following(
        "what arrives goes through real directories, in the owner's name",
        ".",
        "with acting_as(account_for(application)), contextlib.ExitStack() as stack:\n"
        "        check_root(application)\n        stack.enter",
        "with contextlib.ExitStack() as stack:\n        check_root(application)\n        stack.enter",
        MIGRATION + "a_directory_of_arrivals_that_is_a_link_leads_nowhere",
        more=(("_RESOLVE = 0x04 | 0x08", "_RESOLVE = 0"),),
    ),
    _following(
        "a check that is not finished is a note",
        "kinds/sqlite.py",
        "            except TimeUpError as error:\n                _patience",
        "            except KeyError as error:\n                _patience",
        "tests/attacks/test_hanging.py::test_an_index_of_half_a_second_a_row_is_verified_drilled_and_restored",
    ),
    _following(
        "nobody can list the scratch directories of others",
        "host/filesystem/scratch.py",
        "SHARED_MODE = 0o1733",
        "SHARED_MODE = 0o1777",
        "tests/attacks/test_leftovers.py::test_nobody_can_list_or_enter_what_another_account_has_there",
    ),
)

FOLLOWING = (*_BACKUPS, *_RESTORES, *_TREES, *_WORKERS, *_TRUST, *_DEPTH, *_ELSEWHERE)
