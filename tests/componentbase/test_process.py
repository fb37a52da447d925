"""The limit of open files of a server."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import resource
from pilothouse.componentbase.process import raise_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 900))
raise_open_files(500)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
raise_open_files()
raise_open_files(200)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_goes_up_to_what_is_allowed_and_never_down() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["500 900", "900 900"]
