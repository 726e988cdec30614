#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host on which the application must not run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fence
short_description: Fence a host, or take the fence down
version_added: 0.1.0
description:
  - A fenced host runs nothing of the application. Its services are stopped, its units masked, and deploys refuse.
    Restores, recoveries and migrations work and start nothing. Backups go on.
  - Taking the fence down unmasks what the fence masked and starts what ran when it was put up.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
options:
  state:
    description: Whether the host is fenced.
    type: str
    choices: [present, absent]
    default: present
  reason:
    description: Why, for whoever finds the host fenced.
    type: str
    default: ""
  start:
    description: With O(state=absent), whether what ran is started again.
    type: bool
    default: true
  migration:
    description:
      - With O(state=absent), take only the fence down that this migration to another server has left. Another fence is
        left alone.
    type: str
seealso:
  - module: tradekeep.ops.migrate
  - module: tradekeep.ops.recover
"""

EXAMPLES = r"""
- name: Fence the old server
  tradekeep.ops.fence:
    app: kalshi
    reason: moved to bot2.example.com

- name: Go back to it
  tradekeep.ops.fence:
    app: kalshi
    state: absent
"""

RETURN = r"""
record:
  description: What was stopped and masked, what ran, and what still writes the data; or what was unmasked and started.
  returned: always
  type: dict
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
from ..module_utils.core.operations.fence import fence, unfence
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(
    state={"type": "str", "choices": ["present", "absent"], "default": "present"},
    reason={"type": "str", "default": ""},
    start={"type": "bool", "default": True},
    migration={"type": "str"},
)


def run(module: Any, ports: Ports) -> Answer:
    """Put the fence up, or take it down."""
    params = module.params
    application = configured_application(params)
    if params["state"] == "absent":
        return answer(
            unfence(application, ports, start=params["start"], migration=params["migration"], dry_run=module.check_mode)
        )
    return answer(fence(application, ports, reason=params["reason"], by="ansible", dry_run=module.check_mode))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
