"""One surface in four places: cnnengine.h, its table, capi.pxd and docs/embedding.md; and what may never change in it."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

import cnnengine

from . import c_api
from .conftest import ROOT, run

INCLUDE = Path(cnnengine.__file__).parent / "include"
HEADER = re.sub(r"/\*.*?\*/", "", (INCLUDE / "cnnengine.h").read_text(), flags=re.S)
PXD = re.sub(r"#.*", "", (INCLUDE.parent / "capi.pxd").read_text())
DOCS = (ROOT / "docs" / "embedding.md").read_text()

# Version 1 of the interface as it was published. New functions come after these; these stay as they are, or the version rises.
TABLE_1 = [
    "uint32_t version",
    "uint32_t size",
    "int load(const char *, const cnne_options *, cnne_model *)",
    "int load_memory(const void *, size_t, const cnne_options *, cnne_model *)",
    "int model_free(cnne_model)",
    "int input_count(cnne_model, int32_t *)",
    "int output_count(cnne_model, int32_t *)",
    "int input_info(cnne_model, int32_t, cnne_info *)",
    "int output_info(cnne_model, int32_t, cnne_info *)",
    "int workspace_new(cnne_model, const cnne_tensor *, int32_t, uint32_t, cnne_workspace *)",
    "int workspace_free(cnne_workspace)",
    "int workspace_output(cnne_workspace, int32_t, cnne_info *)",
    "int run(cnne_workspace, const cnne_tensor *, int32_t, const cnne_tensor *, int32_t)",
    "const char *last_error()",
    "const char *status_name(int)",
]
# Callers make arrays of the last two: not even a new last member fits into version 1. cnne_options tells its size.
STRUCTS_1 = {
    "cnne_options": ["uint32_t size", "uint32_t flags", "int32_t threads"],
    "cnne_info": ["const char *name", "int32_t dtype", "int32_t rank", "int64_t dims[8]"],
    "cnne_tensor": ["void *data", "int32_t dtype", "int32_t rank", "const int64_t *dims", "const int64_t *strides"],
}
NUMBERS_1 = {
    **dict(
        zip(
            [
                "CNNE_OK",
                "CNNE_ERROR_ARGUMENT",
                "CNNE_ERROR_HANDLE",
                "CNNE_ERROR_NOT_FOUND",
                "CNNE_ERROR_MODEL",
                "CNNE_ERROR_UNSUPPORTED",
                "CNNE_ERROR_SHAPE",
                "CNNE_ERROR_DTYPE",
                "CNNE_ERROR_MEMORY",
                "CNNE_ERROR_BUSY",
                "CNNE_ERROR_NEEDS_PYTHON",
                "CNNE_ERROR_INPUT",
                "CNNE_ERROR_INTERNAL",
            ],
            range(13),
            strict=True,
        )
    ),
    "CNNE_FLOAT32": 1,
    "CNNE_UINT8": 2,
    "CNNE_INT8": 3,
    "CNNE_UINT16": 4,
    "CNNE_INT16": 5,
    "CNNE_INT32": 6,
    "CNNE_INT64": 7,
    "CNNE_BOOL": 9,
    "CNNE_FLOAT16": 10,
    "CNNE_FLOAT64": 11,
    "CNNE_UINT32": 12,
    "CNNE_UINT64": 13,
    "CNNE_ALLOW_PYTHON": 1,
    "CNNE_NO_WINOGRAD": 2,
}


def normal(declaration: str) -> str:
    """White space as in the lists above."""
    text = re.sub(r"\s+", " ", declaration.strip())
    return re.sub(r"\s*\*\s*", " *", text).strip()


def parameters(text: str) -> list[str]:
    """Types alone, without the parameters' names."""
    found = []
    for one in text.split(","):
        one = normal(one)
        if one not in ("", "void"):
            found.append(one if one.endswith("*") or " " not in one else normal(re.sub(r"\w+$", "", one)))
    return found


def signature(result: str, name: str, arguments: str) -> str:
    return normal(f"{normal(result)} {name}({', '.join(parameters(arguments))})")


def header_functions() -> dict[str, str]:
    found = re.findall(r"CNNE_INLINE\s+([\w\s]+?[\s*]+)(cnne_\w+)\(([^)]*)\)\s*\{", HEADER)
    return {name: signature(result, name, arguments) for result, name, arguments in found if name != "cnne_import"}


def pxd_functions() -> dict[str, str]:
    found = re.findall(r"^cdef ([\w ]+?[ *]+)(cnne_\w+)\(([^)]*)\) noexcept nogil$", PXD, flags=re.M)
    assert len(found) == len(re.findall(r"^cdef (?!extern|struct)", PXD, flags=re.M)), "a function of another form"
    return {name: signature(result, name, arguments) for result, name, arguments in found}


