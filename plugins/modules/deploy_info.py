#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The deploys of an application."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deploy_info
short_description: List the deploys of an application
version_added: 0.1.0
description:
  - Reads the records of all deploys, newest first, whatever became of them.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
attributes:
  check_mode:
    support: full
    details: Nothing is ever written.
  diff_mode:
    support: N/A
    details: Nothing is ever written.
  idempotent:
    support: full
  platform:
    platforms: linux
seealso:
  - module: tradekeep.ops.deploy
"""

EXAMPLES = r"""
- name: Look at the deploys
  tradekeep.ops.deploy_info:
    app: kalshi
  register: found

- name: Insist that the last one left the data alone
  ansible.builtin.assert:
    that: found.record.deploys[0].proof.verdict == 'preserved'
"""

RETURN = r"""
record:
  description: The records.
  returned: always
  type: dict
  contains:
    deploys:
      description: The records, newest first, as M(tradekeep.ops.deploy) returns them.
      returned: success
      type: list
      elements: dict
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
from ..module_utils.core.operations.deploy.deploy import deploy_log
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve


def run(module: Any, ports: Ports) -> Answer:
    """List the deploys."""
    return answer(deploy_log(configured_application(module.params), ports))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=configured_spec(), supports_check_mode=True), run)


if __name__ == "__main__":
    main()
