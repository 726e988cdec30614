# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What a case of HAZARDS D is, and how its world is built and its known ways are played."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deployers import KNOWN_WAYS, CopyAway, Deployer
from judging import Before, Damage, damages, remember
from world import DATA, FIRST, SECOND, Changes, World, world


def nothing(_world: World) -> None:
    """Nothing happens."""


def nothing_more(_world: World) -> list[Damage]:
    """There is nothing more to look at."""
    return []


@dataclass(frozen=True)
class Case:
    """One way to lose data.

    before: of the first commit, on top of the usual. live: files that the server has besides. prepare: what else was
    done there. push: of the second commit, on top of the usual. meanwhile: between the deploy and its rollback.
    precious: paths that a commit brought and that are data all the same. harm: what else is looked at.
    loses: the known ways that lose something, besides copying away, which always loses what the bot writes meanwhile.
    ways: in place of the known ways, where they are called otherwise. others: further ones, all of which lose.
    back: the known ways are rolled back, too.
    refuses: what tradekeep names and refuses under the policy `fail`; planned: whether its plan can know.
    proceeds: the policies with which it goes on.
    kept: paths that then are not as the commit says.
    """

    name: str
    hazard: int
    title: str
    before: Changes = field(default_factory=dict)
    live: Mapping[str, bytes] = field(default_factory=dict)
    prepare: Callable[[World], None] = nothing
    push: Changes = field(default_factory=dict)
    meanwhile: Callable[[World], None] = nothing
    precious: tuple[str, ...] = ()
    harm: Callable[[World], list[Damage]] = nothing_more
    loses: tuple[str, ...] = ()
    ways: Mapping[str, Deployer] = field(default_factory=dict)
    others: tuple[Deployer, ...] = ()
    back: bool = False
    refuses: tuple[str, ...] = ()
    proceeds: tuple[str, ...] = ("keep_live", "seed_if_absent")
    planned: bool = True
    kept: tuple[str, ...] = ()
    clone: tuple[str, ...] = ()
    owner: str = ""
    root: bool = False

    def is_lost_by(self, way: Deployer) -> bool:
        """Whether a known way is said to lose something."""
        return way.name in (CopyAway.name, *self.loses) or way in self.others

    def known_ways(self) -> list[Deployer]:
        """The three of every table, then those of this case."""
        return [*(self.ways.get(way.name, way) for way in KNOWN_WAYS), *self.others]


@dataclass
class Scene:
    """A case about to be deployed: upstream has pushed, the bot writes."""

    case: Case
    world: World
    before: Before

    def data_damages(self) -> list[Damage]:
        """What of the data is not as it was."""
        return damages(self.world, self.before)

    def harm(self) -> list[Damage]:
        """All that is not as it was."""
        return [*self.data_damages(), *self.case.harm(self.world)]


@contextmanager
def scene(case: Case) -> Iterator[Scene]:
    """Build the world of a case. It lies where every account can enter."""
    with tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as place:
        Path(place).chmod(0o755)
        with world(Path(place) / "world") as built:
            yield _built(case, built)


def _built(case: Case, built: World) -> Scene:
    built.first = built.push({**FIRST, **case.before})
    built.clone(*case.clone)
    built.put({**DATA, **case.live})
    (built.live / "data/empty").mkdir()
    case.prepare(built)
    built.second = built.push({**SECOND, **case.push})
    built.start_bot()
    return Scene(case, built, remember(built, case.precious))


def play(case: Case, way: Deployer) -> list[Damage]:
    """What a known way does to a case."""
    with scene(case) as built:
        if not way.deploy(built.world, built.world.second) and way in case.others:
            return [Damage("the deploy", "fails")]
        built.world.await_rounds()
        if case.back:
            case.meanwhile(built.world)
            if not way.deploy(built.world, built.world.first):
                return [Damage("the way back", "is lost")]
        built.world.await_rounds()
        built.world.stop_bot()
        # A file of the same content and rights is good enough here.
        return [found for found in built.harm() if found.what != "replaced"]
