#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The timers of an application."""

from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Install the systemd timers of an application
version_added: 0.1.0
description:
  - Writes, enables and starts the systemd services and timers that a profile's schedules ask for, and removes
    those that it no longer asks for.
  - Two more services put the data right after a crash in the middle of a restore. V(tradekeep-guard-APP.service) comes
    before the services of the profile, which do not start when it fails; V(tradekeep-recover-APP.service) comes
    after them. Both are skipped at any other start. The services require the first one through
    V(SERVICE.requires/); no file of theirs is changed. Remove it with O(state=absent), not by hand.
  - The units that run the bot can be handed over as O(unit_files). They are installed and enabled, and never started.
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
  state:
    description: Whether the units are there.
    type: str
    choices: [present, absent]
    default: present
  unit_dir:
    description: Directory of the units. Without root it is C(~/.config/systemd/user), unless another is given.
    type: path
    default: /etc/systemd/system
  unit_files:
    description:
      - Units of the bot's own, each of them one of the profile's services. What systemd does not understand is refused.
      - A file of that name that was not installed like this is refused, and so is a unit of a package. One with the
        same content is adopted. What is no longer handed over stays, with a warning. All stay with O(state=absent).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the unit.
        type: str
        required: true
      content:
        description: The unit, in Base64.
        type: str
        required: true
      replace:
        description: Take the place of one that somebody else put there. That one is kept in the state directory.
        type: bool
        default: false
  enable_unit_files:
    description: Whether O(unit_files) with an C([Install]) section start at boot. None does on a host that is fenced.
    type: bool
    default: true
  timers:
    description: Whether the units of tradekeep are installed, and not O(unit_files) alone.
    type: bool
    default: true
  check:
    description:
      - Go through everything that the timers will need, as C(tradekeep config check) does, once the units are there.
        The module fails where a backup would. The configuration must be there.
      - Nothing is checked in check mode, where what is to be checked is not there yet.
    type: bool
    default: false
  recovery_key:
    description: With O(check), file of the secret key that shall decrypt backups. That it does is proven with a sample.
    type: path
seealso:
  - module: tradekeep.ops.configuration
"""

EXAMPLES = r"""
- name: Install the timers
  tradekeep.ops.units:
    profile: v6

- name: Stop making backups of an application
  tradekeep.ops.units:
    profile: v6
    state: absent
"""

RETURN = r"""
record:
  description:
    - The units that are installed and what became of them, and as C(services) what became of O(unit_files).
    - With O(check) also C(check), with its C(problems) and C(warnings).
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

from ..module_utils.arguments import UNIT_FILES, definition_spec
from ..module_utils.core.operations.all_units import BotUnits, install_all_units
from ..module_utils.core.ports import Ports
from ..module_utils.definition import application_on_host, unit_files_of
from ..module_utils.door import Answer, answer, serve
from ..module_utils.steps.checking import with_check

STATE: dict[str, Any] = {"type": "str", "choices": ["present", "absent"], "default": "present"}
UNIT_DIR: dict[str, Any] = {"type": "path", "default": "/etc/systemd/system"}
CHECK: dict[str, Any] = {"type": "bool", "default": False}
# The name of a file, not a secret.
RECOVERY_KEY: dict[str, Any] = {"type": "path", "no_log": False}
YES: dict[str, Any] = {"type": "bool", "default": True}
OF_THE_BOT: dict[str, Any] = {"unit_files": UNIT_FILES, "enable_unit_files": YES, "timers": YES}
SPEC = definition_spec(state=STATE, unit_dir=UNIT_DIR, check=CHECK, recovery_key=RECOVERY_KEY, **OF_THE_BOT)


def run(module: Any, ports: Ports) -> Answer:
    """Install or remove the units."""
    application = application_on_host(module.params)
    params = module.params
    present = params["state"] == "present"
    files = unit_files_of(params["unit_files"])
    bot = BotUnits(files, enable=params["enable_unit_files"], alone=not params["timers"])
    outcome = install_all_units(
        application, ports, bot, unit_dir=params["unit_dir"], present=present, dry_run=module.check_mode
    )
    if params["check"] and present and not module.check_mode:
        outcome = with_check(outcome, application, ports, params["recovery_key"])
    return answer(outcome)


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
