/* cnnengine's C interface, version 1: load an ONNX model, make a workspace for the shapes of its inputs, run it on buffers of
 * yours. C99 and C++.
 *
 * In an extension module:
 *
 *     #include <Python.h>                          // first, as always; cnnengine.h includes it where it was not
 *     #include <cnnengine.h>
 *     if (cnne_import() < 0) return NULL;          // once per source file that calls cnne_ functions, with the GIL
 *
 * In a program without Python of its own, see cnnengine_embed.h. The functions may be called from any thread, with or without
 * the GIL: those marked [G] take it inside and give it back, the others never touch it. Every function returns a status
 * (CNNE_OK is 0) and leaves its results alone when that is not CNNE_OK; cnne_last_error() then tells more. Handles are numbers:
 * a closed, forged or zero handle gives CNNE_ERROR_HANDLE, not a crash. docs/embedding.md has lifetimes and threads in one table.
 */
#ifndef CNNENGINE_H
#define CNNENGINE_H
/* cnne_import needs Python.h, which may come after this file or not at all; without Python's headers there are types alone. */
#if !defined(Py_PYTHON_H) && defined(__has_include)
#if __has_include(<Python.h>)
#ifndef PY_SSIZE_T_CLEAN
#define PY_SSIZE_T_CLEAN
#endif
#include <Python.h>
#endif
#endif
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CNNE_API_VERSION 1
#define CNNE_MAX_RANK 8
#define CNNE_CAPSULE "cnnengine.capi._C_API"

typedef uint64_t cnne_model;        /* 0 is none */
typedef uint64_t cnne_workspace;

enum {
    CNNE_OK = 0,
    CNNE_ERROR_ARGUMENT = 1,        /* a null pointer, an index, count or flag that cannot be */
    CNNE_ERROR_HANDLE = 2,          /* not a model or workspace, or closed */
    CNNE_ERROR_NOT_FOUND = 3,       /* no such file */
    CNNE_ERROR_MODEL = 4,           /* not a valid model */
    CNNE_ERROR_UNSUPPORTED = 5,     /* an operator that cannot be run */
    CNNE_ERROR_SHAPE = 6,           /* extents do not fit */
    CNNE_ERROR_DTYPE = 7,           /* element types do not fit */
    CNNE_ERROR_MEMORY = 8,
    CNNE_ERROR_BUSY = 9,            /* another thread runs this workspace */
    CNNE_ERROR_NEEDS_PYTHON = 10,   /* the model has nodes that run in Python; see CNNE_ALLOW_PYTHON */
    CNNE_ERROR_INPUT = 11,          /* values that the model cannot take, as an index out of range */
    CNNE_ERROR_INTERNAL = 12,
    CNNE_ERROR_STOPPED = 13         /* cnne_stop ended the run; what its outputs hold is no result */
};

/* Element types, by ONNX's numbers. */
enum {
    CNNE_FLOAT32 = 1, CNNE_UINT8 = 2, CNNE_INT8 = 3, CNNE_UINT16 = 4, CNNE_INT16 = 5, CNNE_INT32 = 6, CNNE_INT64 = 7,
    CNNE_BOOL = 9, CNNE_FLOAT16 = 10, CNNE_FLOAT64 = 11, CNNE_UINT32 = 12, CNNE_UINT64 = 13
};

/* Flags of cnne_options and of cnne_workspace_new. */
enum {
    CNNE_ALLOW_PYTHON = 1,          /* workspace: nodes without a compiled kernel may take the GIL during cnne_run */
    CNNE_NO_WINOGRAD = 2            /* load: 3x3 convolutions by the direct algorithm alone */
};

typedef struct cnne_options {
    uint32_t size;                  /* sizeof(cnne_options): later versions have more fields */
    uint32_t flags;
    int32_t threads;                /* of one run, 256 at most; 0: as the environment says (docs/threads.md) */
} cnne_options;

typedef struct cnne_info {
    const char *name;               /* lives as long as the model, or the workspace that it was asked of */
    int32_t dtype;
    int32_t rank;                   /* -1: not known */
    int64_t dims[CNNE_MAX_RANK];    /* -1: dynamic */
} cnne_info;

typedef struct cnne_tensor {
    void *data;                     /* inputs are not written; NULL only where there are no elements */
    int32_t dtype;
    int32_t rank;
    const int64_t *dims;
    const int64_t *strides;         /* in bytes; NULL: C order without gaps. Then, and aligned to its elements, nothing is copied */
} cnne_tensor;

typedef struct cnne_api_table {
    uint32_t version, size;         /* CNNE_API_VERSION; sizeof(cnne_api_table) */
    int (*load)(const char *path, const cnne_options *options, cnne_model *model);
    int (*load_memory)(const void *data, size_t size, const cnne_options *options, cnne_model *model);
    int (*model_free)(cnne_model model);
    int (*input_count)(cnne_model model, int32_t *count);
    int (*output_count)(cnne_model model, int32_t *count);
    int (*input_info)(cnne_model model, int32_t index, cnne_info *info);
    int (*output_info)(cnne_model model, int32_t index, cnne_info *info);
    int (*workspace_new)(cnne_model model, const cnne_tensor *inputs, int32_t count, uint32_t flags, cnne_workspace *workspace);
    int (*workspace_free)(cnne_workspace workspace);
    int (*workspace_output)(cnne_workspace workspace, int32_t index, cnne_info *info);
    int (*run)(cnne_workspace workspace, const cnne_tensor *inputs, int32_t n_inputs, const cnne_tensor *outputs, int32_t n_outputs);
    const char *(*last_error)(void);
    const char *(*status_name)(int status);
    int (*stop)(cnne_workspace workspace);
} cnne_api_table;

