# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A source is a stranger: whatever it sends, nothing is written where it does not belong, and it is told why."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.archive.manifest import Entry, entry_line
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import (
    ArchiveError,
    HostileArchiveError,
    SpaceError,
    TradekeepError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.arrivals import ARRIVING
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.blocks import Digests
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.channel import (
    Channel,
    LinkLostError,
    ProtocolError,
)
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.handover.receiving import Receiving
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from operations_handover.servers import Server

PLACE = "preferences/own.json"
DONE: dict[str, Any] = {"round": {}}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "new")


class Source:
    """Says what it is told to say."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._from_source, self._source = os.pipe()
        self._nowhere, to_source = os.pipe()
        self.channel = Channel(self._from_source, to_source, silence_seconds=2)
        self.receiving = Receiving(server.application, Ports(SubprocessRunner(), SystemClock(), NoProgress()))

    def says(self, *messages: dict[str, Any] | tuple[int, bytes] | bytes) -> None:
        for message in messages:
            if isinstance(message, bytes):
                os.write(self._source, message)
            elif isinstance(message, tuple):
                body = struct.pack(">Q", message[0]) + message[1]
                os.write(self._source, struct.pack(">cI", b"B", len(body)) + body)
            else:
                body = json.dumps(message).encode()
                os.write(self._source, struct.pack(">cI", b"J", len(body)) + body)

    def hangs_up(self) -> None:
        os.close(self._source)

    def received(self) -> Any:
        return self.receiving.receive(self.channel, "round")


@pytest.fixture
def source(server: Server) -> Iterator[Source]:
    made = Source(server)
    yield made
    made.channel.close()


def entry(path: str = PLACE, entry_type: str = "file", size: int = 0, **more: Any) -> dict[str, Any]:
    return {"entry": entry_line(Entry(path, entry_type, size, 0o600, "root", "root", 1, **more))}


def tree(content: bytes) -> str:
    digests = Digests()
    digests.resize(len(content))
    for number in range(digests.count):
        digests.differs(number, content[number << 16 : (number + 1) << 16])
    return digests.tree()


def outside(server: Server) -> list[str]:
    """All that lies anywhere but where arrivals belong."""
    found = []
    for path in server.base.rglob("*"):
        if ARRIVING not in path.parts:
            found.append(str(path.relative_to(server.base)))
    return sorted(found)


def test_what_is_sent_as_it_should_be_arrives(source: Source, server: Server) -> None:
    source.says(entry(size=5), (0, b"hello"), {"end": tree(b"hello")}, DONE)
    assert source.received().changed == {PLACE: None}
    assert Path(source.receiving.place_of(PLACE)).read_bytes() == b"hello"
    assert os.stat(source.receiving.place_of(PLACE)).st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "path",
    [
        "../out.json",
        "/etc/out.json",
        "preferences/../../out.json",
        "preferences//own.json",
        "preferences/own\0.json",
        "",
        "nowhere/out.json",
        "preferences/.tradekeep-stage-1/x.json",
        "preferences/" + "x" * 300,
    ],
)
def test_hazard_e6_names_that_lead_elsewhere_are_refused(source: Source, server: Server, path: str) -> None:
    before = outside(server)
    source.says(entry(path, size=1), (0, b"x"))
    with pytest.raises(HostileArchiveError):
        source.received()
    assert outside(server) == before


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "a/../../../x", ""])
def test_hazard_e6_links_that_lead_out_are_refused(source: Source, target: str) -> None:
    source.says(entry("preferences/link.json", "symlink", target=target))
    with pytest.raises(HostileArchiveError, match="symlink"):
        source.received()


def test_hazard_e6_nothing_arrives_beneath_a_link(source: Source, server: Server) -> None:
    source.says(entry("preferences/dir", "symlink", target="own"), entry("preferences/dir/own.json", size=1), (0, b"x"))
    with pytest.raises(HostileArchiveError, match="beneath the symlink"):
        source.received()


def test_a_file_does_not_become_a_link_behind_its_back(source: Source) -> None:
    source.says(entry(size=0), {"end": tree(b"")}, entry(PLACE, "symlink", target="x"))
    with pytest.raises(HostileArchiveError, match="changes what it is"):
        source.received()


def test_rights_and_owners_of_the_source_count_for_nothing(source: Source) -> None:
    source.says(
        entry(size=0, kind="sqlite", component="credentials", facts={"tables": {"x": 1}}), {"end": tree(b"")}, DONE
    )
    source.received()
    arrived = source.receiving.entry(PLACE)
    assert arrived is not None
    assert (arrived.owner, arrived.group, arrived.component, arrived.kind) == ("", "", "preferences", "json")
    assert arrived.facts == {}


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([entry(size=5), (1, b"hello")], ProtocolError),
        ([entry(size=5), (1 << 60, b"x")], ProtocolError),
        ([entry(size=5), (0, b"")], ProtocolError),
        ([(0, b"hello")], ProtocolError),
        ([entry(size=1 << 60)], SpaceError),
        ([entry(size=5), (0, b"hello"), {"end": tree(b"other")}], TradekeepError),
        ([entry(size=5), (0, b"hello"), {"end": 7}], ProtocolError),
        ([{"entry": "no entry"}], ArchiveError),
        ([{"entry": ["x"]}], ProtocolError),
        ([{"gone": 7}], ProtocolError),
        ([{"nobody": "knows"}], ProtocolError),
        ([{"error": "no object"}], TradekeepError),
        ([{"error": {"message": "it failed", "path": "x", "hint": None}}], TradekeepError),
        ([b"J\x00\x00\x00\x04nope"], ProtocolError),
        ([b"J\x00\x00\x00\x02[]"], ProtocolError),
        ([b"X\x00\x00\x00\x02{}"], ProtocolError),
        ([b"J\xff\xff\xff\xff"], ProtocolError),
        ([b"B\x00\x00\x00\x01x"], ProtocolError),
        ([b"J\x00\x00\x4e\x20" + b"[" * 20000], ProtocolError),
        ([{"entry": entry_line(Entry(PLACE, "file", 5, 0, "", "", 1 << 70))}], HostileArchiveError),
    ],
)
def test_what_nobody_would_say_is_refused(source: Source, server: Server, messages: list[Any], error: type) -> None:
    before = outside(server)
    source.says(*messages)
    with pytest.raises(error):
        source.received()
    assert outside(server) == before


def test_a_source_that_falls_silent_is_gone(source: Source) -> None:
    source.says(entry(size=5), (0, b"he"))
    with pytest.raises(LinkLostError, match="not been heard of"):
        source.received()


def test_a_source_that_hangs_up_is_gone(source: Source) -> None:
    source.says(entry(size=5), (0, b"he"))
    source.hangs_up()
    with pytest.raises(LinkLostError, match="is gone"):
        source.received()


def test_what_changed_while_it_was_read_comes_again(source: Source) -> None:
    """A file without its end is brought once more, and its parts that are here already count."""
    source.says(entry(size=5), (0, b"he"), entry(size=3), (0, b"new"), {"end": tree(b"new")}, DONE)
    assert source.received().changed == {PLACE: None}
    assert Path(source.receiving.place_of(PLACE)).read_bytes() == b"new"
    assert source.receiving.contents()["files"] == 1
