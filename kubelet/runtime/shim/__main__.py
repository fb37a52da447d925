"""``python -m pilothouse.kubelet.runtime.shim --socket S --state-dir D …``: one node's shim.

Order at start: lock the state directory, become a daemon, private mount namespace, the cgroup
cure, the node's network namespace, subreaper, adopt old containers, listen, say ``ready`` on
stdout. Errors go to stderr in one line, exit code 1.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import stat
import sys
import time
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.network import namespaces as ns
from pilothouse.kubelet.network.ipam import FilePool
from pilothouse.kubelet.network.pod_network import NetworkUnavailable, PodNetwork
from pilothouse.kubelet.runtime.shim import cgroups
from pilothouse.kubelet.runtime.shim.crun import Crun, CrunMissing, find_crun
from pilothouse.kubelet.runtime.shim.loop import Loop
from pilothouse.kubelet.runtime.shim.node import OPTIONS_FILE, Node, save
from pilothouse.kubelet.runtime.shim.protocol import short_path
from pilothouse.kubelet.runtime.shim.reaper import Reaper
from pilothouse.kubelet.runtime.shim.server import Server
from pilothouse.kubelet.runtime.shim.spec import Machine
from pilothouse.kubelet.runtime.shim.user_namespaces import supported

if TYPE_CHECKING:
    from collections.abc import Sequence

PR_SET_CHILD_SUBREAPER = 36
CAP_SYS_RESOURCE = 24
VERSION = "1"

OPTIONS = {
    "--socket": "",
    "--state-dir": "",
    "--netns": "",
    "--pod-cidr": "",
    "--node-ip": "",
    "--cgroup-root": "/kubepods",
    "--cgroups": "auto",
    "--log": "",
    "--foreground": "false",
}
REMEMBERED = ("--netns", "--pod-cidr", "--node-ip", "--cgroup-root", "--cgroups")
LOCK_ATTEMPTS = 100


class UsageError(Exception):
    pass


def parse(argv: Sequence[str]) -> dict[str, str]:
    """``--name value`` or ``--name=value``; argparse would take a fifth of the start.

    Only what was given: :func:`complete` adds the rest.
    """
    options: dict[str, str] = {}
    rest = list(argv)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name not in OPTIONS:
            raise UsageError(f"unknown flag {name}")
        if not equals:
            if not rest:
                raise UsageError(f"{name} needs a value")
            value = rest.pop(0)
        options[name] = value
    for name in ("--socket", "--state-dir"):
        if not options.get(name):
            raise UsageError(f"{name} is required")
    return options


def complete(given: dict[str, str], state_dir: str) -> dict[str, str]:
    """What isn't given is as the last shim of this directory had it, else the default.

    So whoever only knows the directory can clean up after a crash of the machine's node.
    """
    try:
        with open(f"{state_dir}/{OPTIONS_FILE}", encoding="utf-8") as file:
            kept = {name: value for name, value in json.load(file).items() if name in REMEMBERED}
    except (OSError, ValueError):
        kept = {}
    if not os.path.exists(kept.get("--netns") or "/"):
        del kept["--netns"]
    options = {**OPTIONS, **kept, **given}
    save(f"{state_dir}/{OPTIONS_FILE}", {name: options[name] for name in REMEMBERED})
    return options


def main(argv: Sequence[str]) -> int:
    try:
        given = parse(argv)
        state_dir = os.path.abspath(given["--state-dir"])
        os.makedirs(state_dir, mode=0o711, exist_ok=True)
        lock = lock_state(state_dir)
        options = complete(given, state_dir)
        crun = find_crun()
        netns = os.open(options["--netns"], os.O_RDONLY) if options["--netns"] else -1
    except (UsageError, CrunMissing, OSError) as error:
        print(f"shim: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if options["--foreground"] != "true" and os.fork():
        os._exit(0)  # the daemon has the output pipe, and says how it went
    if options["--foreground"] != "true":
        os.setsid()
    try:
        server = build(options, state_dir, crun, netns)
    except (NetworkUnavailable, OSError) as error:
        print(f"shim: {error}", file=sys.stderr)  # noqa: T201
        return 1
    detach(options["--log"] or f"{state_dir}/shim.log")
    server.node.loop.run()
    for name in (options["--socket"], f"{state_dir}/shim.pid"):
        if os.path.exists(name):
            os.unlink(name)
    os.close(lock)
    return 0


def lock_state(state_dir: str) -> int:
    """One shim per state directory; the lock ends with the process."""
    fd = os.open(f"{state_dir}/shim.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(LOCK_ATTEMPTS):  # an earlier one may be just about to end
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return fd
    raise OSError(f"another shim works in {state_dir}")


def build(options: dict[str, str], state_dir: str, crun: str, netns: int) -> Server:
    """Everything up to listening; single-threaded until then."""
    for directory in ("sandboxes", "containers"):
        os.makedirs(os.path.join(state_dir, directory), exist_ok=True)
    mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    ns.unshare(ns.CLONE_NEWNS)
    # Slave: what the kubelet mounts later arrives here where the machine shares its mounts.
    ns.mount("none", "/", "", ns.MS_REC | ns.MS_SLAVE)
    version = options["--cgroups"]
    version = cgroups.detect() if version == "auto" else version
    version = cgroups.prepare(version)
    if netns >= 0:
        ns.setns(netns, ns.CLONE_NEWNET)
        os.close(netns)
    ns.prctl(PR_SET_CHILD_SUBREAPER, 1)
    machine = describe_machine(version)
    loop, reaper = Loop(), Reaper()
    loop.on_wake.append(reaper.reap)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.set_wakeup_fd(loop.wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
    node = Node(
        state_dir=state_dir,
        cgroup_root=options["--cgroup-root"],
        machine=machine,
        cgroups=cgroups.Cgroups(version),
        crun=Crun(crun, f"{state_dir}/crun", cgroups=version != "disabled", reaper=reaper),
        reaper=reaper,
        loop=loop,
        emit=lambda _: None,
        node_ip=options["--node-ip"],
        nofile=raise_file_limit(),
        mounts=mounts,
    )
    if options["--pod-cidr"]:
        node.network = PodNetwork(FilePool(options["--pod-cidr"], f"{state_dir}/ipam.json"))
        node.network.setup()
    server = Server(node, listen(options["--socket"]), facts(machine, crun))
    server.start()
    with open(f"{state_dir}/shim.pid", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    return server


def facts(machine: Machine, crun: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "pid": os.getpid(),
        "crun": crun,
        "cgroups": machine.cgroups,
        "rootless": machine.rootless,
        "user_namespaces": supported(machine.rootless),
    }


def listen(path: str) -> socket.socket:
    """We hold the state's lock: a socket that is there belongs to nobody."""
    if os.path.exists(path):
        os.unlink(path)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    old = os.umask(0o177)
    try:
        with short_path(path) as short:
            listener.bind(short)
    finally:
        os.umask(old)
    listener.listen(16)
    return listener


