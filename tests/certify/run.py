# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Runs the tests: prepares what they need, runs the parts side by side, and says what ran, what failed, what did not.

    python3 tests/certify/run.py [--jobs N] [GROUP or PART ...]       (all of them by default)

The log of each part is .cache/test-logs/PART.log. The last line of the output is "N passed, N failed". The exit status
is 1 when a part failed and, where CI=true, also when something that needs root did not run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import checkout
import interpreters
import packages
from counting import Counts, count, not_run
from environments import TOP, EnvironmentFailure, environment
from parts import GROUPS, PARTS, Part, unit

LOGS = TOP / ".cache" / "test-logs"
PART_SECONDS = 60 * 60
TAIL_LINES = 60
# pip 24.2 is what ansible-test 2.19 asks for; any pip does, and the one inside Python needs no download.
GET_PIP = Path.home() / ".ansible" / "test" / "cache" / "get_pip_24_2.py"


@dataclass(frozen=True)
class Result:
    """How a part ended."""

    part: str
    outcome: str
    seconds: float
    counts: Counts = field(default_factory=Counts)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What the parts are given: the environment of their commands and a place for copies."""

    variables: dict[str, str]
    scratch: Path


@dataclass
class Running:
    """The processes under way, so that an interruption ends them all."""

    groups: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: bool = False

    def call(self, command: tuple[str, ...], *, log: Path, cwd: Path, variables: dict[str, str], seconds: float) -> int:
        """Run one command in a process group of its own, appending to the log."""
        with log.open("a") as out:
            print("$", " ".join(command), file=out, flush=True)
            with self.lock:
                if self.stopped:
                    return 130
                streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": subprocess.STDOUT}
                process = subprocess.Popen(command, cwd=cwd, env=variables, start_new_session=True, **streams)
                self.groups.add(process.pid)
            try:
                return process.wait(timeout=max(seconds, 0))
            except subprocess.TimeoutExpired:
                print(f"stopped: the part took longer than {PART_SECONDS} s", file=out)
                _end(process.pid)
                return process.wait() or 124
            finally:
                with self.lock:
                    self.groups.discard(process.pid)

    def stop(self) -> None:
        """End everything; nothing new starts."""
        with self.lock:
            self.stopped = True
            for group in self.groups:
                _end(group)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)


def say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


def oldest_and_newest(found: dict[str, Path | None]) -> dict[str, Path | None]:
    """Those two of the Pythons that are here, and what is not here."""
    here = [version for version, python in found.items() if python is not None]
    return {version: python for version, python in found.items() if python is None or version in (here[0], here[-1])}


def chosen(names: list[str], found: dict[str, Path | None]) -> tuple[list[Part], list[Result]]:
    """The parts to run, and those that cannot."""
    pythons = [(version, python) for version, python in found.items() if python is not None]
    units = [unit(version, python, newest=(version, python) == pythons[-1]) for version, python in pythons]
    absent = [
        Result(f"unit-{version}", "NOT RUN", 0, left_out=(f"no Python {version} on PATH or under pyenv",))
        for version, python in found.items()
        if python is None and _wanted(f"unit-{version}", "unit", names)
    ]
    wanted = [part for part in [*PARTS, *units] if _wanted(part.name, part.group, names)]
    rootless = [part for part in wanted if part.root and os.geteuid() != 0]
    barred = [Result(part.name, "NOT RUN", 0, left_out=(f"needs root: {part.root}",)) for part in rootless]
    parts = [part for part in wanted if part not in rootless]
    return sorted(parts, key=lambda part: GROUPS.index(part.group)), absent + barred


def _wanted(name: str, group: str, names: list[str]) -> bool:
    return not names or name in names or group in names


def equip(part: Part) -> Part:
    """Put the part's Python into an environment of its own; the other parts use the development environment."""
    if part.group != "unit":
        return part
    (command,) = part.commands
    made = environment("unit", python=Path(command[0]), alias=part.name)
    return replace(part, commands=((str(made / "bin" / "python"), *command[1:]),))


