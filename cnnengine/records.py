"""dataclass: frozen dataclasses whose methods are shared, not compiled for each class.

`dataclasses.dataclass` writes and compiles six functions per class, 0.2 ms in all; the operators' modules that a model needs hold
some eighty classes, which would be half of the time that loading a small model takes. The classes are the same otherwise: fields,
construction, `dataclasses.fields` and `replace`, equality, hash and repr by fields; frozen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


def _init(self: Any, *args: Any, **kwargs: Any) -> None:
    values, given = self.__dict__, len(args)
    name = type(self).__name__
    fields = dataclasses.fields(self)
    if given > len(fields):
        raise TypeError(f"{name}() takes {len(fields)} fields, {given} were given")
    for field, value in zip(fields, args, strict=False):
        values[field.name] = value
    for field in fields[given:]:
        if field.name in kwargs:
            values[field.name] = kwargs.pop(field.name)
        elif field.default is not dataclasses.MISSING:
            values[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = field.default_factory()
        else:
            raise TypeError(f"{name}() needs the field {field.name!r}")
    if kwargs:
        raise TypeError(f"{name}() has no field {next(iter(kwargs))!r}, or it was given twice")
    check = getattr(self, "__post_init__", None)
    if check is not None:
        check()


def _values(self: Any) -> tuple[object, ...]:
    return tuple(getattr(self, f.name) for f in dataclasses.fields(self))


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    inside = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self))
    return f"{type(self).__qualname__}({inside})"


METHODS = {
    "__init__": _init,
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
}


@dataclass_transform(frozen_default=True)
def dataclass(*, frozen: bool) -> Callable[[type[T]], type[T]]:
    """Class decorator, as `dataclasses.dataclass(frozen=True)`; methods that the class defines itself stay."""
    assert frozen

    def made(cls: type[T]) -> type[T]:
        own = set(cls.__dict__)
        done = dataclasses.dataclass(init=False, repr=False, eq=False, frozen=True)(cls)
        for name, method in METHODS.items():
            if name not in own:
                setattr(done, name, method)
        return done

    return made
