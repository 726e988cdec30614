# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""As much of a GitHub runner as a composite action needs: its steps are run for real, in order, by bash.

``uses`` steps belong to others: that of Python is answered with the Python of the tests, uploads copy what they would
have uploaded, and anything else is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
TOKEN = re.compile(r"\s*('(?:[^']|'')*'|&&|\|\||==|!=|!|\(|\)|[A-Za-z_][\w.-]*)")
# What the machine itself may say: where programs are, and where pip finds packages.
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "USER")


@dataclass
class Run:
    """What one run of an action left."""

    temp: Path
    failed: bool = False
    log: str = ""
    summary: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)
    steps: dict[str, dict[str, str]] = field(default_factory=dict)

    def left(self) -> list[Path]:
        """Every file of RUNNER_TEMP but the virtual environment and what this runner itself put there."""
        ours = ("runner", "artifacts")
        found = [path for path in self.temp.rglob("*") if path.is_file()]
        names = [path.relative_to(self.temp).parts[0] for path in found]
        return [
            path for path, name in zip(found, names) if name not in ours and not name.startswith("tradekeep-ansible-")
        ]


class Runner:
    """Runs an action in a workspace. python: what the step that sets Python up would have found."""

    def __init__(self, action: Path, *, workspace: Path, temp: Path, python: str) -> None:
        self.action, self.workspace, self.temp, self.python = action, workspace, temp, python
        self.definition = yaml.safe_load((action / "action.yml").read_text(encoding="utf-8"))

    def run(self, inputs: dict[str, str], environment: dict[str, str] | None = None) -> Run:
        """All steps, with the inputs that a workflow would give."""
        self.temp.mkdir(parents=True, exist_ok=True)
        (self.temp / "runner").mkdir(exist_ok=True)
        run = Run(self.temp)
        given = {name: str(spec.get("default", "")) for name, spec in self.definition["inputs"].items()}
        unknown = set(inputs) - set(given)
        assert not unknown, f"the action has no inputs {unknown}"
        context = {"inputs": {**given, **inputs}, "steps": {}}
        for number, step in enumerate(self.definition["runs"]["steps"]):
            self._step(number, step, context, run, environment or {})
        run.steps = {name: found["outputs"] for name, found in context["steps"].items()}
        for name, spec in self.definition["outputs"].items():
            run.outputs[name] = interpolate(spec["value"], context, run)
        return run

    def _step(
        self, number: int, step: dict[str, Any], context: dict[str, Any], run: Run, environment: dict[str, str]
    ) -> None:
        name = step.get("id", f"__{number}")
        outputs: dict[str, str] = {}
        outcome = "skipped"
        if condition(step.get("if", ""), context, run):
            outcome = "success"
            if "uses" in step:
                outputs = self._used(step, context, run)
            else:
                status, outputs = self._script(number, step, context, run, environment)
                if status:
                    outcome, run.failed = "failure", True
        context["steps"][name] = {"outputs": outputs, "outcome": outcome}
        run.outcomes[step["name"]] = outcome

    def _script(
        self, number: int, step: dict[str, Any], context: dict[str, Any], run: Run, environment: dict[str, str]
    ) -> tuple[int, dict[str, str]]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "values go through the environment"
        files = {name: run.temp / "runner" / f"{number}-{name}" for name in ("output", "summary", "env", "script")}
        for path in files.values():
            path.write_text("", encoding="utf-8")
        files["script"].write_text(step["run"] + "\n", encoding="utf-8")
        variables = {
            **{name: value for name, value in os.environ.items() if name in INHERITED or name.startswith("PIP_")},
            "GITHUB_ACTION_PATH": str(self.action),
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_OUTPUT": str(files["output"]),
            "GITHUB_STEP_SUMMARY": str(files["summary"]),
            "GITHUB_ENV": str(files["env"]),
            "GITHUB_ACTOR": "octocat",
            "GITHUB_REPOSITORY": "octo/bot",
            "GITHUB_RUN_ID": "42",
            "GITHUB_RUN_ATTEMPT": "1",
            "RUNNER_TEMP": str(run.temp),
            **environment,
            **{key: interpolate(value, context, run) for key, value in step.get("env", {}).items()},
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(files["script"])],
            cwd=self.workspace,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        run.log += f"## {step['name']}\n{done.stdout}"
        run.summary += files["summary"].read_text(encoding="utf-8")
        return done.returncode, read_outputs(files["output"].read_text(encoding="utf-8"))

    def _used(self, step: dict[str, Any], context: dict[str, Any], run: Run) -> dict[str, str]:
        assert PINNED.fullmatch(step["uses"]), f"{step['uses']} is not pinned"
        given = {key: interpolate(str(value), context, run) for key, value in step["with"].items()}
        if step["uses"].startswith("actions/setup-python@"):
            return {"python-path": self.python}
        assert step["uses"].startswith("actions/upload-artifact@"), step["uses"]
        target = run.temp / "artifacts" / given["name"]
        shutil.copytree(given["path"], target)
        assert any(path.is_file() for path in target.rglob("*")), "if-no-files-found: error"
        run.artifacts[given["name"]] = target
        return {}


def read_outputs(text: str) -> dict[str, str]:
    """GITHUB_OUTPUT, in the form with a delimiter."""
    found = {}
    lines = iter(text.splitlines())
    for line in lines:
        name, delimiter = line.split("<<", 1)
        value = []
        for more in lines:
            if more == delimiter:
                break
            value.append(more)
        found[name] = "\n".join(value)
    return found


def interpolate(text: str, context: dict[str, Any], run: Run) -> str:
    """Text with its expressions replaced by their values."""
    return EXPRESSION.sub(lambda found: str(evaluate(found[1], context, run)), text)


def condition(text: str, context: dict[str, Any], run: Run) -> bool:
    """Whether a step runs: after a failure only where its condition asks about failures."""
    asks = re.search(r"\b(always|failure|cancelled|success)\(\)", text)
    return bool(evaluate(text, context, run) if text else True) and (bool(asks) or not run.failed)


def evaluate(text: str, context: dict[str, Any], run: Run) -> Any:
    """The small part of the expressions that actions here use; anything else fails."""
    functions = {"always": True, "success": not run.failed, "failure": run.failed, "cancelled": False}
    values: list[Any] = []
    python: list[str] = []
    tokens = _tokens(text)
    while tokens:
        token = tokens.pop(0)
        if token in ("&&", "||", "!"):
            python.append({"&&": " and ", "||": " or ", "!": " not "}[token])
        elif token in ("==", "!=", "(", ")"):
            python.append(token)
        elif tokens[:2] == ["(", ")"]:
            del tokens[:2]
            values.append(functions[token])
            python.append(f"values[{len(values) - 1}]")
        else:
            values.append(token[1:-1].replace("''", "'") if token.startswith("'") else _looked_up(token, context))
            python.append(f"values[{len(values) - 1}]")
    return eval("".join(python), {"values": values})  # of indices and operators only


def _tokens(text: str) -> list[str]:
    found, position = [], 0
    while text[position:].strip():
        match = TOKEN.match(text, position)
        assert match, f"cannot read the expression {text!r}"
        found.append(match[1])
        position = match.end()
    return found


def _looked_up(name: str, context: dict[str, Any]) -> str:
    scope, *path = name.split(".")
    if scope == "inputs":
        assert path[0] in context["inputs"], f"no such input: {name}"
        return str(context["inputs"][path[0]])
    assert scope == "steps", f"no such context: {name}"
    found = context["steps"][path[0]]
    return str(found["outputs"].get(path[2], "") if path[1] == "outputs" else found[path[1]])
