"""records.dataclass: what dataclasses.dataclass(frozen=True) makes, without its compiling."""

from __future__ import annotations

import dataclasses

import pytest

from cnnengine.records import dataclass


@dataclass(frozen=True)
class Base:
    a: int
    b: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Derived(Base):
    c: list[int] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError("negative")


class Bare(Base):
    """Not decorated: what it adds is no field."""

    note = ""


@dataclass(frozen=True)
class Other:
    a: int
    b: tuple[int, ...] = (1, 2)


def test_construction() -> None:
    assert (Derived(1).a, Derived(1).b, Derived(1).c) == (1, (1, 2), [])
    assert Derived(1, c=[3], b=(5,)) == Derived(1, (5,), [3])
    assert Derived(1).c is not Derived(1).c
    assert dataclasses.replace(Base(1), b=(7,)) == Base(1, (7,))
    assert [f.name for f in dataclasses.fields(Derived)] == ["a", "b", "c"]
    assert Bare(1).a == 1
    assert repr(Base(3)) == "Base(a=3, b=(1, 2))"
    with pytest.raises(ValueError, match="negative"):
        Derived(-1)


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, (), 3), {}), ((1,), {"a": 2}), ((1,), {"other": 2})])
def test_wrong_arguments(args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        Base(*args, **kwargs)  # type: ignore[arg-type]


def test_equality_and_hash() -> None:
    assert Base(1) == Base(1) != Base(2)
    assert hash(Base(1)) == hash(Base(1))
    assert Base(1) != Other(1)
    assert Base(1) != Bare(1)
    assert len({Base(1), Base(1), Base(2)}) == 2


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Base(1).a = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del Base(1).a
    with pytest.raises(dataclasses.FrozenInstanceError):
        Base(1).other = 2  # type: ignore[attr-defined]


def test_a_class_that_inherits_is_frozen_but_for_what_it_adds() -> None:
    one = Bare(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.a = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.b
    one.note = "mine"
    assert one.note == "mine" and Bare.note == ""
    del one.note
    assert one.note == ""
