/* For programs that have no Python in their own code: start the interpreter once, then call cnnengine from any thread.
 *
 *     #include <cnnengine_embed.h>
 *     if (cnne_embed_start() != 0) return 1;       // in the thread that will call cnne_embed_stop
 *     ... cnne_load, cnne_workspace_new, cnne_run from any thread ...
 *     cnne_embed_stop();
 *
 * Compile and link with what `python3-config --includes`, `python3-config --ldflags --embed` and
 * `python -c "import cnnengine; print(cnnengine.get_include())"` say, and, for a Python without a shared library, with
 * `python -c "import sysconfig; print(sysconfig.get_config_var('LINKFORSHARED'))"`. The interpreter finds cnnengine as `python` would: in the
 * environment that the program CNNENGINE_PYTHON (or VIRTUAL_ENV/bin/python) belongs to, else by PYTHONPATH and its defaults. */
#ifndef CNNENGINE_EMBED_H
#define CNNENGINE_EMBED_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cnnengine.h"

static PyThreadState *cnne_embed_state_ = NULL;    /* of the thread that started the interpreter; NULL where that was not done here */
static int cnne_embed_ended_ = 0;

/* 0, or -1 after a message on stderr. Does nothing when an interpreter that cnne_embed_start made is running; one that the program
 * started itself is used, and cnne_embed_stop leaves it running. The program's locale stays as it is: Python reads and writes
 * names of files and texts as UTF-8. After cnne_embed_stop there is no second start in a process, since NumPy does not allow it. */
CNNE_INLINE int cnne_embed_start(void)
{
    PyPreConfig before;
    PyConfig config;
    PyStatus status;
    char program[4096];
    const char *python = getenv("CNNENGINE_PYTHON"), *environment = getenv("VIRTUAL_ENV");
    if (cnne_embed_state_ != NULL)
        return 0;
    if (Py_IsInitialized()) {
        PyGILState_STATE gil = PyGILState_Ensure();
        int failed = cnne_import() < 0;
        if (failed)
            PyErr_Print();
        PyGILState_Release(gil);
        return failed ? -1 : 0;
    }
    if (cnne_embed_ended_) {
        fprintf(stderr, "cnnengine: Python has ended in this process, and NumPy cannot be loaded a second time\n");
        return -1;
    }
    PyPreConfig_InitPythonConfig(&before);
    before.parse_argv = 0;
    before.configure_locale = 0;        /* else setlocale(LC_CTYPE, "") */
    before.coerce_c_locale = 0;
    before.utf8_mode = 1;
    status = Py_PreInitialize(&before);
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "cnnengine: no Python: %s\n", status.err_msg ? status.err_msg : "unknown error");
        return -1;
    }
    PyConfig_InitPythonConfig(&config);
    config.parse_argv = 0;
    config.install_signal_handlers = 0;
    if (python == NULL && environment != NULL && strlen(environment) + 16 < sizeof(program)) {
        snprintf(program, sizeof(program), "%s/bin/python", environment);
        python = program;
    }
    status = python != NULL ? PyConfig_SetBytesString(&config, &config.program_name, python) : PyStatus_Ok();
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "cnnengine: no Python: %s\n", status.err_msg ? status.err_msg : "unknown error");
        return -1;
    }
    if (cnne_import() < 0) {
        PyErr_Print();
        cnne_embed_ended_ = 1;
        Py_FinalizeEx();
        return -1;
    }
    cnne_embed_state_ = PyEval_SaveThread();
    return 0;
}

/* End the interpreter that cnne_embed_start made; nothing where it made none. Free models and workspaces first; cnne_ functions that
 * are called afterwards give CNNE_ERROR_INTERNAL. */
CNNE_INLINE void cnne_embed_stop(void)
{
    if (cnne_embed_state_ == NULL)
        return;
    PyEval_RestoreThread(cnne_embed_state_);
    cnne_embed_state_ = NULL;
    cnne_embed_ended_ = 1;
    Py_FinalizeEx();
}
#endif
