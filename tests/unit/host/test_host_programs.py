# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Programs whose words are kept whatever comes of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import CommandError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.files import process_lives
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import Said


def test_both_outputs_are_heard_in_order_with_the_status() -> None:
    said = SubprocessRunner().listen(["sh", "-c", "echo one; echo two >&2; echo three; exit 3"])
    assert said == Said(3, "one\ntwo\nthree\n")
    assert said.last_line == "three"


def test_of_much_output_the_end_is_kept() -> None:
    said = SubprocessRunner().listen(["sh", "-c", "yes | head -c 300000; echo end"], keep_bytes=1000)
    assert len(said.output) == 1000
    assert said.last_line == "end"


def test_a_program_out_of_time_is_ended_with_all_it_started_and_its_words_are_kept(tmp_path: Path) -> None:
    script = f"echo begun; sleep 600 & echo $! > {tmp_path}/pid; sync {tmp_path}/pid; wait"
    said = SubprocessRunner().listen(["sh", "-c", script], timeout_seconds=1)
    assert said == Said(None, "begun\n")
    pid = int((tmp_path / "pid").read_text())
    # It is killed by now, and dies when it gets its turn.
    until = time.monotonic() + 20
    while process_lives(pid) and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(CommandError, match="no-such-program: is not installed"):
        SubprocessRunner().listen(["no-such-program"])


def test_a_detached_program_leads_a_session_of_its_own(tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        pid = SubprocessRunner().start_detached(["sh", "-c", "ps -o sid= -p $$; cat"], output=write)
    finally:
        os.close(write)
    with os.fdopen(read) as output:
        assert int(output.read()) == pid
