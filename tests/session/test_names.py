"""The names of the session: written once, found when they are asked for."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import cnnengine
from cnnengine import session


def test_every_public_name_is_there() -> None:
    assert [name for name in cnnengine.__all__ if not hasattr(cnnengine, name)] == []
    assert not hasattr(cnnengine, "no_such_name")


def test_the_session_has_the_names_that_the_package_lists() -> None:
    """What a file of the session defines in its users' sight is listed, unless other files of the package alone read it."""
    defined = {name for name, value in vars(session).items() if getattr(value, "__module__", "").startswith("cnnengine.session.")}
    files = [path for path in Path(session.__file__).parent.glob("*.py") if path.name != "__init__.py"]
    inside = {name for name in defined - set(session.__all__) if sum(name in path.read_text() for path in files) > 1}
    assert set(session.__all__) == set(cnnengine.__all__) & defined
    assert {n for n in defined - inside if not n.startswith("_")} == set(session.__all__)
    assert {"InferenceSession", "SessionOptions", "OrtValue", "set_seed"} <= set(session.__all__)
    for name in session.__all__:
        assert getattr(cnnengine, name) is getattr(session, name)
        assert inspect.getdoc(getattr(session, name))


def test_a_star_brings_the_listed_names_alone() -> None:
    found: dict[str, object] = {}
    exec("from cnnengine.session import *", found)
    assert found.keys() - {"__builtins__"} == set(session.__all__)


def test_importing_the_package_does_not_import_the_session() -> None:
    code = "import sys, cnnengine\nfor _ in 'ab': print('cnnengine.session' in sys.modules); cnnengine.OrtValue"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "True"]
