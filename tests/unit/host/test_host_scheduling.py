# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""Batch work takes its turns as such, and whatever was chosen for the process stays chosen."""

from __future__ import annotations

import os
import threading

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import scheduling
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.scheduling import batch_work

ORDINARY = os.sched_param(0)


def in_a_thread(policy, work):
    """Policies are of threads: the one that runs the tests keeps its own."""
    seen = []

    def run():
        os.sched_setscheduler(0, policy, ORDINARY)
        work(seen)
        seen.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return seen


def policy_of_child():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, bytes([os.sched_getscheduler(0)]))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        return stream.read()[0]


def test_it_holds_for_what_is_started_and_ends_with_the_work():
    def work(seen):
        with pytest.raises(ValueError), batch_work():
            seen.extend((os.sched_getscheduler(0), policy_of_child()))
            raise ValueError

    assert in_a_thread(os.SCHED_OTHER, work) == [os.SCHED_BATCH, os.SCHED_BATCH, os.SCHED_OTHER]


def test_a_chosen_policy_stays():
    def work(seen):
        with batch_work():
            seen.append(os.sched_getscheduler(0))

    assert in_a_thread(os.SCHED_IDLE, work) == [os.SCHED_IDLE, os.SCHED_IDLE]


def test_a_sandbox_that_forbids_it_does_not_matter(monkeypatch):
    def refuse(*_arguments):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with batch_work():
        pass


def test_nor_does_a_system_without_such_calls(monkeypatch):
    monkeypatch.setattr(scheduling, "_POSSIBLE", False)
    monkeypatch.delattr(os, "sched_setscheduler")
    with batch_work():
        pass
