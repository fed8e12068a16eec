# cython: language_level=3, boundscheck=False, wraparound=False
"""The C interface: what cnnengine.h and capi.pxd declare. docs/embedding.md documents it.

Models and workspaces are made with the GIL and become plain C structs, which hold the Python objects that they reach into by one
reference each. `cnne_run` works on these structs alone. Nothing here raises: Python exceptions become a status and the thread's
error text.
"""

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from cnnengine.runtime.runner cimport NativePlan, Workspace, atomic_int, ending_t, flagged, memory_t, plan_t, run_plan, wire
from cnnengine.runtime.threads cimport allowed_threads

import numpy as np

from cnnengine import errors
from cnnengine.model import inside, load

cdef extern from "capi_handles.h" nogil:
    int handles_init() noexcept
    uint64_t handle_new(void *object, int kind) noexcept
    void *handle_take(uint64_t handle, int kind, int alone, int *busy) noexcept
    void *handle_drop(uint64_t handle) noexcept
    ctypedef struct held_t "handle_held":
        void *object
        void *names                     # list of bytes, which the infos point into
        atomic_int stopped
    int handle_stop(uint64_t handle, int kind) noexcept
    int handle_flag(uint64_t handle, int kind, size_t offset) noexcept
    int handle_close(uint64_t handle, int kind, int alone, void **object) noexcept
    void error_set(const char *text) noexcept
    void error_at(const char *text, const char *what, int64_t index, int64_t expected, int64_t received) noexcept
    const char *error_get() noexcept

cdef extern from "capi_strided.h" nogil:
    void strided_copy(int rank, const int64_t *dims, const int64_t *strides, size_t item, char *strided, char *dense, int gather) noexcept
    int strided_dense(int rank, const int64_t *dims, const int64_t *strides, int64_t item) noexcept
    int strided_distinct(int rank, const int64_t *dims, const int64_t *strides, int64_t item) noexcept
    int strided_span(const void *data, int rank, const int64_t *dims, const int64_t *strides, int64_t item, uintptr_t *first,
                     uintptr_t *end) noexcept

cdef extern from "<stdatomic.h>" nogil:
    void atomic_store(atomic_int *p, int v) noexcept

cdef extern from "Python.h" nogil:
    int Py_IsInitialized() noexcept
    int Py_AtExit(void (*function)() noexcept) noexcept

cdef extern from "cnnengine.h" nogil:
    const char *CNNE_CAPSULE
    ctypedef struct cnne_api_table:
        uint32_t version, size
        int (*load)(const char *, const cnne_options *, cnne_model *) noexcept nogil
        int (*load_memory)(const void *, size_t, const cnne_options *, cnne_model *) noexcept nogil
        int (*model_free)(cnne_model) noexcept nogil
        int (*input_count)(cnne_model, int32_t *) noexcept nogil
        int (*output_count)(cnne_model, int32_t *) noexcept nogil
        int (*input_info)(cnne_model, int32_t, cnne_info *) noexcept nogil
        int (*output_info)(cnne_model, int32_t, cnne_info *) noexcept nogil
        int (*workspace_new)(cnne_model, const cnne_tensor *, int32_t, uint32_t, cnne_workspace *) noexcept nogil
        int (*workspace_free)(cnne_workspace) noexcept nogil
        int (*workspace_output)(cnne_workspace, int32_t, cnne_info *) noexcept nogil
        int (*run)(cnne_workspace, const cnne_tensor *, int32_t, const cnne_tensor *, int32_t) noexcept nogil
        const char *(*last_error)() noexcept nogil
        const char *(*status_name)(int) noexcept nogil
        int (*stop)(cnne_workspace) noexcept nogil

if handles_init():
    raise MemoryError("no memory for a fork handler")
if Py_AtExit(note_end):
    raise MemoryError("no room for what is to be done at the interpreter's end")

cdef enum:
    MODEL = 1
    WORKSPACE = 2
    RANK = 8                            # CNNE_MAX_RANK

cdef struct model_t:
    held_t held                         # Model
    int32_t n_inputs, n_outputs
    cnne_info *inputs
    cnne_info *outputs

# An input or output of a workspace.
cdef struct operand_t:
    cnne_info info
    int64_t nbytes, item
    Py_ssize_t number                   # of the plan's inputs, or outputs; -1 where the plan has no such one
    const char *constant                # the value of an output that is known without running; NULL where it is computed
    int from_input                      # an output that is this input; else -1
    char *copy                          # dense copy, made when the caller's array is not dense, not aligned, or overlaps another
    uintptr_t first, end                # the bytes of the caller's array in this run
    const char *now                     # what kernels read or write in this run

