#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A restore for practice."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill
short_description: Restore a backup for practice and measure it
version_added: 0.1.0
description:
  - Takes the newest backup as a stranger would, restores it into a scratch place, opens every database, document and
    log, compares all of it with the manifest and with the live data, and removes it again.
  - Compares the time that it took, and the age of what can be recovered, with the targets of the profile. A check
    that fails and a target that is missed fail the task; the record is returned all the same, and kept on the host.
  - Live data is only read, and no service is touched. Backups go on meanwhile.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
attributes:
  check_mode:
    support: full
    details: Says which backup would be restored, and where. Nothing is written.
  diff_mode:
    support: N/A
    details: No data is changed.
  idempotent:
    support: full
    details: The record of the drill is kept, which does not count as a change.
  platform:
    platforms: linux
options:
  backup:
    description: A name, a path on the host or V(latest), the newest by its name.
    type: str
    default: latest
  source:
    description: Where to take it from, V(local) or the absolute path of a directory on the host that holds copies.
    type: str
    default: local
  key_file:
    description:
      - File on the host with the secret key of a backup to a public one, where it is not that of the profile.
      - It is imported into a gpg home that is removed again. The host's own keyring is not asked.
    type: path
  passphrase_file:
    description: File on the host with the passphrase, where it is not the configured one.
    type: path
seealso:
  - module: tradekeep.ops.drill_info
  - module: tradekeep.ops.verify
"""

EXAMPLES = r"""
- name: Prove that the newest backup can be recovered, and in time
  tradekeep.ops.drill:
    app: kalshi
  async: 14400
  poll: 5
  register: rehearsal

- name: Show how long it took
  ansible.builtin.debug:
    var: rehearsal.record.rto.seconds
"""

RETURN = r"""
record:
  description: The record of the drill, as C(tradekeep drill --json) shows it.
  returned: always
  type: dict
  contains:
    verdict:
      description: V(passed), V(missed) where all is well but a target was missed, or V(failed).
      returned: success
      type: str
      sample: passed
    backup:
      description: The backup that was restored.
      returned: success
      type: dict
    phases:
      description: Seconds by phase.
      returned: success
      type: dict
      sample: {find: 0.1, verify: 0.4, unpack: 6.2, check: 3.1, compare: 0.2}
    rto:
      description: How long getting the data back takes, in C(seconds), with the C(target) and whether it was C(met).
      returned: success
      type: dict
    rpo:
      description: How much time's work would be lost, in C(seconds), with the C(target) and whether it was C(met).
      returned: success
      type: dict
    databases:
      description: Each database with its rows per table.
      returned: success
      type: list
      elements: dict
    problems:
      description: What stands in the way of a recovery.
      returned: success
      type: list
      elements: str
    notes:
      description: What is worth knowing.
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
from ..module_utils.core.operations.drills.drill import drill
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve

SPEC = configured_spec(
    backup={"type": "str", "default": "latest"},
    source={"type": "str", "default": "local"},
    # Names of files, not secrets.
    key_file={"type": "path", "no_log": False},
    passphrase_file={"type": "path", "no_log": False},
)


def run(module: Any, ports: Ports) -> Answer:
    """Restore one backup for practice."""
    params = module.params
    return answer(
        drill(
            configured_application(params),
            ports,
            reference=params["backup"],
            source=params["source"],
            key_file=params["key_file"],
            passphrase_file=params["passphrase_file"],
            dry_run=module.check_mode,
        )
    )


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
