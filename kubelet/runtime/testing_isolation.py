"""The runtimes' contract: networks, users, limits."""

from __future__ import annotations

import os

from pilothouse.kubelet.network.namespaces import umount
from pilothouse.kubelet.runtime import errors
from pilothouse.kubelet.runtime.interfaces import (
    Mount,
    PortMapping,
    Resources,
    SecurityContext,
)
from pilothouse.kubelet.runtime.testing import (
    FOREVER,
    ContractEnvironment,
    exists,
    needs,
    raises,
    read_text,
    write_text,
)


@needs("pod_network")
async def pods_have_addresses_and_reach_each_other(env: ContractEnvironment) -> None:
    server = await env.running(("sh", "-c", "nc -lp 8080 -e echo hi; sleep 60"))
    client = await env.running()
    ips = []
    for container_id in (server, client):
        sandbox_id = (await env.runtime.container_status(container_id)).sandbox_id
        ips.append((await env.runtime.pod_sandbox_status(sandbox_id)).ips[0])
    assert ips[0] != ips[1]
    script = f"for i in 1 2 3 4 5 6 7 8 9; do nc {ips[0]} 8080 && exit 0; sleep 0.1; done; exit 1"
    out, err, code = await env.runtime.exec_sync(client, ["sh", "-c", script], 10)
    assert (out, code) == (b"hi\n", 0), err


@needs("pod_network")
async def a_host_port_leads_to_its_pod(env: ContractEnvironment) -> None:
    mappings = (PortMapping("TCP", 8080, 18088), PortMapping("TCP", 8080, 18089, "127.0.0.1"))
    sandbox_id = await env.sandbox(port_mappings=mappings)
    server = await env.container(sandbox_id, ("sh", "-c", "nc -ll -p 8080 -e echo hi"))
    client_sandbox = await env.sandbox(host_network=True)
    client = await env.container(client_sandbox)
    for container_id in (server, client):
        await env.runtime.start_container(container_id)
    script = "for i in 1 2 3 4 5 6 7 8 9; do nc 127.0.0.1 $0 && exit 0; sleep 0.1; done; exit 1"
    for port in ("18088", "18089"):
        out, err, code = await env.runtime.exec_sync(client, ["sh", "-c", script, port], 10)
        assert (out, code) == (b"hi\n", 0), err
    await env.runtime.stop_pod_sandbox(sandbox_id)
    command = ["nc", "127.0.0.1", "18088"]
    assert (await env.runtime.exec_sync(client, command, 10))[2] != 0


@needs("pod_network")
async def a_sandbox_has_its_own_hostname_and_sysctls(env: ContractEnvironment) -> None:
    sysctls = {"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"}
    sandbox_id = await env.sandbox(hostname="my-host", sysctls=sysctls)
    container_id = await env.container(sandbox_id)
    await env.runtime.start_container(container_id)
    script = "hostname; cat /etc/hostname /proc/sys/net/ipv4/ip_unprivileged_port_start"
    script += " /proc/sys/kernel/shm_rmid_forced"
    out = (await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5))[0]
    assert out == b"my-host\nmy-host\n0\n1\n"


@needs("image_filesystem", "pod_network")
async def containers_of_a_pod_share_memory_and_processes(env: ContractEnvironment) -> None:
    sandbox_id = await env.sandbox(share_process_namespace=True)
    first = await env.container(sandbox_id, ("sleep", "1000"), name="one", log_path="one/0.log")
    second = await env.container(sandbox_id, FOREVER, name="two", log_path="two/0.log")
    for container_id in (first, second):
        await env.runtime.start_container(container_id)
    await env.runtime.exec_sync(first, ["sh", "-c", "echo shared > /dev/shm/x"], 5)
    script = ["sh", "-c", "cat /dev/shm/x; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]
    out = (await env.runtime.exec_sync(second, script, 5))[0]
    assert out.startswith(b"shared\n")
    assert b"sleep 1000" in out
    assert b"/pause" in out


@needs("oom_detection")
async def volumes_in_memory_are_no_larger_than_asked_for(env: ContractEnvironment) -> None:
    path = os.path.join(env.directory, "memory-volume")
    for _ in range(2):
        await env.runtime.mount_tmpfs(path, size=1 << 20, mode=0o1777, group=123)
    container_id = await env.running(mounts=(Mount(path, "/mnt"),))
    script = (
        "stat -c '%a %g' /mnt; dd if=/dev/zero of=/mnt/x bs=1M count=2 2>/dev/null; wc -c /mnt/x"
    )
    out = (await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5))[0]
    assert out == b"1777 123\n1048576 /mnt/x\n"
    assert exists(f"{path}/x")  # the node sees it, too
    for _ in range(2):
        await env.runtime.unmount(path)
    assert not exists(f"{path}/x")