def table() -> list[str]:
    (body,) = re.findall(r"typedef struct cnne_api_table \{(.*?)\} cnne_api_table;", HEADER, flags=re.S)
    members: list[str] = []
    for one in filter(str.strip, body.split(";")):
        function = re.fullmatch(r"\s*([\w\s]+?[\s*]+)\(\*(\w+)\)\((.*)\)\s*", one, flags=re.S)
        if function:
            members.append(signature(*function.groups()))
        else:
            kind, _, names = one.strip().partition(" ")
            members += [f"{kind} {name.strip()}" for name in names.split(",")]
    return members


def struct(text: str, name: str) -> list[str]:
    """Members of a struct, in C (with semicolons) or Cython (without)."""
    found = re.search(rf"typedef struct {name} \{{(.*?)\}} {name};", text, flags=re.S)
    if found:
        return [normal(m).replace("CNNE_MAX_RANK", "8") for m in found[1].split(";") if m.strip()]
    found = re.search(rf"ctypedef struct {name}:\n((?:        .*\n)+)", text)
    assert found, name
    return [normal(m) for m in found[1].splitlines() if m.strip()]


def header_numbers() -> dict[str, int]:
    numbers = {}
    for body in re.findall(r"enum \{(.*?)\};", HEADER, flags=re.S):
        numbers.update({name: int(value) for name, value in re.findall(r"(CNNE_\w+) = (\d+)", body)})
        assert body.count("CNNE_") == len(re.findall(r"CNNE_\w+ = \d+", body)), "every number is spelled out"
    return numbers


def test_header_and_pxd_declare_the_same_functions() -> None:
    assert len(header_functions()) == 14
    assert pxd_functions() == header_functions()


def test_the_table_has_the_same_functions() -> None:
    shortened = {
        name.removeprefix("cnne_"): text.replace(name, name.removeprefix("cnne_")) for name, text in header_functions().items()
    }
    assert table()[:2] == TABLE_1[:2]
    assert sorted(table()[2:]) == sorted(shortened.values())
    # each inline function calls its own entry with its own arguments
    for name, arguments, entry, given in re.findall(
        r"CNNE_INLINE int (cnne_\w+)\(([^)]*)\)\s*\{\s*return CNNE_CALL_\((\w+), \(([^)]*)\)\);\s*\}", HEADER
    ):
        assert entry == name.removeprefix("cnne_")
        assert re.findall(r"(\w+)(?:,|$)", arguments) == re.findall(r"\w+", given)


def test_header_and_pxd_declare_the_same_structs_and_numbers() -> None:
    for name, members in STRUCTS_1.items():
        assert struct(HEADER, name) == struct(PXD, name) == members
    extern = PXD[PXD.index("enum:") : PXD.index("ctypedef uint64_t cnne_model")]
    assert set(re.findall(r"CNNE_\w+", extern)) == {*header_numbers(), "CNNE_API_VERSION", "CNNE_MAX_RANK"}


def test_plain_cimport_is_the_same_surface() -> None:
    lines = (INCLUDE.parent / "__init__.pxd").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["from cnnengine.capi cimport *"]


def test_the_docs_have_every_function_status_and_flag() -> None:
    first = [line.split("|")[1] for line in DOCS.splitlines() if line.startswith("| `cnne_")]
    listed = [name for cell in first for name in re.findall(r"`(cnne_\w+)", cell)]
    assert sorted(listed) == sorted([*header_functions(), "cnne_import", "cnne_embed_start", "cnne_embed_stop"])
    for name, text in header_functions().items():
        count = len(parameters(text[text.index("(") + 1 : -1]))
        shown = re.findall(rf"`{name}\(([^)]*)\)`", " ".join(first))
        assert all(len([a for a in s.split(",") if a.strip()]) == count for s in shown), name
    told = set()
    for group in re.findall(r"^\| (`CNNE_ERROR.*?) \|", DOCS, flags=re.M):
        told |= {f"CNNE_ERROR{tail}" for tail in re.findall(r"`(?:CNNE_ERROR)?(_\w+)`", group)}
    assert told == {name for name in header_numbers() if name.startswith("CNNE_ERROR")}
    for name in ("CNNE_OK", "CNNE_ALLOW_PYTHON", "CNNE_NO_WINOGRAD"):
        assert name in DOCS


