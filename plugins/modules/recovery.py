#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host remembers of its recovery."""

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery
short_description: Keep the record of the recovery of a server
version_added: 0.1.0
description:
  - Says whether this host was recovered from an archive already and whether the application is fenced or runs.
  - With O(state) it looks at what runs, judges the time and the age of the data by the targets of the profile, and
    keeps a record. The role P(tradekeep.ops.recover#role) does all that comes before.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
    details: No data is changed.
  idempotent:
    support: none
    details: Each recovery has a record. Without O(state) nothing is written.
  platform:
    platforms: linux
options:
  state:
    description:
      - What became of it. V(rehearsed) is a drill on a spare host, whose record is among the drills too.
      - Without it nothing is recorded.
    type: str
    choices: [recovered, rehearsed, failed]
  archive:
    description: The archive, by its name or its path.
    type: str
    default: ""
  sha256:
    description: Its SHA-256, by which it is known again.
    type: str
    default: ""
  phases:
    description: How long each phase took, in their order.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the phase is called.
        type: str
        required: true
      seconds:
        description: How long it took.
        type: float
        required: true
  commit:
    description: The commit that was deployed.
    type: str
    default: ""
  migration:
    description: The record of the module M(tradekeep.ops.migrate) that brought the data.
    type: dict
    default: {}
  error:
    description: What it failed of.
    type: str
    default: ""
  expect_services:
    description: Whether the services should run now.
    type: bool
    default: true
seealso:
  - module: tradekeep.ops.migrate
  - module: tradekeep.ops.drill_info
"""

EXAMPLES = r"""
- name: See whether this host was recovered already
  tradekeep.ops.recovery:
    app: kalshi
  register: found

- name: Show from which archive
  ansible.builtin.debug:
    var: found.record.last.archive
  when: found.record.last is not none
"""

RETURN = r"""
record:
  description:
    - Of a look, C(last) (the record of the last recovery, or none), C(known) (whether it was from the archive with
      O(sha256)), C(fenced) and C(running).
    - Else the record, with C(state), C(phases), C(rto), C(rpo), C(running), C(missing), C(kept_aside), C(problems) and
      C(table), the same for people.
  returned: always
  type: dict
exit_status:
  description: V(0) is success, V(1) means that something is not as it should be after the recovery.
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
from ..module_utils.core.operations.server_recovery import Recovery, keep_recovery, last_recovery
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(
    state={"type": "str", "choices": ["recovered", "rehearsed", "failed"]},
    archive={"type": "str", "default": ""},
    sha256={"type": "str", "default": ""},
    phases={
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"name": {"type": "str", "required": True}, "seconds": {"type": "float", "required": True}},
    },
    commit={"type": "str", "default": ""},
    migration={"type": "dict", "default": {}},
    error={"type": "str", "default": ""},
    expect_services={"type": "bool", "default": True},
)


def run(module: Any, ports: Ports) -> Answer:
    """Look, or keep a record."""
    params = module.params
    application = configured_application(params)
    if params["state"] is None:
        return answer(last_recovery(application, ports, sha256=params["sha256"]))
    source = params["migration"].get("source") or {}
    recovery = Recovery(
        state=params["state"],
        archive=params["archive"],
        sha256=params["sha256"],
        phases=[(phase["name"], phase["seconds"]) for phase in params["phases"]],
        created=source.get("created") or "",
        commit=params["commit"],
        migration=params["migration"],
        error=params["error"],
    )
    expected = params["expect_services"]
    return answer(keep_recovery(application, ports, recovery, expect_services=expected, dry_run=module.check_mode))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
