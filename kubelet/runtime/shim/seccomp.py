"""The seccomp profile of RuntimeDefault: what a container has no business with is refused.

A list of refusals instead of upstream runtimes' list of permissions: it needs no upkeep with new
system calls; they fall under the capabilities that the container lacks anyway.
"""

from __future__ import annotations

import os
from typing import Any

EPERM = 1
ENOSYS = 38

_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}

_NAMESPACE_FLAGS = [
    {"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
]

REFUSED = (
    "acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "create_module", "delete_module",
    "fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick",
    "get_kernel_syms", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup",
    "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie",
    "mount", "mount_setattr", "move_mount", "move_pages", "nfsservctl", "open_by_handle_at",
    "open_tree", "perf_event_open", "pivot_root", "query_module", "quotactl",
    "quotactl_fd", "reboot", "request_key", "setdomainname", "sethostname", "setns",
    "settimeofday", "swapoff", "swapon", "sysfs", "syslog", "umount", "umount2", "unshare",
    "uselib", "userfaultfd", "ustat", "vhangup", "vm86", "vm86old",
)  # fmt: skip

_BY_CAPABILITY = {
    "CAP_SYS_ADMIN": (
        "bpf", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
        "mount", "mount_setattr", "move_mount", "open_tree", "perf_event_open", "pivot_root",
        "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "swapoff", "swapon",
        "syslog", "umount", "umount2", "unshare",
    ),
    "CAP_SYS_TIME": ("clock_adjtime", "clock_settime", "settimeofday"),
    "CAP_SYS_MODULE": ("delete_module", "finit_module", "init_module"),
    "CAP_SYS_BOOT": ("kexec_file_load", "kexec_load", "reboot"),
    "CAP_SYS_PACCT": ("acct",),
    "CAP_SYS_PTRACE": ("kcmp",),
    "CAP_SYS_RAWIO": ("ioperm", "iopl"),
    "CAP_SYSLOG": ("syslog",),
    "CAP_SYS_NICE": ("move_pages",),
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at",),
    "CAP_SYS_TTY_CONFIG": ("vhangup",),
}  # fmt: skip


def default_profile(capabilities: list[str]) -> dict[str, Any]:
    """``linux.seccomp`` for a container that has ``capabilities``."""
    allowed = {name for cap in capabilities for name in _BY_CAPABILITY.get(cap, ())}
    refused = [name for name in REFUSED if name not in allowed]
    rules: list[dict[str, Any]] = [
        {"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}
    ]
    if "CAP_SYS_ADMIN" not in capabilities:
        # clone with a namespace flag is refused. clone3 can't be looked into: it does not exist,
        # so that libc falls back to clone.
        rules += [
            {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM, "args": [flag]}
            for flag in _NAMESPACE_FLAGS
        ]
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": _ARCHITECTURES.get(os.uname().machine, []),
        "syscalls": rules,
    }
