#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The backups of an application."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: List the backups of an application
version_added: 0.1.0
description:
  - Lists what backups there are, newest first, and what is known of each, such as when it was last verified, and what
    is wrong with it.
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
  - module: tradekeep.ops.backup
  - module: tradekeep.ops.verify
"""

EXAMPLES = r"""
- name: Look at the backups
  tradekeep.ops.backup_info:
    app: kalshi
  register: found

- name: Insist on a good one
  ansible.builtin.assert:
    that: found.record.backups | length > 0
"""

RETURN = r"""
record:
  description: The catalog.
  returned: always
  type: dict
  contains:
    backups:
      description: The backups, newest first. C(opens_with) names the keys that open each, V(anybody) where it is plain.
      returned: success
      type: list
      elements: dict
    notes:
      description: Who can read the archives, where there is no key to encrypt with.
      returned: success
      type: list
      elements: str
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

from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.arguments import configured_spec
from ..module_utils.core.errors import ExitStatus
from ..module_utils.core.operations.listing import list_backups
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve


def run(module: Any, ports: Ports) -> Answer:
    """List the backups."""
    listed = list_backups(configured_application(module.params), ports)
    # A night that failed is a fact like the others here, and no reason to fail a play.
    return answer(replace(listed, status=ExitStatus.DONE))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=configured_spec(), supports_check_mode=True), run)


if __name__ == "__main__":
    main()
