#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One backup."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Make a backup and prove it
version_added: 0.1.0
description:
  - Captures what an application keeps while it runs, each kind of file in its own way, and verifies the archive
    before it gets its name.
  - The host makes backups by itself with the timers of M(tradekeep.ops.units). This module makes one now.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: none
    details: Each run makes a backup.
  platform:
    platforms: linux
options:
  tier:
    description: Retention tier that the backup is made for.
    type: str
    choices: [daily, weekly, monthly, manual]
    default: manual
  name:
    description: Added to the name of the file. A named backup is not pruned until M(tradekeep.ops.backup_release)
      releases it.
    type: str
  encrypt:
    description:
      - Whether to encrypt the backup. By default it is where there is a key, unless the schedule of the tier says
        V(false).
      - V(false) is refused where there is a key and a component holds secrets.
    type: bool
  host_key:
    description:
      - Whether the host's own key opens it too, where there is one. V(false) is for an archive that goes elsewhere.
    type: bool
    default: true
  output:
    description: Directory to write to instead of the backup directory.
    type: path
  allow_row_loss:
    description: Accept that a database lost many of its rows since the last backup.
    type: bool
    default: false
  allow_loss:
    description:
      - What may hold far less than in the last good backup. The names of components, paths of databases, tables as
        V(PATH:TABLE), V(filesystem) where the data lies on another filesystem than last time, or V(all).
      - V(backups) is for a new and empty backup directory, where all backups on record are gone at once.
      - Without it such a backup fails. See C(docs/profiles.md) for what is compared.
    type: list
    elements: str
    default: []
seealso:
  - module: tradekeep.ops.backup_info
  - module: tradekeep.ops.verify
  - module: tradekeep.ops.restore
"""

EXAMPLES = r"""
- name: Make a backup before an upgrade
  tradekeep.ops.backup:
    app: kalshi
    name: before_upgrade
  async: 7200
  poll: 5
"""

RETURN = r"""
record:
  description: The backup that was made, or in check mode the plan.
  returned: always
  type: dict
  contains:
    backup:
      description: The backup, or none in check mode.
      returned: success
      type: dict
    plan:
      description: What would be captured. Only in check mode.
      returned: success
      type: dict
    warnings:
      description: What was worth noting.
      returned: success
      type: list
      elements: str
    missing:
      description: What the profile expects and is not there yet.
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.arguments import configured_spec
from ..module_utils.core.application import Tier
from ..module_utils.core.operations.backup import backup
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(
    tier={"type": "str", "choices": [tier.value for tier in Tier], "default": Tier.MANUAL.value},
    name={"type": "str"},
    encrypt={"type": "bool"},
    host_key={"type": "bool", "default": True, "no_log": False},
    output={"type": "path"},
    allow_row_loss={"type": "bool", "default": False},
    allow_loss={"type": "list", "elements": "str", "default": []},
)


def run(module: Any, ports: Ports) -> Answer:
    """Make one backup."""
    params = module.params
    return answer(
        backup(
            configured_application(params),
            ports,
            tier=params["tier"],
            name=params["name"],
            encrypt=params["encrypt"],
            host_key=params["host_key"],
            output=params["output"],
            allow_row_loss=params["allow_row_loss"],
            allow_loss=params["allow_loss"],
            dry_run=module.check_mode,
        )
    )


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
