"""``--token-auth-file``: ``token,user,uid[,"group1,group2"]`` a line (token/tokenfile)."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from pilothouse.apiserver.authentication.tokens import TokenInfo
from pilothouse.apiserver.request.context import UserInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class TokenFile:
    def __init__(self, users: dict[str, UserInfo]) -> None:
        self._users = users

    @classmethod
    def load(cls, path: str | Path) -> TokenFile:
        with Path(path).open(newline="", encoding="utf-8") as file:
            return cls(parse_token_file(file, str(path)))

    async def authenticate_token(
        self, token: str, audiences: Sequence[str] = ()
    ) -> TokenInfo | None:
        user = self._users.get(token)
        return None if user is None else TokenInfo(user)


def parse_token_file(lines: Iterable[str], name: str = "") -> dict[str, UserInfo]:
    """:raises ValueError: a line with fewer than three columns."""
    users: dict[str, UserInfo] = {}
    for record in csv.reader(lines, skipinitialspace=True):
        if not record:
            continue
        if len(record) < 3:
            raise ValueError(
                f"token file '{name}' must have at least 3 columns (token, user name, user uid), "
                f"found {len(record)}"
            )
        token, user, uid = record[:3]
        if not token:
            continue
        groups = record[3].split(",") if len(record) > 3 and record[3] else ()
        users[token] = UserInfo(user, tuple(groups), uid)
    return users
