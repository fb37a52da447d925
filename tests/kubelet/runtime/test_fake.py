"""The fake runtime's own rules: scripts, made-up images, thousands of pods."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.kubelet.runtime.errors import ExecTimeout, ImagePullError, StartError
from pilothouse.kubelet.runtime.fake import FakeRuntime
from pilothouse.kubelet.runtime.fake_script import (
    ContainerBehaviour,
    default_script,
    image_is_known,
    infer_run,
    with_annotations,
)
from pilothouse.kubelet.runtime.interfaces import ContainerConfig, PodSandboxConfig


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["true"], (0, 0)),
        (["/bin/false"], (0, 1)),
        (["sleep", "5"], (5, 0)),
        (["/bin/sh", "-c", "exit 3"], (0, 3)),
        (["sh", "-c", "sleep 2; echo done && exit 1"], (2, 1)),
        (["sh", "-c", "false && exit 7"], (0, 1)),
        (["bash", "-ec", "false\nsleep 5"], (0, 1)),
        (["sh", "-c", "while true; do sleep 1; done"], None),
        (["sh", "-c", "echo $X > /file"], None),
        (["sh", "-c", "exit $?"], None),
        (["sh", "-c", "unbalanced '"], None),
        (["sleep", "infinity"], None),
        (["nginx"], None),
        ([], None),
    ],
)
def test_plain_commands_are_understood(argv: list[str], expected: Any) -> None:
    assert infer_run(argv) == expected


@pytest.mark.parametrize(
    ("image", "known"),
    [
        ("nginx", True),
        ("registry.k8s.io/e2e-test-images/agnhost:2.56", True),
        ("webserver:404", False),
        ("foo:non-existent", False),
        ("invalid.registry.k8s.io/invalid/alpine:3.1", False),
        ("team/does-not-exist", False),
        ("x:nonexistent-tag", False),
        ("UPPER", False),
        ("", False),
    ],
)
def test_made_up_images(image: str, known: bool) -> None:
    assert image_is_known(image) is known


def test_annotations_override() -> None:
    behaviour = with_annotations(
        ContainerBehaviour(),
        {
            "fake.pilothouse.dev/exit-code": "4",
            "fake.pilothouse.dev/web.exit-code": "5",
            "fake.pilothouse.dev/run-for": "nonsense",
            "fake.pilothouse.dev/start-error": "boom",
        },
        "web",
    )
    assert (behaviour.exit_code, behaviour.run_for, behaviour.start_error) == (5, None, "boom")


async def pod(runtime: FakeRuntime, annotations: dict[str, str], **container: Any) -> str:
    image = await runtime.pull_image("nginx", None)
    sandbox = await runtime.run_pod_sandbox(
        PodSandboxConfig("p", "default", "u", 0, "p", "/nowhere", annotations=annotations)
    )
    return await runtime.create_container(sandbox, ContainerConfig("c", 0, image, **container))


async def test_a_script_runs_by_the_clock() -> None:
    clock = FakeClock()
    runtime = FakeRuntime(clock, random.Random(1))
    script = {"fake.pilothouse.dev/run-for": "30", "fake.pilothouse.dev/exit-code": "2"}
    container = await pod(runtime, script)
    await runtime.start_container(container)
    clock.advance(29)
    assert (await runtime.container_status(container)).state == "running"
    clock.advance(2)
    status = await runtime.container_status(container)
    assert (status.state, status.exit_code) == ("exited", 2)
    assert status.finished_at - status.started_at == pytest.approx(30, abs=1.1)
    await runtime.close()


async def test_scripted_failures() -> None:
    runtime = FakeRuntime(RealClock(), random.Random(1))
    container = await pod(runtime, {"fake.pilothouse.dev/start-error": "no such program"})
    with pytest.raises(StartError, match="no such program"):
        await runtime.start_container(container)
    assert (await runtime.container_status(container)).exit_code == 128
    slow = {"fake.pilothouse.dev/exec-latency": "9", "fake.pilothouse.dev/exec-exit-code": "1"}
    container = await pod(runtime, slow)
    await runtime.start_container(container)
    with pytest.raises(ExecTimeout):
        await runtime.exec_sync(container, ["x"], 0.01)
    with pytest.raises(ImagePullError, match="not found"):
        await runtime.pull_image("webserver:404", None)


async def test_own_rules() -> None:
    runtime = FakeRuntime(
        RealClock(),
        random.Random(1),
        script=lambda sandbox, container: ContainerBehaviour(run_for=0, exit_code=9),
        image_known=lambda name: name == "only",
    )
    await runtime.pull_image("only", None)
    with pytest.raises(ImagePullError):
        await runtime.pull_image("nginx", None)


async def test_stopping_by_command() -> None:
    runtime = FakeRuntime(RealClock(), random.Random(1))
    codes = []
    for command in (None, ("sleep", "1000")):
        container = await pod(runtime, {}, command=command)
        await runtime.start_container(container)
        await runtime.stop_container(container, 30)
        codes.append((await runtime.container_status(container)).exit_code)
    assert codes == [0, 137]


async def test_thousands_of_pods_are_cheap_and_have_their_own_addresses() -> None:
    runtime = FakeRuntime(RealClock(), random.Random(1), pod_cidr="10.0.0.0/16")
    image = await runtime.pull_image("nginx", None)
    started = time.process_time()
    for number in range(3000):
        sandbox = await runtime.run_pod_sandbox(
            PodSandboxConfig(f"p{number}", "default", f"u{number}", 0, "p", "/nowhere")
        )
        container = await runtime.create_container(sandbox, ContainerConfig("c", 0, image))
        await runtime.start_container(container)
    assert time.process_time() - started < 2
    assert len({s.ips for s in await runtime.list_pod_sandboxes()}) == 3000


@pytest.mark.parametrize(
    ("kind", "restart", "command", "run_for"),
    [
        ("init", "", None, 0.0),
        ("init", "Always", None, None),
        ("container", "", None, None),
        ("init", "", ("sleep", "5"), 5.0),
    ],
)
def test_init_containers_end_by_themselves(kind, restart, command, run_for):
    config = ContainerConfig(
        name="c", attempt=0, image="i", command=command,
        labels={"io.pilothouse.container.kind": kind},
        annotations={"io.pilothouse.container.restartPolicy": restart},
    )  # fmt: skip
    sandbox = PodSandboxConfig("p", "default", "u", 0, "p", "/logs")
    assert default_script(sandbox, config).run_for == run_for
