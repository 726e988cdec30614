# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
"""What a second process says is read to the byte, and no longer waited for than it has something to say."""

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.companion import Companion, exactly


def test_nothing_is_read_without_waiting() -> None:
    """A part without a byte, of one that goes on only when it is asked again."""

    def work(news: int, answer: int) -> None:
        os.write(answer, b"abc")
        exactly(news, 1)

    companion = Companion(work)
    begun = time.monotonic()
    assert [companion.hear(size) for size in (0, 3, 0)] == [b"", b"abc", b""]
    assert time.monotonic() - begun < 60
    companion.tell(b"x")
    assert companion.answer() == b""


def test_what_it_does_not_say_to_its_end_is_an_end() -> None:
    companion = Companion(lambda _news, answer: os.write(answer, b"ab") and None)
    with pytest.raises(EOFError):
        companion.hear(3)
    companion.end()


def test_more_than_a_pipe_holds_is_given_while_it_reads() -> None:
    def work(news: int, answer: int) -> None:
        data = exactly(news, 5 << 20)
        os.write(answer, b"whole" if data == b"n" * len(data) else b"other")

    companion = Companion(work)
    companion.give(b"n" * (5 << 20))
    assert companion.answer() == b"whole"