def variables(development: Path, found: dict[str, Path | None]) -> dict[str, str]:
    """The environment of the commands: real interpreters before pyenv's shims, the checkout as a collection."""
    real = [str(python.parent) for python in found.values() if python is not None]
    path = [str(development / "bin"), *os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin"]
    kept = [entry for entry in path if not entry.endswith("/shims")]
    return {
        **os.environ,
        "PATH": os.pathsep.join(dict.fromkeys([kept[0], *real, *kept[1:]])),
        "VIRTUAL_ENV": str(development),
        "ANSIBLE_COLLECTIONS_PATH": str(checkout.link()),
        "NO_COLOR": "1",
        "LC_ALL": "C.UTF-8",
    }


def run(part: Part, setting: Setting, running: Running) -> Result:
    """Run the part's commands until one fails."""
    log = LOGS / f"{part.name}.log"
    log.write_text("")
    began = time.monotonic()
    status, environment_variables, cwd = 0, dict(setting.variables), TOP
    if part.copy:
        names = {"files": checkout.files, "installed": checkout.installed}[part.copy]()
        cwd = checkout.copy(names, setting.scratch / part.name)
        environment_variables["ANSIBLE_COLLECTIONS_PATH"] = str(setting.scratch / part.name)
    for words in part.commands:
        command = (*_in_memory(setting.scratch / part.name), *words) if part.memory else words
        left = PART_SECONDS - (time.monotonic() - began)
        status = running.call(command, log=log, cwd=cwd, variables=environment_variables, seconds=left)
        if status:
            break
    return _result(part, log.read_text(errors="replace"), status, time.monotonic() - began)


def _in_memory(directory: Path) -> tuple[str, ...]:
    return (sys.executable, str(TOP / "tests/certify/in_memory.py"), str(directory))


def _result(part: Part, log: str, status: int, seconds: float) -> Result:
    left_out = tuple(not_run(log))
    # ansible-test is content when it finds no file at all.
    succeeded = status == 0 and not any("All targets skipped" in line for line in left_out)
    result = Result(part.name, "passed" if succeeded else "FAILED", seconds, count(log, succeeded=succeeded), left_out)
    say(f"{result.outcome:8} {part.name} ({seconds:.0f} s)")
    if not succeeded:
        tail = "\n".join(f"    {line}" for line in log.splitlines()[-TAIL_LINES:])
        say(f"{tail}\n    (the whole log: .cache/test-logs/{part.name}.log)")
    return result


def run_all(parts: list[Part], setting: Setting, jobs: int) -> list[Result]:
    """Run the parts side by side, in their order."""
    running = Running()
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run, part, setting, running) for part in parts]
        try:
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            running.stop()
            raise


def summarize(results: list[Result]) -> None:
    """The closing table, then what did not run, then the one line."""
    say(f"\n{'part':16} {'result':8} {'seconds':>7} {'passed':>7} {'failed':>7}")
    for result in results:
        counts = result.counts
        say(f"{result.part:16} {result.outcome:8} {result.seconds:7.0f} {counts.passed:7} {counts.failed:7}")
    notes = [f"  {result.part}: {line}" for result in results for line in result.left_out]
    if notes:
        say("\nNot run:\n" + "\n".join(notes))
    say("")
    say(f"{sum(r.counts.passed for r in results)} passed, {sum(r.counts.failed for r in results)} failed")


def exit_status(results: list[Result]) -> int:
    """0 only when nothing failed; what root was missing for counts where a machine asks (CI=true)."""
    failed = any(result.outcome == "FAILED" for result in results)
    rootless = any("needs root" in line for result in results for line in result.left_out)
    return 1 if failed or (rootless and os.environ.get("CI") == "true") else 0


def provide_packages() -> list[Result]:
    """Install the missing Debian packages as root; anyone else is told which ones the tests will miss."""
    names = packages.missing()
    if names and os.geteuid() != 0:
        return [Result("packages", "NOT RUN", 0, left_out=(f"needs root: apt-get install {' '.join(names)}",))]
    packages.install()
    return []


def prepare(parts: list[Part], found: dict[str, Path | None], jobs: int) -> tuple[list[Part], dict[str, str]]:
    """Environments and links: everything that the parts share."""
    development = environment("dev")
    with ThreadPoolExecutor(jobs) as pool:
        equipped = list(pool.map(equip, parts))
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    GET_PIP.parent.mkdir(parents=True, exist_ok=True)
    if not GET_PIP.exists():
        GET_PIP.write_text("import ensurepip; ensurepip.bootstrap(default_pip=True)\n")
    return equipped, variables(development, found)


def with_byte_code(given: dict[str, str], scratch: Path) -> dict[str, str]:
    """The environment in which byte code is kept, outside of the checkout.

    Most tests of faults and attacks are processes that live for a moment; compiling the engine is most of what they do.
    """
    scratch.chmod(0o711)  # some of them are of other accounts
    place = scratch / "byte-code"
    place.mkdir(mode=0o755)
    kept = {**given, "PYTHONPYCACHEPREFIX": str(place)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    engine = checkout.link() / "ansible_collections" / "tradekeep" / "ops" / "plugins"
    python = shutil.which("python", path=given["PATH"]) or sys.executable
    subprocess.run([python, "-m", "compileall", "-q", str(engine)], env=kept, check=False)
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    # One more than there are cores: a part waits for hosts and disks about a third of its time.
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 1) + 1, help="parts run at once")
    parser.add_argument(
        "--all-pythons", action="store_true", help="unit tests on every Python, not the oldest and newest"
    )
    parser.add_argument("names", nargs="*", metavar="GROUP|PART", help=f"groups: {', '.join(GROUPS)}")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the parts too, as Ctrl-C does
    found = interpreters.find()
    unit_pythons = found if options.all_pythons or "unit" in options.names else oldest_and_newest(found)
    parts, results = chosen(options.names, unit_pythons)
    if not parts and not results:
        parser.error(f"no such group or part: {' '.join(options.names)}")
    try:
        results += provide_packages()
        parts, given = prepare(parts, found, options.jobs)
    except (packages.PackageFailure, EnvironmentFailure) as failure:
        say(f"error: {failure}\n\n0 passed, 1 failed")
        return 1
    with tempfile.TemporaryDirectory(prefix="tk-") as scratch:
        given = with_byte_code(given, Path(scratch))
        results += run_all(parts, Setting(given, Path(scratch)), options.jobs)
    summarize(results)
    return exit_status(results)


if __name__ == "__main__":
    sys.exit(main())
