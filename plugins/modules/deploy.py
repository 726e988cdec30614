#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A deploy of code beside live data, as one transaction."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deploy
short_description: Deploy code where data lives
version_added: 0.1.0
description:
  - Brings the code of an application to a commit. Fetches and stages it while the bot runs, stops the services,
    exchanges the files that changed by rename, starts the services again, sees that they stay up and are healthy, and
    proves that the data was left alone. On any failure everything is put back.
  - Files that neither the last deploy nor this one put there are never touched, and neither is what the profile
    preserves. Deploying what is there already changes nothing and stops no service.
  - The code may be an existing git checkout with data in it. The first deploy adopts it where it is.
  - On a host with systemd the deploy runs under a unit of its own, which ends well by itself when the connection or
    the controller is lost.
  - In check mode the whole plan is made and nothing is written, not even what git fetches.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Paths and commits, never content.
  idempotent:
    support: full
  platform:
    platforms: linux
options:
  ref:
    description:
      - Branch, tag or commit. It is resolved once.
      - Required unless O(rollback=true).
    type: str
  rollback:
    description: Go back to the commit that was deployed before the one that stands.
    type: bool
    default: false
  expected:
    description: With O(rollback=true), the commit that must stand now. Where another one does, nothing is rolled back.
    type: str
  repository:
    description: Where git fetches from, where it is not the configured place.
    type: str
  on_collision:
    description:
      - What happens where upstream wants a path that live data has, where it is not what the profile says.
      - V(fail) refuses the deploy and names each of them, V(keep_live) leaves the live file alone and deploys the rest,
        V(seed_if_absent) does too but creates what is not there.
    type: str
    choices: [fail, keep_live, seed_if_absent]
  adopt:
    description:
      - Replace what lies in the place of code though no deploy put it there, such as code that was copied by hand, and
        keep it in the quarantine. A real directory in the place of the link to the virtual environment makes way too,
        and is kept beside the other environments.
      - Databases, logs, and what upstream's C(.gitignore) names are data, and never replaced.
    type: bool
    default: false
  backup_first:
    description: Which data is backed up before the deploy, where it is not what the profile says.
    type: str
    choices: [none, critical, all]
  layout:
    description:
      - How the code lies on the host, where it is not what the profile says.
      - V(in_place) is one directory, V(releases) a directory for each commit and the symlink C(current).
    type: str
    choices: [in_place, releases]
  by:
    description: Who asked for it, for the record. The account that logged in where it is empty.
    type: str
    default: ""
  leave_down:
    description:
      - Start nothing that did not run before, not even after the first code of all.
      - For a server whose data comes after its code, as no bot may start without its data.
    type: bool
    default: false
  force:
    description:
      - Go on although a process that no service of the profile owns has data of the application open for writing.
        It loses what it writes into files that are replaced.
      - Without it such a process, named with its number and the file, ends the operation with nothing changed.
    type: bool
    default: false
  wait_seconds:
    description:
      - Seconds after which the answer is RV(record.state=running) where the deploy runs under its unit and has not
        ended. It goes on by itself. No limit by default.
      - Where there is nothing to deploy, or little, one call is enough. Ask for the others again with O(request), under
        C(async), so that a connection that drops meanwhile does no harm.
    type: int
  request:
    description: Wait for the deploy that RV(record.request) names, instead of asking for one. O(ref) is not needed.
    type: str
seealso:
  - module: tradekeep.ops.deploy_info
  - module: tradekeep.ops.recover
  - module: tradekeep.ops.tracked_data
"""

EXAMPLES = r"""
- name: Deploy the main branch
  tradekeep.ops.deploy:
    app: kalshi
    ref: main
    wait_seconds: 20
  register: asked

- name: Wait for it
  tradekeep.ops.deploy:
    app: kalshi
    request: "{{ asked.record.request }}"
  async: 7200
  poll: 5
  when: asked.record.state == 'running'

- name: Go back
  tradekeep.ops.deploy:
    app: kalshi
    rollback: true

- name: Deploy a commit, and leave live files alone that it wants to replace
  tradekeep.ops.deploy:
    app: kalshi
    ref: 3f2a9c1d5e7b8a604c2d1e0f9b8a7c6d5e4f3a2b
    on_collision: keep_live