@needs("oom_detection")
async def mounts_are_shared_as_far_as_asked_for(env: ContractEnvironment) -> None:
    volume = os.path.join(env.directory, "shared-volume")
    os.makedirs(f"{volume}/mine")
    made = {}
    for name in ("bidirectional", "host_to_container", "private"):
        mount = Mount(volume, "/mnt", propagation=name)
        privileged = SecurityContext(privileged=True)
        made[name] = await env.running(mounts=(mount,), security=privileged)
    script = "mount -t tmpfs none /mnt/mine && touch /mnt/mine/file"
    assert (await env.runtime.exec_sync(made["bidirectional"], ["sh", "-c", script], 5))[2] == 0
    for name, container_id in made.items():
        code = (await env.runtime.exec_sync(container_id, ["ls", "/mnt/mine/file"], 5))[2]
        assert (code == 0) == (name != "private"), name
    assert exists(f"{volume}/mine/file")
    await env.runtime.stop_container(made["bidirectional"], 0)
    assert exists(f"{volume}/mine/file")  # it is the node's now
    await env.runtime.exec_sync(made["host_to_container"], ["umount", "/mnt/mine"], 5)
    assert exists(f"{volume}/mine/file")  # slaves change nothing for others
    umount(f"{volume}/mine")
    assert not exists(f"{volume}/mine/file")


@needs("image_filesystem", "pod_network")
async def a_readonly_root_is_readonly(env: ContractEnvironment) -> None:
    container_id = await env.running(security=SecurityContext(readonly_rootfs=True))
    out, _, code = await env.runtime.exec_sync(container_id, ["touch", "/x"], 5)
    assert code != 0, out
    other = await env.running()
    assert (await env.runtime.exec_sync(other, ["touch", "/x"], 5))[2] == 0


@needs("image_filesystem", "pod_network")
async def an_image_can_be_mounted_readonly(env: ContractEnvironment) -> None:
    mounts = (
        Mount("", "/all", readonly=True, image=env.image),
        Mount("", "/some", readonly=True, image=env.image, image_sub_path="bin"),
    )
    container_id = await env.running(mounts=mounts)
    script = "/all/bin/busybox echo one; /some/busybox echo two; touch /all/x || echo no"
    out = (await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5))[0]
    assert out == b"one\ntwo\nno\n"
    with raises(errors.StartError):
        await env.running(mounts=(Mount("", "/x", image=env.image, image_sub_path="nope"),))


@needs("image_filesystem", "pod_network")
async def a_sub_path_is_what_it_was_when_it_was_looked_at(env: ContractEnvironment) -> None:
    volume = os.path.join(env.directory, "sub-path-volume")
    os.makedirs(f"{volume}/a/b")
    write_text(f"{volume}/a/b/in", "inside")
    write_text(f"{volume}/file", "a file")
    mounts = (
        Mount(f"{volume}/a/b", "/mnt/directory", within=volume),
        Mount(f"{volume}/file", "/mnt/file", within=volume, readonly=True),
    )
    container_id = await env.running(mounts=mounts)
    script = "cat /mnt/directory/in /mnt/file; echo back > /mnt/directory/out"
    out, _, _ = await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5)
    assert out == b"insidea file"
    assert read_text(f"{volume}/a/b/out") == "back\n"
    # Another container of the pod puts a link there before this one starts.
    os.rename(f"{volume}/a", f"{volume}/was-a")
    os.symlink("/etc", f"{volume}/a")
    with raises(errors.StartError):
        await env.running(mounts=mounts[:1])
    await env.runtime.stop_container(container_id, 0)
    await env.runtime.remove_container(container_id)
    assert read_text(f"{volume}/was-a/b/in") == "inside"


