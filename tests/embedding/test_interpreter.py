"""cnnengine_embed.h: whose interpreter it is, what becomes of it, and what it leaves alone."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from .conftest import ROOT, build_c, run

MODEL = ROOT / "models" / "digits_lenet.onnx"

HEAD = """
#include <cnnengine.h>      /* before Python.h: cnne_import is declared all the same */
#include <Python.h>
#include <cnnengine_embed.h>
#include <locale.h>
#define TOLD(condition) (printf("line %d: %s; %s\\n", __LINE__, #condition, cnne_last_error()), 1)
#define IS(condition) do { if (!(condition)) return TOLD(condition); } while (0)
int main(int argc, char **argv)
{
    cnne_model model = 0;
    (void)argc;
"""

PROGRAMS = {
    "locale": """
    IS(strcmp(setlocale(LC_CTYPE, NULL), "C") == 0);
    IS(cnne_embed_start() == 0);
    IS(cnne_load(argv[1], NULL, &model) == CNNE_OK && cnne_model_free(model) == CNNE_OK);
    IS(strcmp(setlocale(LC_CTYPE, NULL), "C") == 0);
    cnne_embed_stop();
    IS(strcmp(setlocale(LC_CTYPE, NULL), "C") == 0);
    return 0;
}
""",
    "again": """
    cnne_options options = {sizeof(options), 0, 1};
    cnne_workspace workspace;
    int32_t count;
    IS(cnne_embed_start() == 0 && cnne_embed_start() == 0);
    IS(cnne_load(argv[1], &options, &model) == CNNE_OK && cnne_model_free(model) == CNNE_OK);
    options.threads = -1;
    IS(cnne_load(argv[1], &options, &model) == CNNE_ERROR_ARGUMENT);
    options.threads = 2147483647;
    IS(cnne_load(argv[1], &options, &model) == CNNE_OK);
    IS(cnne_workspace_new(model, NULL, 0, 0, &workspace) == CNNE_OK && cnne_workspace_free(workspace) == CNNE_OK);
    IS(cnne_model_free(model) == CNNE_OK);
    cnne_embed_stop();
    cnne_embed_stop();
    for (int i = 0; i < 2; i++) {
        IS(cnne_load(argv[1], NULL, &model) == CNNE_ERROR_INTERNAL);
        IS(cnne_load("/no/such", NULL, &model) == CNNE_ERROR_INTERNAL);
        IS(cnne_load_memory("x", 1, NULL, &model) == CNNE_ERROR_INTERNAL);
        IS(cnne_workspace_new(model, NULL, 0, 0, &workspace) == CNNE_ERROR_INTERNAL);
        IS(cnne_workspace_free(1) == CNNE_ERROR_INTERNAL && cnne_model_free(1) == CNNE_ERROR_INTERNAL);
        IS(cnne_input_count(1, &count) == CNNE_ERROR_HANDLE);
        IS(strstr(cnne_last_error(), "handle") != NULL);
        if (i == 0)
            IS(cnne_embed_start() == -1 && !Py_IsInitialized());
    }
    /* another interpreter, which the program starts itself, knows nothing of the first one's objects */
    Py_Initialize();
    IS(cnne_load("/no/such", NULL, &model) == CNNE_ERROR_INTERNAL);
    IS(cnne_load(argv[1], NULL, &model) == CNNE_ERROR_INTERNAL);
    IS(strstr(cnne_last_error(), "ended") != NULL);
    return 0;
}
""",
    "foreign": """
    PyThreadState *own;
    Py_Initialize();
    IS(cnne_embed_start() == 0);        /* with the GIL */
    cnne_embed_stop();
    own = PyEval_SaveThread();
    IS(cnne_embed_start() == 0);        /* without it */
    IS(cnne_load(argv[1], NULL, &model) == CNNE_OK && cnne_model_free(model) == CNNE_OK);
    cnne_embed_stop();
    IS(Py_IsInitialized());
    PyEval_RestoreThread(own);
    IS(PyRun_SimpleString("import cnnengine; cnnengine.show_config()") == 0);
    IS(cnne_import() == 0);
    Py_FinalizeEx();
    IS(cnne_load(argv[1], NULL, &model) == CNNE_ERROR_INTERNAL);
    return 0;
}
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_interpreter(name: str, installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    config = Path(sysconfig.get_config_var("BINDIR"), f"python{sysconfig.get_config_var('LDVERSION')}-config")
    if not config.exists():
        pytest.skip("this Python cannot be embedded: it has no python-config")
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "Makefile").write_bytes((ROOT / "examples" / "c_embed" / "Makefile").read_bytes())
    (folder / f"{name}.c").write_text(HEAD + PROGRAMS[name])
    build_c(folder, tmp_path, installed, environment, name)
    site = run(installed, "-c", "import sys; print(':'.join(p for p in sys.path if p))", cwd=tmp_path, env=environment).strip()
    # an interpreter that the program starts itself looks for its modules by itself
    around = {**environment, "LC_ALL": "C.UTF-8", **({} if name == "locale" else {"PYTHONPATH": site})}
    run(tmp_path / name, MODEL, env=around)
