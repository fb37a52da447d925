"""How the process runtime finds the program of a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilothouse.kubelet.runtime.errors import StartError
from pilothouse.kubelet.runtime.process_child import find_program


def program(path: Path, text: str = "#!/bin/sh\n") -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_programs_are_searched_in_path(tmp_path: Path) -> None:
    found = program(tmp_path / "serve")
    assert find_program("serve", {"PATH": str(tmp_path)}, "/") == [found]
    assert find_program("./serve", {}, str(tmp_path)) == [f"{tmp_path}/./serve"]


def test_busybox_starts_its_applets_when_the_machine_has_no_program(tmp_path: Path) -> None:
    busybox = program(tmp_path / "busybox", "#!/bin/sh\necho httpd\necho wget\n")
    path = {"PATH": str(tmp_path)}
    assert find_program("httpd", path, "/") == [busybox, "httpd"]
    own = program(tmp_path / "wget")
    assert find_program("wget", path, "/") == [own]
    with pytest.raises(StartError, match=r'exec: "sshd": executable file not found in \$PATH'):
        find_program("sshd", path, "/")
