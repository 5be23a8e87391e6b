"""Run the commands of a TIPC chain, check their results, and log them like the standard."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterable, Mapping, Sequence

from bisenetv1_plugin.tipc import own_folders
from bisenetv1_plugin.tipc.params import TipcError, split_command

# PaddleSeg's scripts, and the commands of this package that replace them outside a checkout.
_REPLACEMENTS = {
    "tools/train.py": "train",
    "tools/val.py": "val",
    "tools/predict.py": "predict",
    "tools/export.py": "export",
    "deploy/python/infer.py": "infer",
}
# Flags for the logs of deploy/python/infer.py, which the replacement does not have.
_LOG_FLAGS = ("--benchmark", "--model_name", "--save_log_path")


class Steps:
    """Runs commands and remembers those that failed.

    Args:
        model_name: name of the model in log lines.
        python: the interpreter in the parameter file.
        folder: folder of the logs. Files of an earlier run are removed, so that they do not count as results.
        status_log: name of a file in the folder with a line for every step; later runs recognize the folder by it.
        reads: inputs of the steps.

    Attributes:
        failed: the commands that failed.

    Raises:
        TipcError: there is no such interpreter, or the folder does not belong to TIPC.
    """

    def __init__(
        self, model_name: str, python: str, folder: Path, status_log: str, reads: Iterable[str | Path] = ()
    ) -> None:
        # This interpreter's folder first, so that a virtual environment need not be activated.
        self._path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        found = shutil.which(python, path=self._path)
        if found is None:
            raise TipcError(f"the parameter file names {python!r}, which is not on the PATH: edit its third line.")
        self._python = found
        own_folders.clear(folder, reads)
        folder.mkdir(parents=True, exist_ok=True)
        self._model_name, self._status = model_name, folder / status_log
        self._status.touch()
        self.failed: list[str] = []

    def run(
        self,
        command: str,
        options: Iterable[str],
        log: Path,
        start: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        done: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Run a script with its arguments and these options.

        Args:
            command: `script arguments`. A missing PaddleSeg script is replaced by a command of `bisenetv1`.
            options: more arguments; empty ones are omitted.
            log: file for the output of the command.
            start: arguments of Python before the script, such as `-m paddle.distributed.launch`.
            environment: additional environment variables.
            done: tells whether the step has written its output; an exit code of 0 is not enough.

        Returns:
            Whether the exit code is 0 and `done` returns True.
        """
        if not command.strip():
            raise TipcError("the parameter file has a step without a command. Use `null` to omit a step.")
        script, *arguments = split_command(command, "the parameter file")
        arguments += [option for option in options if option]
        if script in _REPLACEMENTS and not os.path.isfile(script):
            kept = [argument for argument in arguments if argument.split("=")[0] not in _LOG_FLAGS]
            arguments = [_REPLACEMENTS[script], "--verbose", *kept]  # PaddleSeg's log lines, which the chain reads
            script = "bisenetv1"
        if script == "bisenetv1":
            script = shutil.which(script, path=self._path) or ""
            if not script:
                raise TipcError("the command bisenetv1 is not on the PATH: pip install this package.")
        elif script != "-m" and not os.path.isfile(script):
            raise TipcError(f"there is no {script} here, and this package has no command that replaces it.")
        return self.run_program([self._python, *start, script, *arguments], log, environment, done)

    def run_program(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        done: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Run any program; see `run` for the arguments.

        Raises:
            TipcError: there is no such program.
        """
        program = shutil.which(command[0], path=self._path)
        if program is None:
            raise TipcError(f"the program {command[0]} is not on the PATH: install it.")
        shown = [program, *command[1:]]
        print(" ".join(shown), flush=True)
        with open(log, "w", encoding="utf-8") as file:
            code = subprocess.run(
                shown, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
            ).returncode
        succeeded = code == 0 and done()
        self._note(" ".join(shown), succeeded, log)
        if not succeeded:
            sys.stderr.write(log.read_text(encoding="utf-8", errors="replace")[-3000:])
        return succeeded

    def check(self, what: str, fault: str | None) -> None:
        """Record a comparison as a step: `what` was compared, and the `fault`, a sentence or None."""
        self._note(what, not fault, fault or "as it should be")

    def _note(self, command: str, succeeded: bool, log: str | Path) -> None:
        word = "successfully" if succeeded else "failed"
        self.say(f"\033[33m Run {word} with command - {self._model_name} - {command} - {log}  \033[0m")
        if not succeeded:
            self.failed.append(command)

    def say(self, line: str) -> None:
        """Print a line and append it to the status log."""
        print(line, flush=True)
        with open(self._status, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
