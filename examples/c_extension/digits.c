/* A C extension module that classifies buffers: digits.load(path), digits.classify(buffer) -> (number, score). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <cnnengine.h>

static cnne_model model;
static cnne_workspace workspace;
static cnne_info input, output;

static PyObject *failed(int status)
{
    return PyErr_Format(PyExc_RuntimeError, "%s: %s", cnne_status_name(status), cnne_last_error());
}

static PyObject *load(PyObject *self, PyObject *args)
{
    const char *path;
    cnne_options options = {sizeof(options), 0, 1};
    int status;
    (void)self;
    if (!PyArg_ParseTuple(args, "s", &path))
        return NULL;
    if ((status = cnne_load(path, &options, &model)) != CNNE_OK || (status = cnne_workspace_new(model, NULL, 0, 0, &workspace)) != CNNE_OK ||
        (status = cnne_input_info(model, 0, &input)) != CNNE_OK || (status = cnne_workspace_output(workspace, 0, &output)) != CNNE_OK)
        return failed(status);
    input.dims[0] = 1;
    if (output.dtype != CNNE_FLOAT32 || output.rank != 2 || output.dims[1] > 1000)
        return PyErr_Format(PyExc_ValueError, "the model does not give scores");
    Py_RETURN_NONE;
}

static PyObject *classify(PyObject *self, PyObject *args)
{
    Py_buffer image;
    float scores[1000];
    int64_t size = 1;
    int status, best = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*", &image))
        return NULL;
    for (int i = 0; i < input.rank; i++)
        size *= input.dims[i];
    if (image.len != size * (int64_t)sizeof(float)) {
        PyBuffer_Release(&image);
        return PyErr_Format(PyExc_ValueError, "an image has %lld floats", (long long)size);
    }
    cnne_tensor in = {image.buf, input.dtype, input.rank, input.dims, NULL};
    cnne_tensor out = {scores, output.dtype, output.rank, output.dims, NULL};
    Py_BEGIN_ALLOW_THREADS
    status = cnne_run(workspace, &in, 1, &out, 1);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&image);
    if (status != CNNE_OK)
        return failed(status);
    for (int i = 1; i < output.dims[1]; i++)
        best = scores[i] > scores[best] ? i : best;
    return Py_BuildValue("(id)", best, (double)scores[best]);
}

static PyMethodDef methods[] = {
    {"load", load, METH_VARARGS, "load(path): load the model that classify uses."},
    {"classify", classify, METH_VARARGS, "classify(buffer of float32) -> (number of the class, its score)."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "digits", "Digits by cnnengine's C interface.", -1, methods,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_digits(void)
{
    if (cnne_import() < 0)
        return NULL;
    return PyModule_Create(&definition);
}
