"""dataclass: frozen dataclasses whose methods are shared, not compiled for each class; and lazy attributes.

`dataclasses.dataclass` writes and compiles eight functions per class, 0.2 ms in all; the operators' modules that a model needs
hold some eighty classes, which would be half of the time that loading a small model takes. The classes are the same otherwise:
fields, construction, `dataclasses.fields` and `replace`, equality, hash and repr by fields; frozen. A dataclass that inherits
from one is made here, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeVar, dataclass_transform, overload

T = TypeVar("T")


class lazy(Generic[T]):
    """An attribute that is computed when it is first asked for.

    `functools.cached_property` up to Python 3.11 has a lock for all objects of a class: a forked child would wait for a thread
    that held it and that the child lacks. Here two threads may compute the value at once.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> lazy[T] | T:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)
        return value


@cache
def fields_of(cls: Any) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a dataclass by name; `dataclasses.fields` looks for them at every call."""
    return {f.name: f for f in dataclasses.fields(cls)}


def _init(self: Any, *args: Any, **kwargs: Any) -> None:
    values, given = self.__dict__, len(args)
    cls: Any = type(self)
    fields = fields_of(cls)
    if given > len(fields):
        raise TypeError(f"{cls.__name__}() takes {len(fields)} fields, {given} were given")
    for at, (name, field) in enumerate(fields.items()):
        if at < given:
            values[name] = args[at]
        elif name in kwargs:
            values[name] = kwargs.pop(name)
        elif field.default is not dataclasses.MISSING:
            values[name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[name] = field.default_factory()
        else:
            raise TypeError(f"{cls.__name__}() needs the field {name!r}")
    if kwargs:
        raise TypeError(f"{cls.__name__}() has no field {next(iter(kwargs))!r}, or it was given twice")
    check = getattr(self, "__post_init__", None)
    if check is not None:
        check()


def _values(self: Any) -> tuple[object, ...]:
    cls: Any = type(self)
    return tuple(map(self.__dict__.__getitem__, fields_of(cls)))


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    cls: Any = type(self)
    inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in fields_of(cls))
    return f"{cls.__qualname__}({inside})"


def _own(self: Any, name: str) -> bool:
    """Whether an attribute may not be set or deleted: any of a dataclass, the fields of a class that inherits from one."""
    cls: Any = type(self)
    return "__dataclass_fields__" in cls.__dict__ or name in fields_of(cls)


def _setattr(self: Any, name: str, value: object) -> None:
    if _own(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _delattr(self: Any, name: str) -> None:
    if _own(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(self, name)


METHODS = {
    "__init__": _init,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
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
        done = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)  # frozen here, it would compile two
        for name, method in METHODS.items():
            if name not in own:
                setattr(done, name, method)
        return done

    return made