cdef struct workspace_t:
    held_t held                         # [Model, Segment, Workspace, known values ...]
    int needs_python
    int32_t n_inputs, n_outputs
    operand_t *inputs
    operand_t *outputs
    const plan_t *plan                  # of the Segment ...
    const memory_t *memory              # ... and what the Workspace has for it
    void **ins                          # the plan's inputs and outputs in this run, by their numbers
    void **outs
    int threads                         # for which there is scratch
    int limited                         # whether OpenMP's limit holds

_CODES = {
    np.dtype(name): code
    for name, code in (
        ("float32", CNNE_FLOAT32), ("uint8", CNNE_UINT8), ("int8", CNNE_INT8), ("uint16", CNNE_UINT16), ("int16", CNNE_INT16),
        ("int32", CNNE_INT32), ("int64", CNNE_INT64), ("bool", CNNE_BOOL), ("float16", CNNE_FLOAT16), ("float64", CNNE_FLOAT64),
        ("uint32", CNNE_UINT32), ("uint64", CNNE_UINT64),
    )
}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}


cdef int fail(int status, const char *text) noexcept nogil:
    error_set(text)
    return status


cdef int failed(object error) noexcept with gil:
    """The status of an exception, whose text becomes the thread's error text; never CNNE_OK, whatever fails in here."""
    cdef bytes text
    error_set("an error whose text cannot be written")
    try:
        if isinstance(error, MemoryError):
            error_set("no memory")
        message = str(error) or type(error).__name__
        text = (message if isinstance(error, errors.CNNEngineError) else f"{type(error).__name__}: {message}").encode("utf-8", "replace")
        error_set(text)
        if isinstance(error, MemoryError):
            return CNNE_ERROR_MEMORY
        if isinstance(error, errors.StoppedError):
            return CNNE_ERROR_STOPPED
        if isinstance(error, errors.ModelNotFoundError):
            return CNNE_ERROR_NOT_FOUND
        if isinstance(error, errors.UnsupportedOperatorError):
            return CNNE_ERROR_UNSUPPORTED
        if isinstance(error, errors.ShapeError):
            return CNNE_ERROR_SHAPE
        if isinstance(error, errors.ModelError):
            return CNNE_ERROR_MODEL
        if isinstance(error, errors.InputError):
            return CNNE_ERROR_INPUT
    except BaseException as second:
        # the text of an error may fail to be written, and memory be short for that too
        if isinstance(error, MemoryError) or isinstance(second, MemoryError):
            return CNNE_ERROR_MEMORY
    return CNNE_ERROR_INTERNAL


cdef int bad_handle(int busy) noexcept nogil:
    if busy:
        return fail(CNNE_ERROR_BUSY, "the workspace is in use by another thread")
    return fail(CNNE_ERROR_HANDLE, "not an open handle of this kind")


cdef int _ended                         # C's zero; no value here, which a second start would assign again


cdef void note_end() noexcept nogil:
    global _ended
    _ended = 1


cdef int python_gone() noexcept nogil:
    """Whether the interpreter of this module has ended: another one, started after it, knows none of its objects."""
    if _ended:
        return fail(CNNE_ERROR_INTERNAL, "the Python interpreter that cnnengine was imported in has ended")
    return 0 if Py_IsInitialized() else fail(CNNE_ERROR_INTERNAL, "the Python interpreter is not running")


cdef int describe(cnne_info *info, list names, str name, dtype, shape) except -1:
    """Fill an info; its name is kept alive by `names`."""
    cdef bytes encoded = name.encode()
    cdef int i
    names.append(encoded)
    memset(info, 0, sizeof(cnne_info))
    info.name = PyBytes_AsString(encoded)
    info.dtype = _CODES.get(np.dtype(dtype), 0)
    info.rank = -1
    if shape is not None:
        if len(shape) > RANK:
            raise errors.UnsupportedOperatorError("the C interface takes few axes", tensor=name, expected=f"at most {RANK}", received=len(shape))
        info.rank = len(shape)
        for i, extent in enumerate(shape):
            info.dims[i] = extent if isinstance(extent, int) else -1
    return 0