static const cnne_api_table *cnne_api_ = NULL;

#ifdef __GNUC__
#define CNNE_INLINE static inline __attribute__((unused))
#else
#define CNNE_INLINE static inline
#endif
#define CNNE_CALL_(f, args) (cnne_api_ ? cnne_api_->f args : CNNE_ERROR_INTERNAL)

/* [G] Load from a file; from memory (copied). options may be NULL. */
CNNE_INLINE int cnne_load(const char *path, const cnne_options *options, cnne_model *model)
{
    return CNNE_CALL_(load, (path, options, model));
}
CNNE_INLINE int cnne_load_memory(const void *data, size_t size, const cnne_options *options, cnne_model *model)
{
    return CNNE_CALL_(load_memory, (data, size, options, model));
}
/* [G] Close the handle. Workspaces made from the model go on working. */
CNNE_INLINE int cnne_model_free(cnne_model model) { return CNNE_CALL_(model_free, (model)); }

CNNE_INLINE int cnne_input_count(cnne_model model, int32_t *count) { return CNNE_CALL_(input_count, (model, count)); }
CNNE_INLINE int cnne_output_count(cnne_model model, int32_t *count) { return CNNE_CALL_(output_count, (model, count)); }
/* What the file declares: dynamic extents are -1. */
CNNE_INLINE int cnne_input_info(cnne_model model, int32_t index, cnne_info *info)
{
    return CNNE_CALL_(input_info, (model, index, info));
}
CNNE_INLINE int cnne_output_info(cnne_model model, int32_t index, cnne_info *info)
{
    return CNNE_CALL_(output_info, (model, index, info));
}

/* [G] Plan for these input shapes (data may be NULL), in the order of the model's inputs, and get the memory of one running call.
 * inputs NULL and count 0: the shapes of the file, a dynamic first axis being 1. */
CNNE_INLINE int cnne_workspace_new(cnne_model model, const cnne_tensor *inputs, int32_t count, uint32_t flags,
                                   cnne_workspace *workspace)
{
    return CNNE_CALL_(workspace_new, (model, inputs, count, flags, workspace));
}
/* [G] CNNE_ERROR_BUSY while another thread runs it. */
CNNE_INLINE int cnne_workspace_free(cnne_workspace workspace) { return CNNE_CALL_(workspace_free, (workspace)); }
/* Concrete extents of an output for the workspace's shapes; -1 where they depend on the data (CNNE_ALLOW_PYTHON alone). */
CNNE_INLINE int cnne_workspace_output(cnne_workspace workspace, int32_t index, cnne_info *info)
{
    return CNNE_CALL_(workspace_output, (workspace, index, info));
}
/* Run on the caller's buffers: never takes the GIL, allocates nothing after the first run, unless the workspace was made with
 * CNNE_ALLOW_PYTHON for a model that needs it. An output whose data is NULL is not given. An input that an output overlaps is copied
 * first, so a model may be run in place; outputs must not overlap one another. */
CNNE_INLINE int cnne_run(cnne_workspace workspace, const cnne_tensor *inputs, int32_t n_inputs, const cnne_tensor *outputs,
                         int32_t n_outputs)
{
    return CNNE_CALL_(run, (workspace, inputs, n_inputs, outputs, n_outputs));
}
/* End the run that is under way in a workspace, from another thread: it gives CNNE_ERROR_STOPPED at its next
 * step, and the workspace may be run again. Without effect where no run is under way. Not for signal handlers: it takes a lock. */
CNNE_INLINE int cnne_stop(cnne_workspace workspace) { return CNNE_CALL_(stop, (workspace)); }
/* Of this thread's last call that failed; never NULL, valid until its next call. */
CNNE_INLINE const char *cnne_last_error(void) { return cnne_api_ ? cnne_api_->last_error() : "cnne_import() was not called"; }
CNNE_INLINE const char *cnne_status_name(int status) { return cnne_api_ ? cnne_api_->status_name(status) : "unknown"; }

#ifdef Py_PYTHON_H
/* Find the functions: 0, or -1 with a Python exception. Needs the GIL. */
CNNE_INLINE int cnne_import(void)
{
    const cnne_api_table *table;
    PyObject *module = PyImport_ImportModule("cnnengine.capi");
    if (module == NULL)
        return -1;
    Py_DECREF(module);
    table = (const cnne_api_table *)PyCapsule_Import(CNNE_CAPSULE, 0);
    if (table == NULL)
        return -1;
    if (table->version != CNNE_API_VERSION || table->size < sizeof(cnne_api_table)) {
        PyErr_Format(PyExc_ImportError, "cnnengine has version %u of its C interface, compiled for %u", (unsigned)table->version,
                     (unsigned)CNNE_API_VERSION);
        return -1;
    }
    cnne_api_ = table;
    return 0;
}
#endif

#ifdef __cplusplus
}
#endif
#endif
