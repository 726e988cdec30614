# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with a definition, in one sentence, before any host is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
name: definition_problem
short_description: Say what is wrong with the definition of an application
version_added: 0.1.0
author:
  - tradekeep.ops contributors (@tradekeep)
description:
  - Resolves a definition, as the module M(tradekeep.ops.configuration) takes it, on the controller.
  - Whose the data is does not matter here, since the host may know it, unless it is a new one.
positional: _input
options:
  _input:
    description: The options of M(tradekeep.ops.configuration) as a mapping.
    type: dict
    required: true
  new_host:
    description: Whether the host can know nothing yet.
    type: bool
    default: false
  units:
    description: Names of the units of the bot's own that will be installed. Each must be one of the profile's services.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Check a definition
  ansible.builtin.assert:
    that: problem == ""
    fail_msg: "{{ problem }}"
  vars:
    problem: "{{ {'profile': 'kalshi'} | tradekeep.ops.definition_problem }}"
"""

RETURN = r"""
_value:
  description: What is wrong, with the key and the way out. Empty where nothing is.
  type: str
"""

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ..module_utils.core.errors import TradekeepError
from ..module_utils.core.formatting import output_line

_NONE = "No profile is given: set tradekeep_profile to a built-in profile or to a mapping."


def definition_problem(definition: Mapping[str, Any], new_host: bool = False, units: Sequence[str] = ()) -> str:
    """The first thing that is wrong with a definition."""
    # For any filter of a collection Ansible loads all of them, once for each task and host.
    from ..module_utils.core.operations.bot_units import misnamed_units
    from ..module_utils.definition import application_of_code, defined_application

    if not definition.get("profile"):
        return _NONE
    try:
        application = (defined_application if new_host else application_of_code)(definition)
    except TradekeepError as error:
        return output_line(error)
    return next((output_line(error) for error in misnamed_units(application.profile, units)), "")


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filters by name."""
        return {"definition_problem": definition_problem}