cdef uint64_t registered(held_t *made, object kept, list names, int kind) except 0:
    """A handle for what begins with `made`, which holds the objects until `forget`."""
    cdef uint64_t handle
    Py_INCREF(kept)
    made.object = <void *>kept
    Py_INCREF(names)
    made.names = <void *>names
    handle = handle_new(made, kind)
    if handle == 0:
        raise MemoryError("no memory for a handle")
    return handle


cdef void forget(held_t *held) noexcept:
    Py_XDECREF(<PyObject *>held.object)
    Py_XDECREF(<PyObject *>held.names)


# ---------------------------------------------------------------- models

cdef void destroy_model(model_t *m) noexcept with gil:
    if m != NULL:
        forget(&m.held)
        free(m.inputs)
        free(m.outputs)
        free(m)


cdef uint64_t make_model(object source, const cnne_options *options) except 0:
    cdef model_t *m
    cdef Py_ssize_t i
    threads = options.threads if options != NULL and options.threads > 0 else None
    model = load(source, threads=threads, winograd=options == NULL or not options.flags & CNNE_NO_WINOGRAD)
    for info in (*model.inputs, *model.outputs):
        if info.kind != "tensor":
            raise errors.UnsupportedOperatorError("the C interface takes tensors alone", tensor=info.name, received=info.kind)
    names = []
    m = <model_t *>calloc(1, sizeof(model_t))
    if m == NULL:
        raise MemoryError("no memory for a model")
    try:
        m.n_inputs = len(model.inputs)
        m.n_outputs = len(model.outputs)
        m.inputs = <cnne_info *>calloc(m.n_inputs + 1, sizeof(cnne_info))
        m.outputs = <cnne_info *>calloc(m.n_outputs + 1, sizeof(cnne_info))
        if m.inputs == NULL or m.outputs == NULL:
            raise MemoryError("no memory for a model")
        for i, info in enumerate(model.inputs):
            describe(&m.inputs[i], names, info.name, info.dtype, info.shape)
        for i, info in enumerate(model.outputs):
            describe(&m.outputs[i], names, info.name, info.dtype, info.shape)
        return registered(&m.held, model, names, MODEL)
    except BaseException:
        destroy_model(m)
        raise


cdef int check_options(const cnne_options *options) noexcept nogil:
    if options != NULL and options.size < sizeof(cnne_options):
        return fail(CNNE_ERROR_ARGUMENT, "options.size is not sizeof(cnne_options)")
    if options != NULL and (options.threads < 0 or options.flags & ~<uint32_t>CNNE_NO_WINOGRAD):
        return fail(CNNE_ERROR_ARGUMENT, "options have a negative number of threads or an unknown flag")
    return CNNE_OK


# What needs the GIL is in functions of its own: a nogil function with Python objects takes the GIL on its way out, whatever way.

cdef int load_with_gil(const char *path, const void *data, size_t size, const cnne_options *options, cnne_model *model) noexcept with gil:
    try:
        if path != NULL:
            model[0] = make_model((<bytes>path).decode("utf-8", "surrogateescape"), options)
        else:
            model[0] = make_model(PyBytes_FromStringAndSize(<const char *>data, size), options)
    except BaseException as error:
        return failed(error)
    return CNNE_OK


cdef int cnne_load(const char *path, const cnne_options *options, cnne_model *model) noexcept nogil:
    cdef int status = check_options(options)
    if status or python_gone():
        return status or CNNE_ERROR_INTERNAL
    if path == NULL or model == NULL:
        return fail(CNNE_ERROR_ARGUMENT, "path or model is NULL")
    return load_with_gil(path, NULL, 0, options, model)


cdef int cnne_load_memory(const void *data, size_t size, const cnne_options *options, cnne_model *model) noexcept nogil:
    cdef int status = check_options(options)
    if status or python_gone():
        return status or CNNE_ERROR_INTERNAL
    if data == NULL or model == NULL:
        return fail(CNNE_ERROR_ARGUMENT, "data or model is NULL")
    if size > <size_t>1 << 31:
        return fail(CNNE_ERROR_ARGUMENT, "ONNX messages have at most 2 GiB")
    return load_with_gil(NULL, data, size, options, model)


cdef int cnne_model_free(cnne_model model) noexcept nogil:
    cdef void *object = NULL
    if python_gone():
        return CNNE_ERROR_INTERNAL
    if handle_close(model, MODEL, 0, &object) == 0:
        return bad_handle(0)
    if object != NULL:
        destroy_model(<model_t *>object)
    return CNNE_OK


