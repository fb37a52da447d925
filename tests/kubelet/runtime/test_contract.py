"""The runtimes' contract (kubelet/runtime/testing.py) over fake, process and oci.

oci runs in namespaces of its own (``inside.py``), as root and as a user without privileges;
afterwards no process, mount, network namespace or cgroup may be left.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pilothouse
from pilothouse.apimachinery.clock import RealClock
from pilothouse.kubelet.images.registry import RegistryClient
from pilothouse.kubelet.images.service import LocalImageService
from pilothouse.kubelet.images.store import ImageStore
from pilothouse.kubelet.runtime import testing
from pilothouse.kubelet.runtime.fake import FakeRuntime
from pilothouse.kubelet.runtime.process import ProcessRuntime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INSIDE = Path(__file__).with_name("inside.py")
BOX = "unshare --pid --fork --kill-child --mount-proc --mount --net --propagation private".split()
ROOTLESS_BOX = "unshare -Urmn --pid --fork --kill-child --mount-proc".split()
NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups".split()
RUN = "mount --make-rshared / && mount -t tmpfs none /run"  # as where systemd runs
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("crun") or not shutil.which("unshare"),
    reason="needs root, crun and unshare",
)


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[testing.ContractEnvironment]:
    runtime = FakeRuntime(RealClock(), random.Random(1))
    image = await runtime.pull_image("busybox", None)
    capabilities = (await runtime.info()).capabilities
    yield testing.ContractEnvironment(runtime, image, str(tmp_path), capabilities)
    await runtime.close()


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[testing.ContractEnvironment]:
    store = ImageStore(str(tmp_path / "images"))
    images = LocalImageService(store, RegistryClient(RealClock()))
    await images.prepare()
    runtime = ProcessRuntime(RealClock(), random.Random(1), str(tmp_path / "state"), images)
    image = await runtime.image_status("busybox")
    if image is None:
        pytest.skip("no static busybox on this machine")
    capabilities = (await runtime.info()).capabilities
    yield testing.ContractEnvironment(runtime, image.id, str(tmp_path / "logs"), capabilities)
    await runtime.shutdown(everything=True)
    await images.close()


async def run_here(name: str, environment: testing.ContractEnvironment) -> None:
    if not testing.applicable(name, environment.capabilities):
        pytest.skip("not claimed by this runtime")
    await testing.run(name, environment)


@pytest.mark.parametrize("name", testing.all_checks())
async def test_fake(name: str, fake: testing.ContractEnvironment) -> None:
    await run_here(name, fake)


@pytest.mark.parametrize("name", testing.all_checks())
async def test_process(name: str, process: testing.ContractEnvironment) -> None:
    await run_here(name, process)


def lines_of(command: list[str]) -> dict[str, str]:
    """What ``inside.py`` said: PASS, FAIL or SKIP by check, and LEFT and LOG."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = {}
    for line in result.stdout.splitlines():
        verdict, _, rest = line.partition(" ")
        if verdict in ("PASS", "FAIL", "SKIP"):
            name, _, detail = rest.partition(" ")
            said[name] = f"{verdict} {detail}".strip()
        else:
            said[verdict] = rest
    said["stderr"] = result.stderr
    return said


def boxed(box: list[str], mounts: str, *arguments: str) -> list[str]:
    command = f'{mounts} && "$@"; exit $?'  # the shell stays: as PID 1 it reaps orphans
    return [*box, "sh", "-c", command, "sh", sys.executable, str(INSIDE), *arguments]


def remove_cgroups(name: str) -> None:
    """After a failed run; what it left must not stay on the machine."""
    for top in cgroups_named(name):
        for directory, _, _ in os.walk(top, topdown=False):
            os.rmdir(directory)


def cgroups_named(name: str) -> list[str]:
    return [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{name}")]


@pytest.fixture(scope="module")
def oci(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("oci")
    cgroup = f"kubepods-test{os.getpid()}"
    before = Path("/proc/self/mountinfo").read_text()
    said = lines_of(boxed(BOX, RUN, "contract", str(directory), f"/{cgroup}"))
    assert Path("/proc/self/mountinfo").read_text() == before
    left = cgroups_named(cgroup)
    remove_cgroups(cgroup)
    assert left == []
    return said


def python_for_nobody() -> str:
    """Ours may be below a home directory that others can't enter: the system's, same version."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in (sys.executable, f"/usr/bin/python{ours}"):
        command = [*NOBODY, "unshare", "-Ur", candidate, "-c", script]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.stdout.strip() == ours:
            return candidate
    pytest.skip("no Python that an unprivileged user can run")


@pytest.fixture(scope="module")
def rootless(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    python = python_for_nobody()
    directory = Path(tempfile.mkdtemp(prefix="pilothouse-rootless-"))
    directory.chmod(0o777)
    command = boxed(ROOTLESS_BOX, RUN, "contract", str(directory / "d"), "/kubepods")
    command[command.index(sys.executable)] = python
    paths = [str(Path(pilothouse.__file__).parents[1]), sysconfig.get_path("purelib")]
    environment = ["env", f"PYTHONPATH={':'.join(paths)}", "PYTHONDONTWRITEBYTECODE=1"]
    try:
        return lines_of([*environment, *NOBODY, *command])
    finally:
        shutil.rmtree(directory)


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("name", testing.all_checks())
def test_oci(name: str, oci: dict[str, str]) -> None:
    verdict = oci.get(name, oci["stderr"])
    assert verdict == "PASS", verdict.replace("\\n", "\n")


@pytest.mark.root
@needs_root
def test_oci_leaves_nothing(oci: dict[str, str]) -> None:
    assert oci["LEFT"] == "[]"
    assert oci["LOG"] == ""


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("name", testing.all_checks())
def test_oci_without_root(name: str, rootless: dict[str, str]) -> None:
    verdict = rootless.get(name, rootless["stderr"])
    if verdict == "SKIP":
        pytest.skip("not claimed without root")
    assert verdict == "PASS", verdict.replace("\\n", "\n")


@pytest.mark.root
@needs_root
def test_oci_recovers(tmp_path: Path) -> None:
    cgroup = f"kubepods-again{os.getpid()}"
    said = lines_of(boxed(BOX, RUN, "recovery", str(tmp_path), f"/{cgroup}"))
    left = cgroups_named(cgroup)
    remove_cgroups(cgroup)
    for step in ("kubelet", "shim", "afterwards"):
        assert said.get(step) == "PASS", said["stderr"]
    assert said["LEFT"] == "[]"
    assert said["LOG"] == ""
    assert left == []
