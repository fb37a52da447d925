"""Print a script that completes commands, flags and names of clusters:

source <(pilothouse completion bash)          (in ~/.bashrc; zsh likewise)
pilothouse completion fish > ~/.config/fish/completions/pilothouse.fish
"""

from __future__ import annotations

import argparse
import importlib
import shlex
from typing import Any

from pilothouse.cli import COMMANDS

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def run(args: argparse.Namespace) -> int:
    words = {name: words_of(name) for name in COMMANDS}
    print(fish(words) if args.shell == "fish" else bash(words, zsh=args.shell == "zsh"))
    return 0


def words_of(command: str) -> dict[str, tuple[str, ...] | None]:
    """Its flags and sub-commands, with the values that a flag takes: () has none, None anything."""
    parser = argparse.ArgumentParser(prog=command)
    importlib.import_module(f"pilothouse.cli.{command.replace('-', '_')}").add_arguments(parser)
    words: dict[str, tuple[str, ...] | None] = {}
    for action in _actions(parser):
        for flag in action.option_strings:
            words[flag] = _values(action)
        if not action.option_strings and action.choices:
            words.update(dict.fromkeys(map(str, action.choices), ()))
    return words


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    found: list[argparse.Action] = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found += _actions(below)
    return found


def _values(action: argparse.Action) -> tuple[str, ...] | None:
    if action.choices:
        return tuple(map(str, action.choices))
    return () if action.nargs == 0 else None


def bash(words: dict[str, dict[str, Any]], *, zsh: bool) -> str:
    cases = []
    for command, flags in words.items():
        values = "".join(
            f"        {command},{flag}) words={shlex.quote(' '.join(taken))} ;;\n"
            for flag, taken in flags.items()
            if taken
        )
        cases.append(f"{values}        {command},*) words={shlex.quote(' '.join(flags))} ;;\n")
    first = "autoload -U +X bashcompinit && bashcompinit\n" if zsh else ""
    return f"""{first}_pilothouse() {{
    local words="" current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        words={shlex.quote(" ".join(words))}
    elif [ "$before" = --name ]; then
        words=$(ls "${{PILOTHOUSE_HOME:-$HOME/.pilothouse}}/clusters" 2>/dev/null)
    else
        case "${{COMP_WORDS[1]}},$before" in
{"".join(cases)}        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _pilothouse pilothouse"""


def fish(words: dict[str, dict[str, Any]]) -> str:
    lines = ["complete -c pilothouse -n __fish_use_subcommand -f"]
    for command, flags in words.items():
        help_text = shlex.quote(COMMANDS[command])
        lines.append(f"complete -c pilothouse -n __fish_use_subcommand -a {command} -d {help_text}")
        for flag, taken in flags.items():
            kind = "-l" if flag.startswith("--") else "-s"
            name = flag.lstrip("-")
            what = f"{kind} {name}" if flag.startswith("-") else f"-a {name}"
            value = f" -x -a {shlex.quote(' '.join(taken))}" if taken else ""
            value = " -r" if taken is None else value
            lines.append(
                f"complete -c pilothouse -n '__fish_seen_subcommand_from {command}' {what}{value}"
            )
    return "\n".join(lines)
