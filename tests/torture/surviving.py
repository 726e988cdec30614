# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""What tradekeep promises: it refuses and touches nothing, or deploys, again, and back, and loses nothing."""

from __future__ import annotations

from cases import Case, Scene, scene
from deployers import Answer, Tradekeep
from judging import code_differences
from world import BOTS_OWN, Seen, git, look

FAIL = "fail"


def policies(case: Case) -> list[str]:
    """With which policies a case is played: once refused, and with each that goes on."""
    return [FAIL, *case.proceeds] if case.refuses else [FAIL]


def survive(case: Case, policy: str, ours: Tradekeep | None = None) -> None:
    """Play a case against tradekeep."""
    ours = ours or Tradekeep(owner=case.owner)
    with scene(case) as built:
        if policy == FAIL and case.refuses:
            refused(built, ours)
        else:
            there_and_back(built, ours, policy)


def refused(built: Scene, ours: Tradekeep) -> None:
    """Exit status 3, the path named, and nothing written: neither by the plan nor by the deploy."""
    was = everything(built)
    for option in ([("--dry-run",)] if built.case.planned else []) + [()]:
        answer = ours.run(built.world, "deploy", built.world.second, "--no-backup", *option)
        assert answer.status == 3, answer.text
        for path in built.case.refuses:
            assert path in answer.text
        none(differences(was, everything(built)))
    built.world.await_rounds()
    built.world.stop_bot()
    unharmed(built, built.world.first, old=True)


def there_and_back(built: Scene, ours: Tradekeep, policy: str) -> None:
    """Plan, deploy, deploy again, roll back; the bot writes all the while."""
    world, options = built.world, () if policy == FAIL else ("--on-collision", policy)
    was = everything(built)
    answer = ours.plan(world, world.second, *options)
    assert (answer.status, answer.record.get("state")) == (0, "planned"), answer.text
    none(differences(was, everything(built)))
    deployed = told(ours, built, "deployed", "deploy", world.second, "--no-backup", *options)
    assert (deployed.record["old_commit"], deployed.record["new_commit"]) == (world.first, world.second)
    assert deployed.record["proof"]["verdict"] == "preserved"
    unharmed(built, world.second)
    was = everything(built)
    told(ours, built, "unchanged", "deploy", world.second, "--no-backup", *options)
    none(differences(was, everything(built)))
    built.case.meanwhile(world)
    told(ours, built, "rolled_back", "deploy", "--rollback")
    unharmed(built, world.first)
    world.await_rounds()
    world.stop_bot()
    unharmed(built, world.first)


def told(ours: Tradekeep, built: Scene, state: str, *arguments: str) -> Answer:
    """What the command answers with ``--json``; the bot goes on writing."""
    answer = ours.run(built.world, *arguments, "--json")
    assert (answer.status, answer.record.get("state")) == (0, state), answer.text
    built.world.await_rounds()
    return answer


def unharmed(built: Scene, commit: str, *, old: bool = False) -> None:
    """The data is as it was but for what the bot wrote, and the code is exactly a commit."""
    world, case = built.world, built.case
    if old:  # refused: what was edited on the server is still there
        none([str(found) for found in built.data_damages()])
        return
    none([str(found) for found in built.harm()])
    none(code_differences(world, commit, built.before, kept=case.kept))
    if not case.owner:
        assert git(world.live, "rev-parse", "HEAD") == commit
        changed = git(world.live, "status", "--porcelain", "--untracked-files=no").splitlines()
        none([line for line in changed if not _is_kept(line.split()[-1], case)])


def none(found: list[str]) -> None:
    """Nothing of the kind was found."""
    assert not found, "; ".join(found)


def _is_kept(path: str, case: Case) -> bool:
    return any(path == kept or kept.startswith(f"{path}/") or path.startswith(f"{kept}/") for kept in case.kept)


def everything(built: Scene) -> dict[str, Seen]:
    """Every file of the checkout, with the repository's own, but for what the bot writes."""
    return look(built.world.live, skip=BOTS_OWN)


def differences(was: dict[str, Seen], now: dict[str, Seen]) -> list[str]:
    """The paths that are not as they were."""
    return sorted(path for path in {*was, *now} if was.get(path) != now.get(path))