def describe_machine(version: str) -> Machine:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    bounding = int(status["CapBnd"], 16)
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        current = int(file.read())
    with open("/proc/self/uid_map", encoding="ascii") as file:
        mapped = sum(int(line.split()[2]) for line in file)
    return Machine(
        cgroups=version,
        capabilities=bounding,
        oom_score_adj_floor=-1000 if bounding >> CAP_SYS_RESOURCE & 1 else current,
        rootless=mapped < 65536,
        devices=tuple(host_devices()),
    )


def host_devices() -> list[dict[str, Any]]:
    """The devices of /dev, for privileged containers."""
    found = []
    for name in sorted(os.listdir("/dev")):
        path = f"/dev/{name}"
        try:
            state = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISCHR(state.st_mode) or stat.S_ISBLK(state.st_mode):
            found.append(
                {
                    "path": path,
                    "type": "c" if stat.S_ISCHR(state.st_mode) else "b",
                    "major": os.major(state.st_rdev),
                    "minor": os.minor(state.st_rdev),
                    "fileMode": stat.S_IMODE(state.st_mode),
                    "uid": state.st_uid,
                    "gid": state.st_gid,
                }
            )
    return found


def raise_file_limit() -> int:
    """A pod takes about ten descriptors; the containers get the limit that we had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def detach(log: str) -> None:
    """Says ``ready`` to whoever started us, then leaves its pipes alone."""
    print("ready", flush=True)  # noqa: T201
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for source, number in ((null, 0), (target, 1), (target, 2)):
        os.dup2(source, number)
    os.close(target)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
