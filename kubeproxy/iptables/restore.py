"""Gets rules into the kernel: iptables-restore, -save, and the jumps from the built-in chains.

All commands run in one network namespace (``netns`` a path, or None for our own).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping

from pilothouse.componentbase.process import Completed, Exec, find_program
from pilothouse.kubeproxy.iptables import chains

log = logging.getLogger(__name__)
_LOCK_SECONDS = "5"
_CHAIN = re.compile(r"^:(\S+)", re.MULTILINE)


class IPTablesError(Exception):
    """A command failed; the message is its own."""


class IPTables:
    """``iptables-legacy`` where there is one: its restore stays fast with many chains, while
    iptables-nft's grows with the square of their number."""

    def __init__(self, exec_: Exec, netns: str | None = None) -> None:
        self._exec = exec_
        self._prefix = ["nsenter", f"--net={netns}"] if netns else []
        self._programs = {
            tool: find_program(f"iptables-legacy{tool}", f"iptables{tool}") or f"iptables{tool}"
            for tool in ("", "-restore", "-save")
        }

    async def _run(self, tool: str, *args: str, input: bytes = b"") -> Completed:
        try:
            return await self._exec.run(
                [*self._prefix, self._programs[tool], *args], input=input, timeout=60.0
            )
        except FileNotFoundError as error:
            raise IPTablesError(
                f"{error.filename or 'iptables'} is missing: install iptables, or use "
                "--proxy-mode none"
            ) from error

    async def restore(self, text: str) -> None:
        """Applies ``text`` in one step, leaving other chains alone.

        :raises IPTablesError: nothing was changed; the message has the line that is wrong.
        """
        done = await self._run(
            "-restore", "-w", _LOCK_SECONDS, "--noflush", "--counters", input=text.encode()
        )
        if done.code:
            raise IPTablesError(_with_line(done.message, text))

    async def prepare(self) -> set[str]:
        """Makes sure that our chains exist and that the built-in ones jump to them first.

        Returns the own chains of Services that exist in the nat table.
        """
        saved = {table: await self._save(table) for table in ("filter", "nat")}
        lines = []
        for table, names in (("filter", chains.FILTER_CHAINS), ("nat", chains.NAT_CHAINS)):
            existing = set(_CHAIN.findall(saved[table]))
            new = [f":{name} - [0:0]" for name in names if name not in existing]
            new += (
                f"-I {jump.chain} {_quoted(jump.rule)}"
                for jump in chains.JUMPS
                if jump.table == table and not _jumps(saved[table], jump)
            )
            if f":{chains.CANARY} " not in saved[table]:
                new.append(f":{chains.CANARY} - [0:0]")
            if new:
                lines += [f"*{table}", *new, "COMMIT"]
        if lines:
            await self.restore("\n".join([*lines, ""]))
        return {c for c in _CHAIN.findall(saved["nat"]) if chains.is_service_chain(c)}

    async def is_flushed(self) -> bool:
        """Whether somebody has removed our chains (a firewall that was reloaded)."""
        for table in ("nat", "filter"):
            done = await self._run("", "-w", _LOCK_SECONDS, "-t", table, "-S", chains.CANARY)
            if done.code:
                return True
        return False

    async def _save(self, table: str) -> str:
        done = await self._run("-save", "-t", table)
        if done.code:
            raise IPTablesError(done.message)
        return done.stdout.decode()

    async def set_sysctls(self, values: Mapping[str, str]) -> None:
        """Logs those it cannot set (a read-only /proc): rules still work for most traffic."""
        words = [f"{name}={value}" for name, value in values.items()]
        done = await self._exec.run([*self._prefix, "sysctl", "-q", "-w", *words])
        if done.code:
            log.warning("could not set %s: %s", ", ".join(words), done.message)

    async def clean_up(self) -> None:
        """Removes every jump and chain of ours; for ``down``."""
        for jump in chains.JUMPS:
            await self._run("", "-w", _LOCK_SECONDS, "-t", jump.table, "-D", jump.chain, *jump.rule)
        for table, names in (("filter", chains.FILTER_CHAINS), ("nat", chains.NAT_CHAINS)):
            ours = [
                name
                for name in _CHAIN.findall(await self._save(table))
                if name in (*names, chains.CANARY) or chains.is_service_chain(name)
            ]
            if ours:
                lines = [f"*{table}", *(f":{n} - [0:0]" for n in ours), *(f"-X {n}" for n in ours)]
                await self.restore("\n".join([*lines, "COMMIT", ""]))


def _quoted(arguments: Iterable[str]) -> str:
    """For iptables-restore, which knows double quotes only."""
    return " ".join(f'"{a}"' if " " in a else a for a in arguments)


def _jumps(saved: str, jump: chains.Jump) -> bool:
    """Whether the saved table has the jump already (whatever its comment looks like there)."""
    return re.search(rf"^-A {jump.chain} .*-j {jump.to}$", saved, re.MULTILINE) is not None


def _with_line(message: str, text: str) -> str:
    """iptables-restore names a line by number; show it."""
    found = re.search(r"line:? (\d+)", message)
    if found is None:
        return message
    lines = text.splitlines()
    number = int(found[1])
    return f"{message}: {lines[number - 1]}" if 0 < number <= len(lines) else message
