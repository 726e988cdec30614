# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The data around one exchange, looked at without having the services wait for it.

All of it is looked at before they are stopped and after they were started. In between the kernel tells what was
touched, and only that is looked at; where it cannot tell, everything is, and a note says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Callable, Optional

from ...errors import TradekeepError
from ...kinds.sqlite import SIDECAR_SUFFIXES
from .following import Followed
from .proof import Fact, Proof, Witness

# While the bot runs, what was missed can be looked at again.
_TRIES = 3


class Watched:
    """What was there before one exchange, and the proofs after it. Made while the bot runs.

    note: told why the data had to be looked at file by file between stop and start.
    """

    def __init__(self, witness: Witness, note: Callable[[str], None]) -> None:
        self._witness = witness
        self._note = note
        self._followed = self._follow()
        self._facts: dict[str, Fact] = witness.facts() if self._followed is None else self._followed.facts
        self._sampled = dict(self._facts)
        self._samples = witness.samples(self._sampled, self._hear)
        self._catch_up()

    def before(self) -> None:
        """With the services at rest, before anything is exchanged: what they wrote until they ended is theirs."""
        if self._followed is not None:
            try:
                self._followed.catch_up()
            except TradekeepError as error:
                self._lose(error)
        self._facts = self._witness.facts() if self._followed is None else self._followed.facts

    def after(self) -> Proof:
        """The proof as of now, before the services start."""
        if self._followed is not None:
            try:
                proof = self._proof_of(self._followed)
            except TradekeepError as error:
                self._lose(error)
            else:
                if not proof.damaged:
                    return proof
        return self.later()

    def later(self) -> Proof:
        """The proof as of now, from a look at everything."""
        return self._witness.compare(self._facts, self._witness.facts(), self._samples, self._sampled)

    def close(self) -> None:
        """Follow the data no longer."""
        if self._followed is not None:
            self._followed.close()
            self._followed = None

    def _proof_of(self, followed: Followed) -> Proof:
        """The proof by what was touched: it is judged as if there were nothing else, and the rest is untouched."""
        looked_at = set(followed.touched())
        # The rows of a database can be in its WAL.
        databases = {path[: -len(suffix)] for path in looked_at for suffix in SIDECAR_SUFFIXES if path.endswith(suffix)}
        looked_at |= {path + suffix for path in looked_at | databases for suffix in ("", *SIDECAR_SUFFIXES)}
        facts = ((path, self._witness.fact(path)) for path in looked_at)
        before = {path: self._facts[path] for path in looked_at if path in self._facts}
        after = {path: fact for path, fact in facts if fact is not None}
        proof = self._witness.compare(before, after, self._samples, self._sampled)
        rest = followed.files.copy()
        for name, counts in proof.components.items():
            rest[name] -= counts["files"]
        for name, count in rest.items():
            counts = proof.components.setdefault(name, {"files": 0, "untouched": 0, "written": 0})
            counts["files"] += count
            counts["untouched"] += count
        named = sorted(proof.components.items())
        return dataclasses.replace(proof, components={name: counts for name, counts in named if counts["files"]})

    def _catch_up(self) -> None:
        """What the bot did meanwhile is looked at now rather than while it is stopped."""
        if self._followed is None:
            return
        try:
            self._followed.catch_up()
        except TradekeepError:
            self.close()
            self._followed = self._follow()

    def _hear(self, _path: str) -> None:
        """To read a database takes time in which the bot goes on."""
        if self._followed is not None:
            with contextlib.suppress(TradekeepError):  # who catches up is told once more
                self._followed.hear()

    def _follow(self) -> Optional[Followed]:
        for attempt in range(_TRIES):
            try:
                return Followed(self._witness)
            except TradekeepError as error:
                if attempt == _TRIES - 1:
                    self._tell(error)
        return None

    def _lose(self, reason: TradekeepError) -> None:
        self.close()
        self._tell(reason)

    def _tell(self, reason: TradekeepError) -> None:
        self._note(f"all data was looked at file by file between stop and start: {reason}")