cdef void drop_model(cnne_model model) noexcept nogil:
    cdef void *last = handle_drop(model)
    if last != NULL:
        destroy_model(<model_t *>last)


cdef int count_of(cnne_model model, int32_t *count, int outputs) noexcept nogil:
    cdef int busy
    cdef model_t *m
    if count == NULL:
        return fail(CNNE_ERROR_ARGUMENT, "count is NULL")
    m = <model_t *>handle_take(model, MODEL, 0, &busy)
    if m == NULL:
        return bad_handle(busy)
    count[0] = m.n_outputs if outputs else m.n_inputs
    drop_model(model)
    return CNNE_OK


cdef int info_of(cnne_model model, int32_t index, cnne_info *info, int outputs) noexcept nogil:
    cdef int busy, status = CNNE_OK
    cdef int32_t n
    cdef model_t *m
    if info == NULL:
        return fail(CNNE_ERROR_ARGUMENT, "info is NULL")
    m = <model_t *>handle_take(model, MODEL, 0, &busy)
    if m == NULL:
        return bad_handle(busy)
    n = m.n_outputs if outputs else m.n_inputs
    if 0 <= index < n:
        info[0] = m.outputs[index] if outputs else m.inputs[index]
    else:
        error_at("no such index", "of", n, n - 1, index)
        status = CNNE_ERROR_ARGUMENT
    drop_model(model)
    return status


cdef int cnne_input_count(cnne_model model, int32_t *count) noexcept nogil:
    return count_of(model, count, 0)


cdef int cnne_output_count(cnne_model model, int32_t *count) noexcept nogil:
    return count_of(model, count, 1)


cdef int cnne_input_info(cnne_model model, int32_t index, cnne_info *info) noexcept nogil:
    return info_of(model, index, info, 0)


cdef int cnne_output_info(cnne_model model, int32_t index, cnne_info *info) noexcept nogil:
    return info_of(model, index, info, 1)


# ---------------------------------------------------------------- workspaces

cdef void destroy_operands(operand_t *operands, int32_t n) noexcept nogil:
    cdef int32_t i
    if operands != NULL:
        for i in range(n):
            free(operands[i].copy)
        free(operands)


cdef void destroy_workspace(workspace_t *w) noexcept with gil:
    if w != NULL:
        destroy_operands(w.inputs, w.n_inputs)
        destroy_operands(w.outputs, w.n_outputs)
        free(w.ins)
        free(w.outs)
        forget(&w.held)
        free(w)


cdef int fill(operand_t *operand, list names, str name, dtype, shape) except -1:
    cdef int i
    size = 1
    describe(&operand.info, names, name, dtype, shape)
    operand.from_input = -1
    operand.number = -1
    operand.item = np.dtype(dtype).itemsize
    for i in range(operand.info.rank):
        size *= operand.info.dims[i]
    operand.nbytes = min(size * operand.item, <int64_t>1 << 62) if operand.info.rank >= 0 else 0
    return 0


