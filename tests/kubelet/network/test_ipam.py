from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.kubelet.network.ipam import AddressPool, FilePool, NoFreeAddress

if TYPE_CHECKING:
    from pathlib import Path


def test_addresses_come_in_turn_after_the_gateway() -> None:
    pool = AddressPool("10.244.1.0/24")
    assert (pool.gateway, pool.prefix_length) == ("10.244.1.1", 24)
    assert [pool.allocate(name) for name in "abc"] == ["10.244.1.2", "10.244.1.3", "10.244.1.4"]
    assert pool.allocate("a") == "10.244.1.2"


def test_a_freed_address_is_used_again_last() -> None:
    pool = AddressPool("10.0.0.0/29")
    first = pool.allocate("a")
    pool.release("a")
    others = [pool.allocate(str(n)) for n in range(4)]
    assert first not in others
    assert pool.allocate("last") == first


def test_a_full_pool_says_so() -> None:
    pool = AddressPool("10.0.0.0/30")
    pool.allocate("a")
    with pytest.raises(NoFreeAddress, match=r"10\.0\.0\.0/30"):
        pool.allocate("b")


def test_a_network_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        AddressPool("10.0.0.0/31")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_no_address_has_two_owners(steps: list[tuple[bool, int]]) -> None:
    pool = AddressPool("10.0.0.0/28")
    model: dict[str, str] = {}
    for allocate, number in steps:
        owner = str(number)
        if allocate:
            model[owner] = pool.allocate(owner)
        else:
            pool.release(owner)
            model.pop(owner, None)
        assert dict(pool.taken) == {address: owner for owner, address in model.items()}


def test_the_file_remembers(tmp_path: Path) -> None:
    path = str(tmp_path / "ipam.json")
    first = FilePool("10.0.0.0/24", path)
    assert first.allocate("a") == "10.0.0.2"
    assert first.allocate("b") == "10.0.0.3"
    second = FilePool("10.0.0.0/24", path)
    assert second.allocate("b") == "10.0.0.3"
    assert second.allocate("c") == "10.0.0.4"
    second.keep_only(["c"])
    assert dict(FilePool("10.0.0.0/24", path).pool.taken) == {"10.0.0.4": "c"}


def test_another_cidr_or_a_damaged_file_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "ipam.json"
    FilePool("10.0.0.0/24", str(path)).allocate("a")
    assert not FilePool("10.0.1.0/24", str(path)).pool.taken
    path.write_text("{")
    assert not FilePool("10.0.0.0/24", str(path)).pool.taken
