#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The configuration of an application."""

from __future__ import annotations

DOCUMENTATION = r"""
module: configuration
short_description: Install the configuration of an application
version_added: 0.1.0
description:
  - Writes C(<config_dir>/<app>.json), which the C(tradekeep) command reads. It is validated before it replaces
    what is there.
  - Refuses a root that is another application's, or data that is part of another's, and refuses to leave the
    application's own data, records or backups behind where they were until now; see M(tradekeep.ops.rename).
  - Notes backups that no configured application claims.
  - Creates the directories of configurations, state and backups where they are missing, the latter two for
    their owner alone.
  - Makes the host's own key where backups are encrypted to public keys, unless O(host_key) is V(false). Its secret half
    can be read by root alone, or by who runs this without O(system), and is in no result.
  - Removes files of public keys below C(<config_dir>/keys) that the configuration named before and that none names now.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.definition
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
  command:
    description:
      - Install the C(tradekeep) command in C(bin_dir) first, in the same execution, as M(tradekeep.ops.runtime) does.
      - Without it the command is left alone, and so it is with O(state=absent).
    type: dict
    suboptions:
      interpreter:
        description: The Python on the host that runs the command.
        type: path
        default: /usr/bin/python3
      allow_downgrade:
        description: Put an older release in the place of a newer one, which is refused otherwise.
        type: bool
        default: false
  state:
    description:
      - Whether the configuration is there.
      - With V(absent) the configuration alone is removed. Data, backups and records stay.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: tradekeep.ops.rename
  - module: tradekeep.ops.runtime
  - module: tradekeep.ops.units
"""

EXAMPLES = r"""
- name: Configure an application
  tradekeep.ops.configuration:
    profile: kalshi
    gpg_recipients:
      - /etc/tradekeep/keys/kalshi/operator.asc
"""

RETURN = r"""
record:
  description: The configuration's place and digest.
  returned: always
  type: dict
  contains:
    path:
      description: Path of the configuration.
      returned: success
      type: str
    sha256:
      description: Digest of the configuration, or none where it is absent.
      returned: success
      type: str
    application:
      description: Name of the application.
      returned: success
      type: str
    host_key:
      description: Whether the host has a key of its own for this application.
      returned: success
      type: bool
    removed_keys:
      description: Files of public keys that no configuration names any more, and that were removed.
      returned: success
      type: list
      elements: str
    command:
      description: With O(command), what M(tradekeep.ops.runtime) returns of it, and whether it C(changed).
      returned: success
      type: dict
    directories:
      description: Directories that were missing.
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

from ..module_utils.arguments import definition_spec
from ..module_utils.core.ports import Ports
from ..module_utils.definition import application_on_host
from ..module_utils.door import Answer, answer, serve
from ..module_utils.steps.installing import COMMAND, configure

STATE: dict[str, Any] = {"type": "str", "choices": ["present", "absent"], "default": "present"}
SPEC = definition_spec(state=STATE, command=COMMAND)


def run(module: Any, ports: Ports) -> Answer:
    """Install or remove the configuration."""
    params = module.params
    application = application_on_host(params)
    present = params["state"] == "present"
    return answer(configure(application, ports, params["command"], present=present, dry_run=module.check_mode))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