cdef uint64_t make_workspace(model, const cnne_tensor *inputs, int32_t count, uint32_t flags) except 0:
    cdef workspace_t *w
    cdef Py_ssize_t i, axis
    cdef NativePlan plan
    cdef Workspace memory = Workspace()
    names = []
    shapes = []
    for i, info in enumerate(model.inputs):
        if info.dtype not in _CODES:
            raise errors.UnsupportedOperatorError("the C interface has no number for this element type", model=model.name,
                                                  tensor=info.name, received=info.dtype)
        if inputs == NULL:
            shape = model.default_shape(info)
        else:
            if inputs[i].dtype != _CODES.get(info.dtype, -1):
                raise errors.InputError("has the wrong dtype", model=model.name, tensor=info.name, expected=info.dtype,
                                        received=str(_DTYPES.get(inputs[i].dtype, inputs[i].dtype)))
            if not 0 <= inputs[i].rank <= RANK or (inputs[i].rank and inputs[i].dims == NULL):
                raise errors.ShapeError("not a shape", model=model.name, tensor=info.name, expected=f"0 to {RANK} axes",
                                        received=inputs[i].rank)
            shape = tuple([inputs[i].dims[axis] for axis in range(inputs[i].rank)])
        shapes.append(shape)
    view = inside(model)
    segment = view.whole_plan({info.name: shape for info, shape in zip(model.inputs, shapes, strict=True)})
    if segment is None and not flags & CNNE_ALLOW_PYTHON:
        return NEEDS_PYTHON
    w = <workspace_t *>calloc(1, sizeof(workspace_t))
    if w == NULL:
        raise MemoryError("no memory for a workspace")
    try:
        w.needs_python = segment is None
        w.limited = not view.threads_given
        w.threads = model.threads
        w.n_inputs = len(model.inputs)
        w.n_outputs = len(model.outputs)
        w.inputs = <operand_t *>calloc(w.n_inputs + 1, sizeof(operand_t))
        w.outputs = <operand_t *>calloc(w.n_outputs + 1, sizeof(operand_t))
        if w.inputs == NULL or w.outputs == NULL:
            raise MemoryError("no memory for a workspace")
        for i, info in enumerate(model.inputs):
            fill(&w.inputs[i], names, info.name, info.dtype, shapes[i])
        kept = [model, segment, memory]
        if segment is None:
            for i, info in enumerate(model.outputs):
                fill(&w.outputs[i], names, info.name, info.dtype, info.shape if all(isinstance(d, int) for d in info.shape or (None,)) else None)
        else:
            plan = segment.plan.native
            memory.attach(plan, w.threads)
            w.plan = &plan.c
            w.memory = &memory.c
            w.ins = <void **>calloc(len(segment.inputs) + 1, sizeof(void *))
            w.outs = <void **>calloc(len(segment.outputs) + 1, sizeof(void *))
            if w.ins == NULL or w.outs == NULL:
                raise MemoryError("no memory for a workspace")
            inputs_at = {name: at for at, name in enumerate(segment.inputs)}
            outputs_at = {name: (at, shape, dtype) for at, (name, shape, dtype) in enumerate(segment.outputs)}
            input_at = {info.name: at for at, info in enumerate(model.inputs)}
            for i, info in enumerate(model.inputs):
                w.inputs[i].number = inputs_at.get(info.name, -1)
            for i, info in enumerate(model.outputs):
                if info.name in outputs_at:
                    at, shape, dtype = outputs_at[info.name]
                    fill(&w.outputs[i], names, info.name, dtype, shape)
                    w.outputs[i].number = at
                elif info.name in input_at:
                    at = input_at[info.name]
                    fill(&w.outputs[i], names, info.name, model.inputs[at].dtype, shapes[at])
                    w.outputs[i].from_input = at
                else:
                    known = view.known_value(segment, info.name)
                    value = np.ascontiguousarray(known)
                    kept.append(value)
                    fill(&w.outputs[i], names, info.name, value.dtype, np.shape(known))
                    w.outputs[i].constant = <const char *><uintptr_t>value.ctypes.data
        return registered(&w.held, kept, names, WORKSPACE)
    except BaseException:
        destroy_workspace(w)
        raise


cdef uint64_t NEEDS_PYTHON = <uint64_t>-1   # never a handle


cdef int new_with_gil(model_t *m, const cnne_tensor *inputs, int32_t count, uint32_t flags, cnne_workspace *workspace) noexcept with gil:
    cdef uint64_t made
    cdef int status
    try:
        made = make_workspace(<object>m.held.object, inputs, count, flags)
        if made == NEEDS_PYTHON:
            nodes = (<object>m.held.object).host_nodes()
            error_set((f"nodes run in Python: {', '.join(nodes[:8])}" if nodes else "shapes depend on the data").encode())
            return CNNE_ERROR_NEEDS_PYTHON
        workspace[0] = made
    except BaseException as error:
        status = failed(error)
        if status == CNNE_ERROR_INPUT and isinstance(error, errors.InputError) and error.message == "has the wrong dtype":
            return CNNE_ERROR_DTYPE
        return status
    return CNNE_OK


cdef int cnne_workspace_new(cnne_model model, const cnne_tensor *inputs, int32_t count, uint32_t flags,
                            cnne_workspace *workspace) noexcept nogil:
    cdef int busy, status = CNNE_OK
    cdef model_t *m
    if python_gone():
        return CNNE_ERROR_INTERNAL
    if workspace == NULL or (inputs == NULL and count != 0) or flags & ~<uint32_t>CNNE_ALLOW_PYTHON:
        return fail(CNNE_ERROR_ARGUMENT, "workspace is NULL, inputs is NULL with a count, or an unknown flag")
    m = <model_t *>handle_take(model, MODEL, 0, &busy)
    if m == NULL:
        return bad_handle(busy)
    if inputs != NULL and count != m.n_inputs:
        error_at("wrong number", "of", 0, m.n_inputs, count)
        status = CNNE_ERROR_ARGUMENT
    else:
        status = new_with_gil(m, inputs, count, flags, workspace)
    drop_model(model)
    return status