def test_version_1_only_grows_at_the_end() -> None:
    assert (c_api.table().version, "#define CNNE_API_VERSION 1" in HEADER) == (1, True)
    assert table()[: len(TABLE_1)] == TABLE_1
    assert header_numbers().items() >= NUMBERS_1.items()
    for name, members in STRUCTS_1.items():
        assert struct(HEADER, name)[: len(members)] == members
        assert name == "cnne_options" or len(struct(HEADER, name)) == len(members)
    # and the table that is there is the one declared
    assert c_api.table().size == 8 + ctypes.sizeof(ctypes.c_void_p) * (len(table()) - 2)


def test_a_wrong_version_or_a_shorter_table_is_an_import_error(
    installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """An extension compiled for another version, or for a later table of this one, says so when it is imported."""
    header = (INCLUDE / "cnnengine.h").read_text()
    cases = {
        "version": header.replace("#define CNNE_API_VERSION 1", "#define CNNE_API_VERSION 2"),
        "later": header.replace(
            "(*stop)(cnne_workspace workspace);", "(*stop)(cnne_workspace workspace);\n    int (*later)(void);"
        ),
    }
    for name, text in cases.items():
        assert text != header
        folder = tmp_path / name
        folder.mkdir()
        (folder / "cnnengine.h").write_text(text)
        (folder / "digits.c").write_bytes((ROOT / "examples" / "c_extension" / "digits.c").read_bytes())
        (folder / "setup.py").write_text(
            "from setuptools import Extension, setup\n"
            "setup(name='digits', ext_modules=[Extension('digits', ['digits.c'], include_dirs=['.'])])\n"
        )
        run(installed, "setup.py", "-q", "build_ext", "--inplace", cwd=folder, env=environment)
        done = subprocess.run([installed, "-c", "import digits"], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 1
        assert "ImportError: cnnengine has version 1 of its C interface" in done.stderr


PROGRAM = """
#ifdef WITH_PYTHON
#include <Python.h>
#endif
#include <cnnengine.h>
int main(void)
{
    cnne_options options = {sizeof(cnne_options), CNNE_NO_WINOGRAD, 1};
    cnne_model model = 0;
    cnne_workspace workspace = 0;
    cnne_tensor tensor;
    cnne_info info;
    int32_t count = 0;
    int worst = 0;
    tensor.data = &count;
    tensor.dtype = CNNE_INT32;
    tensor.rank = 0;
    tensor.dims = tensor.strides = NULL;
    /* nobody called cnne_import: a status, no crash */
    worst += cnne_load("x.onnx", &options, &model) != CNNE_ERROR_INTERNAL;
    worst += cnne_load_memory("x", 1, NULL, &model) != CNNE_ERROR_INTERNAL;
    worst += cnne_input_count(model, &count) != CNNE_ERROR_INTERNAL;
    worst += cnne_output_count(model, &count) != CNNE_ERROR_INTERNAL;
    worst += cnne_input_info(model, 0, &info) != CNNE_ERROR_INTERNAL;
    worst += cnne_output_info(model, 0, &info) != CNNE_ERROR_INTERNAL;
    worst += cnne_workspace_new(model, &tensor, 1, CNNE_ALLOW_PYTHON, &workspace) != CNNE_ERROR_INTERNAL;
    worst += cnne_workspace_output(workspace, 0, &info) != CNNE_ERROR_INTERNAL;
    worst += cnne_run(workspace, &tensor, 1, &tensor, 1) != CNNE_ERROR_INTERNAL;
    worst += cnne_workspace_free(workspace) != CNNE_ERROR_INTERNAL;
    worst += cnne_model_free(model) != CNNE_ERROR_INTERNAL;
    worst += cnne_stop(workspace) != CNNE_ERROR_INTERNAL;
    worst += cnne_last_error()[0] == 0 || cnne_status_name(0)[0] == 0;
    return worst;
}
"""


@pytest.mark.parametrize("with_python", [False, True])
@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("gcc", ["-xc", "-std=c99"]),
        ("gcc", ["-xc", "-std=c17"]),
        ("g++", ["-xc++", "-std=c++17"]),
        ("clang", ["-xc", "-std=c99"]),
        ("clang++", ["-xc++", "-std=c++17"]),
    ],
)
def test_the_header_compiles_without_a_warning(compiler: str, flags: list[str], with_python: bool, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    source, program = tmp_path / "program", tmp_path / "a.out"
    source.write_text(PROGRAM)
    python = ["-DWITH_PYTHON", "-isystem", sysconfig.get_path("include")] if with_python else []
    warnings = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-Wshadow", "-Wstrict-prototypes"][: 5 if "++" in compiler else 6]
    # with Python the functions of cnne_import are wanted from a library: compiled, not linked
    command = [compiler, *flags, *warnings, f"-I{cnnengine.get_include()}", *python, source, "-o", program]
    run(*command, *(["-c"] if with_python else []))
    if not with_python:
        run(program)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_embedding_header_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    (tmp_path / "program.c").write_text(
        "#include <cnnengine_embed.h>\nint main(void) { int s = cnne_embed_start(); cnne_embed_stop(); return s; }\n"
    )
    flags = [
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{cnnengine.get_include()}",
        "-isystem",
        sysconfig.get_path("include"),
    ]
    run(compiler, *flags, "-c", tmp_path / "program.c", "-o", tmp_path / "program.o")


def test_plain_cimport(installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """`cimport cnnengine` and `from cnnengine.capi cimport ...`, compiled against the installed wheel, away from the sources."""
    (tmp_path / "plain.pyx").write_text(
        """# cython: language_level=3
cimport cnnengine
from cnnengine.capi cimport CNNE_OK, cnne_last_error, cnne_model, cnne_run, cnne_tensor
from libc.stdint cimport int32_t, int64_t

def scores(bytes path, const float[::1] image, float[::1] out):
    cdef cnnengine.cnne_model model
    cdef cnne_model same                    # one type by either name
    cdef cnnengine.cnne_workspace workspace
    cdef cnnengine.cnne_options options
    cdef cnnengine.cnne_info info, result
    cdef cnne_tensor x, y
    cdef int32_t count
    cdef int status
    cdef const char *name = path
    options.size, options.flags, options.threads = sizeof(cnnengine.cnne_options), cnnengine.CNNE_NO_WINOGRAD, 1
    with nogil:
        status = cnnengine.cnne_load(name, &options, &model)
    if status != CNNE_OK:
        return cnnengine.cnne_status_name(status), cnne_last_error()
    same = model
    assert cnnengine.cnne_input_count(same, &count) == cnnengine.CNNE_OK and count == 1
    assert cnnengine.cnne_output_count(same, &count) == cnnengine.CNNE_OK and count == 1
    assert cnnengine.cnne_workspace_new(model, NULL, 0, 0, &workspace) == CNNE_OK
    assert cnnengine.cnne_input_info(model, 0, &info) == CNNE_OK and cnnengine.cnne_output_info(model, 0, &result) == CNNE_OK
    assert result.dims[0] == -1 and cnnengine.cnne_workspace_output(workspace, 0, &result) == CNNE_OK and result.dims[0] == 1
    info.dims[0] = 1
    x.data, x.dtype, x.rank, x.dims, x.strides = <void *>&image[0], info.dtype, info.rank, info.dims, NULL
    y.data, y.dtype, y.rank, y.dims, y.strides = &out[0], result.dtype, result.rank, result.dims, NULL
    with nogil:
        status = cnne_run(workspace, &x, 1, &y, 1)
    assert status == CNNE_OK
    assert cnnengine.cnne_workspace_free(workspace) == CNNE_OK and cnnengine.cnne_model_free(model) == CNNE_OK
    assert cnnengine.cnne_model_free(model) == cnnengine.CNNE_ERROR_HANDLE
    return info.name, cnnengine.CNNE_API_VERSION
"""
    )
    (tmp_path / "setup.py").write_text(
        "from Cython.Build import cythonize\nfrom setuptools import Extension, setup\nimport cnnengine\n"
        "one = Extension('plain', ['plain.pyx'], include_dirs=[cnnengine.get_include()])\n"
        "setup(name='plain', ext_modules=cythonize([one]))\n"
    )
    run(installed, "setup.py", "-q", "build_ext", "--inplace", cwd=tmp_path, env=environment)
    model = ROOT / "models" / "digits_lenet.onnx"
    printed = run(
        installed,
        "-c",
        "import plain, sys, numpy as np, cnnengine\n"
        "x = np.random.default_rng(0).standard_normal((1, 1, 32, 32)).astype(np.float32)\n"
        "out = np.empty(10, np.float32)\n"
        "print(plain.scores(sys.argv[1].encode(), x.reshape(-1), out))\n"
        "np.testing.assert_array_equal(out, cnnengine.load(sys.argv[1], threads=1, winograd=False)(x)[0])\n"
        "print(plain.scores(b'/no/such', x.reshape(-1), out))\n",
        model,
        cwd=tmp_path,
        env=environment,
    ).splitlines()
    assert printed[0] == "(b'image', 1)"
    assert printed[1].startswith("(b'not found', b") and "no such file" in printed[1]