"""

RETURN = r"""
record:
  description: The record of the deploy, as C(tradekeep deploy --log --json) shows it.
  returned: always
  type: dict
  contains:
    state:
      description:
        - V(planned), V(unchanged), V(deployed), V(rolled_back), V(waiting), V(refused) or V(running).
        - V(waiting) is a deploy that stands while services are down for want of files, see RV(record.missing).
        - Where a deploy fails, its record on the host has V(undone) or V(rollback_failed).
      returned: success or refused
      type: str
    request:
      description: Name of what is still running, for O(request). Nothing else is known of it yet.
      returned: when O(wait_seconds) are over
      type: str
    ref:
      description: What was asked for.
      returned: success or refused
      type: str
    old_commit:
      description: Commit of the code that was there, none before the first deploy.
      returned: success or refused
      type: str
    new_commit:
      description: Commit that was asked for.
      returned: success or refused
      type: str
    layout:
      description: V(in_place) or V(releases).
      returned: success or refused
      type: str
    by:
      description: Who asked for it.
      returned: success or refused
      type: str
    rollback:
      description: Whether it was a rollback.
      returned: success or refused
      type: bool
    changes:
      description: Counts (C(created), C(replaced), C(removed)), C(paths) by action, and what was C(edited) on the host.
      returned: success or refused
      type: dict
    commits:
      description: The commits from the old one to the new one, with C(commit) and C(subject).
      returned: success or refused
      type: list
      elements: dict
    collisions:
      description: Paths that upstream wants and live data has, with C(path), C(kind), C(what), C(policy), C(outcome).
      returned: success or refused
      type: list
      elements: dict
    obstacles:
      description: Why it cannot be carried out, apart from collisions. In check mode also what a deploy finds at work.
      returned: success or refused
      type: list
      elements: str
    notes:
      description: What a person should know.
      returned: success or refused
      type: list
      elements: str
    missing:
      description: Files that must be there, with the mode 0600, before the services are started.
      returned: success or refused
      type: list
      elements: str
    downtime_seconds:
      description: How long the services were stopped.
      returned: when it was carried out
      type: float
    seconds:
      description: How long each step took.
      returned: when it was carried out
      type: dict
    proof:
      description: C(verdict) (V(preserved) or V(damaged)) on the data, and C(components) with their counts.
      returned: when it was carried out
      type: dict
    health:
      description: What the health checks found.
      returned: when it was carried out
      type: list
      elements: dict
    hooks:
      description: The hooks that ran, and where their output is.
      returned: when it was carried out
      type: list
      elements: dict
    backup:
      description: Path of the backup that was made before, if any.
      returned: when it was carried out
      type: str
    rescued:
      description: Where local commits and edits are kept.
      returned: when it was carried out
      type: dict
    quarantined:
      description: Files that were edited on the host, or copied there by hand, and are kept aside.
      returned: when it was carried out
      type: list
      elements: str
    set_aside:
      description: Where a directory is now that made way for the link to the virtual environment.
      returned: when it was carried out
      type: list
      elements: str
    started:
      description: The services that were started.
      returned: when it was carried out
      type: list
      elements: str
    record:
      description: Path of the record on the host.
      returned: when it was carried out
      type: str
exit_status:
  description: The exit status that the C(tradekeep) command gives for the same outcome. V(0) is success.
  returned: always
  type: int
  sample: 0
error:
  description: What went wrong, with C(message), C(path), C(hint) and C(exit_status).
  returned: failure, unless the operation ended and found problems
  type: dict
  sample:
    message: another run holds the lock
    path: /var/lib/tradekeep/kalshi/lock
    hint: wait for it to end
    exit_status: 3
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.arguments import configured_spec
from ..module_utils.core.host.account import asker
from ..module_utils.core.operations.deploy.attended import attended_deploy, await_deploy
from ..module_utils.core.operations.deploy.request import DeployRequest
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(
    ref={"type": "str"},
    rollback={"type": "bool", "default": False},
    expected={"type": "str"},
    repository={"type": "str"},
    on_collision={"type": "str", "choices": ["fail", "keep_live", "seed_if_absent"]},
    adopt={"type": "bool", "default": False},
    backup_first={"type": "str", "choices": ["none", "critical", "all"]},
    layout={"type": "str", "choices": ["in_place", "releases"]},
    by={"type": "str", "default": ""},
    leave_down={"type": "bool", "default": False},
    force={"type": "bool", "default": False},
    wait_seconds={"type": "int"},
    request={"type": "str"},
)


def run(module: Any, ports: Ports) -> Answer:
    """Deploy, go back, or wait for what is still running."""
    application = configured_application(module.params)
    if module.params["request"]:
        return answer(await_deploy(application, ports, module.params["request"]))
    asked = {name: module.params[name] for name in SPEC if name not in (*configured_spec(), "wait_seconds", "request")}
    request = DeployRequest(**{**asked, "by": asked["by"] or asker()})
    wait_seconds = module.params["wait_seconds"]
    return answer(attended_deploy(application, ports, request, dry_run=module.check_mode, wait_seconds=wait_seconds))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