cdef int cnne_workspace_free(cnne_workspace workspace) noexcept nogil:
    cdef void *object = NULL
    cdef int result
    if python_gone():
        return CNNE_ERROR_INTERNAL
    result = handle_close(workspace, WORKSPACE, 1, &object)
    if result != 1:
        return bad_handle(result == 2)
    destroy_workspace(<workspace_t *>object)
    return CNNE_OK


cdef int cnne_workspace_output(cnne_workspace workspace, int32_t index, cnne_info *info) noexcept nogil:
    cdef int busy, status = CNNE_OK
    cdef workspace_t *w
    if info == NULL:
        return fail(CNNE_ERROR_ARGUMENT, "info is NULL")
    w = <workspace_t *>handle_take(workspace, WORKSPACE, 1, &busy)
    if w == NULL:
        return bad_handle(busy)
    if 0 <= index < w.n_outputs:
        info[0] = w.outputs[index].info
    else:
        error_at("no such output", "of", w.n_outputs, w.n_outputs - 1, index)
        status = CNNE_ERROR_ARGUMENT
    handle_drop(workspace)
    return status


# ---------------------------------------------------------------- running

cdef int check_tensor(const cnne_tensor *t, const operand_t *o, const char *what, int32_t index) noexcept nogil:
    cdef int axis
    if t.dtype != o.info.dtype:
        error_at("wrong element type", what, index, o.info.dtype, t.dtype)
        return CNNE_ERROR_DTYPE
    if t.rank != o.info.rank:
        error_at("wrong number of axes", what, index, o.info.rank, t.rank)
        return CNNE_ERROR_SHAPE
    if t.rank and t.dims == NULL:
        error_at("dims is NULL", what, index, o.info.rank, 0)
        return CNNE_ERROR_ARGUMENT
    for axis in range(t.rank):
        if t.dims[axis] != o.info.dims[axis]:
            error_at("wrong extent", what, index, o.info.dims[axis], t.dims[axis])
            return CNNE_ERROR_SHAPE
    return CNNE_OK


cdef int check_memory(const cnne_tensor *t, operand_t *o, const char *what, int32_t index, int written) noexcept nogil:
    """Note the bytes that a tensor of known shape touches; elements that are written lie apart."""
    if not strided_span(t.data, t.rank, t.dims, t.strides, o.item, &o.first, &o.end):
        error_at("strides leave the address space", what, index, 0, 0)
        return CNNE_ERROR_ARGUMENT
    if written and not strided_distinct(t.rank, t.dims, t.strides, o.item):
        error_at("elements overlap by their strides", what, index, 0, 0)
        return CNNE_ERROR_ARGUMENT
    return CNNE_OK


cdef inline int meet(const operand_t *a, const operand_t *b) noexcept nogil:
    return a.first < b.end and b.first < a.end


cdef int direct(const cnne_tensor *t, const operand_t *o) noexcept nogil:
    """Whether kernels can work on the caller's memory."""
    return strided_dense(t.rank, t.dims, t.strides, o.item) and <uintptr_t>t.data % <size_t>o.item == 0


cdef char *copy_of(operand_t *o) noexcept nogil:
    if o.copy == NULL:
        o.copy = <char *>malloc(o.nbytes + 64)
    return o.copy


cdef int apart(workspace_t *w, const cnne_tensor *inputs, const cnne_tensor *outputs) noexcept nogil:
    """Note where arrays lie; refuse what no order of writes makes right."""
    cdef int status = CNNE_OK
    cdef int32_t i, j
    for i in range(w.n_inputs):
        status = check_memory(&inputs[i], &w.inputs[i], "input", i, 0)
        if status:
            return status
    for i in range(w.n_outputs):
        if outputs[i].data == NULL:
            w.outputs[i].first = w.outputs[i].end = 0
            continue
        status = check_memory(&outputs[i], &w.outputs[i], "output", i, 1)
        if status:
            return status
        for j in range(i):
            # strided arrays may interleave; two without gaps cannot
            if meet(&w.outputs[i], &w.outputs[j]) and strided_dense(outputs[i].rank, outputs[i].dims, outputs[i].strides, w.outputs[i].item) \
                    and strided_dense(outputs[j].rank, outputs[j].dims, outputs[j].strides, w.outputs[j].item):
                error_at("overlaps another output", "output", i, 0, j)
                return CNNE_ERROR_ARGUMENT
    return CNNE_OK