@needs("user_ids")
async def users_groups_and_capabilities(env: ContractEnvironment) -> None:
    security = SecurityContext(
        run_as_user=1234, run_as_group=2345, supplemental_groups=(3456,), no_new_privileges=True
    )
    container_id = await env.running(security=security)
    script = "id -u; id -g; id -G; grep -E 'CapEff|NoNewPrivs' /proc/self/status"
    out = (await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5))[0].decode()
    uid, gid, groups, capabilities, privileges = out.splitlines()
    known = (await env.runtime.container_status(container_id)).user
    assert known == {"uid": 1234, "gid": 2345, "supplementalGroups": [2345, 3456]}
    assert (uid, gid, set(groups.split())) == ("1234", "2345", {"2345", "3456"})
    assert int(capabilities.split()[1], 16) == 0
    assert privileges.split()[1] == "1"
    security = SecurityContext(
        add_capabilities=("NET_ADMIN",), drop_capabilities=("ALL",), run_as_username="daemon"
    )
    container_id = await env.running(security=security)
    script = "id -un; grep CapBnd /proc/self/status"
    out = (await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5))[0].decode()
    user, bounding = out.splitlines()
    assert user == "daemon"
    assert int(bounding.split()[1], 16) == 1 << 12
    with raises(errors.StartError):
        await env.running(security=SecurityContext(run_as_username="nobody-knows"))


@needs("user_ids")
async def privileged_and_default_profile(env: ContractEnvironment) -> None:
    strong = await env.running(security=SecurityContext(privileged=True))
    weak = await env.running(security=SecurityContext(seccomp_unconfined=False))
    script = ["sh", "-c", "mount -t tmpfs none /mnt 2>/dev/null || mkdir /mnt2; ls /dev/null"]
    assert (await env.runtime.exec_sync(strong, script, 5))[2] == 0
    probe = ["sh", "-c", "grep -E '^Seccomp:' /proc/self/status; unshare -m true"]
    out, _, code = await env.runtime.exec_sync(weak, probe, 5)
    assert out.split()[1] == b"2"
    assert code != 0


@needs("oom_detection")
async def out_of_memory(env: ContractEnvironment) -> None:
    status = await env.finished(
        ("sh", "-c", "tail /dev/zero"), resources=Resources(memory_limit=20 << 20)
    )
    assert (status.exit_code, status.reason) == (137, "OOMKilled"), status


@needs("resource_limits")
async def limits_and_their_change(env: ContractEnvironment) -> None:
    resources = Resources(cpu_shares=256, cpu_quota=20_000, memory_limit=64 << 20, pids_limit=50)
    container_id = await env.running(resources=resources)
    await _limits_are(env, container_id, 20_000, 64 << 20)
    changed = Resources(cpu_shares=512, cpu_quota=40_000, memory_limit=128 << 20)
    await env.runtime.update_container_resources(container_id, changed)
    await _limits_are(env, container_id, 40_000, 128 << 20)
    await env.runtime.update_container_resources(container_id, Resources(memory_limit=96 << 20))
    await _limits_are(env, container_id, 0, 96 << 20)
    stats = await env.runtime.container_stats(container_id)
    assert stats.memory_usage_bytes > 0
    assert 0 < stats.memory_rss_bytes <= stats.memory_usage_bytes
    assert stats.cpu_usage_core_nanoseconds > 0


@needs("oom_detection")
async def limits_of_a_pod_hold_for_its_containers(env: ContractEnvironment) -> None:
    limits = Resources(cpu_shares=256, cpu_quota=20_000, memory_limit=20 << 20, pids_limit=50)
    sandbox_id = await env.sandbox(resources=limits)
    hungry = await env.container(sandbox_id, ("sh", "-c", "tail /dev/zero"))
    async with env.ending(hungry) as status:
        await env.runtime.start_container(hungry)
    assert status[0].exit_code == 137
    # More than its pod has is refused, until the pod has more.
    await env.runtime.update_pod_sandbox_resources(sandbox_id, Resources(cpu_quota=50_000))
    container_id = await env.container(
        sandbox_id, name="two", log_path="two/0.log", resources=Resources(cpu_quota=40_000)
    )
    await env.runtime.start_container(container_id)
    with raises(errors.NotFound):
        await env.runtime.update_pod_sandbox_resources("nope", limits)


async def _limits_are(env: ContractEnvironment, container_id: str, quota: int, memory: int) -> None:
    script = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes"
    script += " || cat cpu.max memory.max"
    out = (await env.runtime.exec_sync(container_id, ["sh", "-c", script], 5))[0].split()
    assert ({str(quota).encode()} if quota else {b"-1", b"max"}) & set(out)
    assert str(memory).encode() in out


@needs("real_processes")
async def stats_of_a_container(env: ContractEnvironment) -> None:
    container_id = await env.running()
    stats = await env.runtime.container_stats(container_id)
    assert stats.id == container_id
    assert stats.timestamp > 0
