"""The contract's checks of user namespaces: who is who inside and outside."""

from __future__ import annotations

import os

from pilothouse.kubelet.runtime.interfaces import Mount, SecurityContext
from pilothouse.kubelet.runtime.testing import ContractEnvironment, needs, read_text, write_text

FIRST = 2 * 65536
SCRIPT = (
    "tr -s ' ' < /proc/self/uid_map; cat /proc/sys/net/ipv4/ip_forward; hostname; "
    "stat -c %u:%g /bin/busybox /vol /vol/group /mem /etc/hostname; "
    "echo from-pod > /vol/out && echo > /root-file && stat -c %u /vol/out /root-file; "
    "echo shared > /dev/shm/x && cat /dev/shm/x; cat /file; echo no > /file || echo read-only; "
    "ls /vol /sys/class/net"
)


@needs("user_namespaces")
async def pods_with_users_of_their_own(env: ContractEnvironment) -> None:
    volume = os.path.join(env.directory, "users-volume")
    os.makedirs(volume)
    os.makedirs(f"{env.directory}/memory")
    write_text(f"{volume}/group", "x")
    os.chown(f"{volume}/group", 5, 200)
    mounts = (
        Mount(volume, "/vol"),
        Mount(f"{env.directory}/memory", "/mem"),
        Mount(f"{volume}/group", "/file", readonly=True),
    )
    sandbox_id = await env.sandbox(
        user_namespace=FIRST, sysctls={"net.ipv4.ip_forward": "1"}, hostname="own-users"
    )
    container_id = await env.container(sandbox_id, mounts=mounts)
    await env.runtime.start_container(container_id)
    out, err, code = await env.runtime.exec_sync(container_id, ["sh", "-c", SCRIPT], 5)
    lines = out.decode().split("\n")
    assert code == 0, (out, err)
    assert lines[0].split() == ["0", str(FIRST), "65536"]
    assert lines[1:3] == ["1", "own-users"]
    assert lines[3:8] == ["0:0", "0:0", "5:200", "0:0", "0:0"], out
    assert lines[8:12] == ["0", "0", "shared", "xread-only"], (out, err)
    assert lines[12:-1] == ["group", "out", "eth0", "lo"] or "eth0" in lines, out
    # On the node its root is root of the volume and nobody of the rest.
    assert os.stat(f"{volume}/out").st_uid == 0
    assert read_text(f"{volume}/out") == "from-pod\n"
    status = await env.runtime.container_status(container_id)
    assert os.stat(f"/proc/{status.pid}").st_uid == FIRST
    assert status.user == {"uid": 0, "gid": 0, "supplementalGroups": [0]}
    assert (await env.runtime.pod_sandbox_status(sandbox_id)).ips
    await env.runtime.stop_container(container_id, 0)
    await env.runtime.remove_container(container_id)
    assert read_text(f"{volume}/out") == "from-pod\n"


@needs("user_namespaces")
async def ordinary_users_and_shared_processes_in_a_user_namespace(env: ContractEnvironment) -> None:
    sandbox_id = await env.sandbox(user_namespace=3 * 65536, share_process_namespace=True)
    security = SecurityContext(run_as_user=1000, run_as_group=1000, supplemental_groups=(7,))
    container_id = await env.container(sandbox_id, security=security)
    await env.runtime.start_container(container_id)
    script = ["sh", "-c", "id -u; id -G; cat /proc/1/cmdline"]
    out = (await env.runtime.exec_sync(container_id, script, 5))[0]
    assert out.split(b"\n") == [b"1000", b"1000 7", b"/pause\0"], out
    status = await env.runtime.container_status(container_id)
    assert os.stat(f"/proc/{status.pid}").st_uid == 3 * 65536 + 1000