cdef int run_native(workspace_t *w, const cnne_tensor *inputs, const cnne_tensor *outputs) noexcept nogil:
    cdef int32_t i, j
    cdef int copied
    cdef Py_ssize_t fault
    cdef const char *data
    cdef operand_t *o
    cdef const int64_t *word = NULL
    cdef ending_t ending
    cdef int threads = allowed_threads(w.threads) if w.limited else w.threads
    for i in range(w.n_inputs):
        o = &w.inputs[i]
        # an input that an output overlaps is copied: kernels write before they have read all
        copied = not direct(&inputs[i], o)
        for j in range(w.n_outputs):
            copied = copied or meet(o, &w.outputs[j])
        data = <const char *>inputs[i].data
        if copied:
            data = copy_of(o)
            if data == NULL:
                return fail(CNNE_ERROR_MEMORY, "no memory to copy an input")
            strided_copy(o.info.rank, o.info.dims, inputs[i].strides, o.item, <char *>inputs[i].data, o.copy, 1)
        o.now = data
        if o.number >= 0:
            w.ins[o.number] = <void *>data
    for i in range(w.n_outputs):
        o = &w.outputs[i]
        data = <const char *>outputs[i].data
        if data == NULL or not direct(&outputs[i], o):
            # an output that nobody wants is computed all the same: its kernel may make others too
            data = copy_of(o)
            if data == NULL:
                return fail(CNNE_ERROR_MEMORY, "no memory to copy an output")
        o.now = data
        if o.number >= 0:
            w.outs[o.number] = <void *>data
    wire(w.plan, w.memory, <void *const *>w.ins, <void *const *>w.outs)
    ending.flag = &w.held.stopped
    ending.deadline = 0
    ending.outer = NULL
    fault = run_plan(w.plan, w.memory, 0, w.plan.n_steps, threads, &word, &ending, False)
    if fault >= 0:
        return fail(CNNE_ERROR_INPUT, w.plan.faults[fault].text)
    if fault != -1:
        return fail(CNNE_ERROR_STOPPED, "the run was ended by cnne_stop")
    for i in range(w.n_outputs):
        o = &w.outputs[i]
        if outputs[i].data == NULL:
            continue
        data = o.constant if o.constant != NULL else w.inputs[o.from_input].now if o.from_input >= 0 else o.now
        if data == outputs[i].data:
            continue
        if direct(&outputs[i], o):
            memcpy(outputs[i].data, data, o.nbytes)
        else:
            strided_copy(o.info.rank, o.info.dims, outputs[i].strides, o.item, <char *>outputs[i].data, <char *>data, 0)
    return CNNE_OK


cdef object as_array(const cnne_tensor *t, dtype):
    """The caller's memory as an array."""
    cdef Py_ssize_t i
    shape = tuple([t.dims[i] for i in range(t.rank)])
    if 0 in shape:
        return np.empty(shape, dtype)
    interface = {
        "version": 3,
        "shape": shape,
        "typestr": np.dtype(dtype).str,
        "data": (<uintptr_t>t.data, False),
        "strides": None if t.strides == NULL else tuple([t.strides[i] for i in range(t.rank)]),
    }
    return np.asarray(type("Memory", (), {"__array_interface__": interface})())


cdef int run_python(workspace_t *w, const cnne_tensor *inputs, const cnne_tensor *outputs) noexcept with gil:
    cdef int status
    cdef int32_t i
    cdef Py_ssize_t axis
    try:
        model = (<list>w.held.object)[0]
        feeds = {info.name: np.array(as_array(&inputs[i], info.dtype)) for i, info in enumerate(model.inputs)}
        with flagged(&w.held.stopped):
            results = model.run(None, feeds)
        results = [np.asarray(result) for result in results]
        for i, result in enumerate(results):
            if outputs[i].data == NULL:
                continue
            if outputs[i].dtype != _CODES.get(result.dtype, -1):
                return fail(CNNE_ERROR_DTYPE, f"output {i} has elements of {result.dtype}".encode())
            if outputs[i].rank != result.ndim or any([outputs[i].dims[axis] != result.shape[axis] for axis in range(result.ndim)]):
                return fail(CNNE_ERROR_SHAPE, f"output {i} has the shape {result.shape}".encode())
            w.outputs[i].item = result.itemsize
        status = apart(w, inputs, outputs)
        if status:
            return status
        for i, result in enumerate(results):
            if outputs[i].data != NULL:
                as_array(&outputs[i], result.dtype)[...] = result
        return CNNE_OK
    except BaseException as error:
        return failed(error)


