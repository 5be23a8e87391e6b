"""A terminal for the commands under test."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def in_a_terminal():
    """Runs a command in a terminal of 24 lines of 100 characters; returns its exit code and all that it wrote."""

    def run(folder, *arguments):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        command = [sys.executable, "-m", "bisenetv1_plugin", *map(str, arguments)]
        process = subprocess.Popen(command, cwd=folder, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        said = b""
        while True:
            try:
                read = os.read(master, 4096)
            except OSError:  # how Linux tells that nobody writes any more
                break
            if not read:
                break
            said += read
        os.close(master)
        return SimpleNamespace(returncode=process.wait(), said=said.decode())

    return run