cdef int cnne_run(cnne_workspace workspace, const cnne_tensor *inputs, int32_t n_inputs, const cnne_tensor *outputs,
                  int32_t n_outputs) noexcept nogil:
    cdef int busy, status = CNNE_OK
    cdef int32_t i
    cdef workspace_t *w
    if (inputs == NULL and n_inputs) or (outputs == NULL and n_outputs):
        return fail(CNNE_ERROR_ARGUMENT, "inputs or outputs is NULL")
    w = <workspace_t *>handle_take(workspace, WORKSPACE, 1, &busy)
    if w == NULL:
        return bad_handle(busy)
    atomic_store(&w.held.stopped, 0)
    if n_inputs != w.n_inputs or n_outputs != w.n_outputs:
        error_at("wrong number of inputs or outputs", "outputs", n_outputs, w.n_inputs, n_inputs)
        status = CNNE_ERROR_ARGUMENT
    for i in range(n_inputs):
        if status == CNNE_OK:
            status = check_tensor(&inputs[i], &w.inputs[i], "input", i)
            if status == CNNE_OK and inputs[i].data == NULL and w.inputs[i].nbytes:
                error_at("data is NULL", "input", i, w.inputs[i].nbytes, 0)
                status = CNNE_ERROR_ARGUMENT
    for i in range(n_outputs):
        if status == CNNE_OK and outputs[i].data != NULL:
            if w.outputs[i].info.rank >= 0:
                status = check_tensor(&outputs[i], &w.outputs[i], "output", i)
            elif not 0 <= outputs[i].rank <= RANK or (outputs[i].rank and outputs[i].dims == NULL):
                status = fail(CNNE_ERROR_ARGUMENT, "an output's dims are NULL or its rank is not from 0 to 8")
    if status == CNNE_OK:
        if w.needs_python:
            status = CNNE_ERROR_INTERNAL if python_gone() else run_python(w, inputs, outputs)
        else:
            status = apart(w, inputs, outputs)
            if status == CNNE_OK:
                status = run_native(w, inputs, outputs)
    handle_drop(workspace)
    return status


cdef int cnne_stop(cnne_workspace workspace) noexcept nogil:
    return CNNE_OK if handle_stop(workspace, WORKSPACE) else bad_handle(0)


cdef const char *cnne_last_error() noexcept nogil:
    return error_get()


cdef const char *cnne_status_name(int status) noexcept nogil:
    if status == CNNE_OK: return "ok"
    if status == CNNE_ERROR_ARGUMENT: return "bad argument"
    if status == CNNE_ERROR_HANDLE: return "bad handle"
    if status == CNNE_ERROR_NOT_FOUND: return "not found"
    if status == CNNE_ERROR_MODEL: return "bad model"
    if status == CNNE_ERROR_UNSUPPORTED: return "unsupported operator"
    if status == CNNE_ERROR_SHAPE: return "wrong shape"
    if status == CNNE_ERROR_DTYPE: return "wrong element type"
    if status == CNNE_ERROR_MEMORY: return "no memory"
    if status == CNNE_ERROR_BUSY: return "busy"
    if status == CNNE_ERROR_NEEDS_PYTHON: return "needs Python"
    if status == CNNE_ERROR_INPUT: return "bad input"
    if status == CNNE_ERROR_INTERNAL: return "internal error"
    if status == CNNE_ERROR_STOPPED: return "stopped"
    return "unknown"


cdef cnne_api_table table
memset(&table, 0, sizeof(table))
table.version = CNNE_API_VERSION
table.size = sizeof(table)
table.load = cnne_load
table.load_memory = cnne_load_memory
table.model_free = cnne_model_free
table.input_count = cnne_input_count
table.output_count = cnne_output_count
table.input_info = cnne_input_info
table.output_info = cnne_output_info
table.workspace_new = cnne_workspace_new
table.workspace_free = cnne_workspace_free
table.workspace_output = cnne_workspace_output
table.run = cnne_run
table.last_error = cnne_last_error
table.status_name = cnne_status_name
table.stop = cnne_stop
_C_API = PyCapsule_New(&table, CNNE_CAPSULE, NULL)
