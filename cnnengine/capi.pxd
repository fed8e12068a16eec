# cnnengine for Cython: `from cnnengine.capi cimport cnne_load, cnne_run, ...` (or `cimport cnnengine`), the functions of
# cnnengine/include/cnnengine.h, which documents them. Version 1 of the interface: CNNE_API_VERSION.
#
# No function raises; each gives a status, CNNE_OK being 0. None of them holds the GIL while kernels run.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from "cnnengine.h" nogil:
    enum:
        CNNE_API_VERSION
        CNNE_MAX_RANK
        CNNE_OK, CNNE_ERROR_ARGUMENT, CNNE_ERROR_HANDLE, CNNE_ERROR_NOT_FOUND, CNNE_ERROR_MODEL, CNNE_ERROR_UNSUPPORTED
        CNNE_ERROR_SHAPE, CNNE_ERROR_DTYPE, CNNE_ERROR_MEMORY, CNNE_ERROR_BUSY, CNNE_ERROR_NEEDS_PYTHON, CNNE_ERROR_INPUT
        CNNE_ERROR_INTERNAL, CNNE_ERROR_STOPPED
        CNNE_FLOAT32, CNNE_UINT8, CNNE_INT8, CNNE_UINT16, CNNE_INT16, CNNE_INT32, CNNE_INT64, CNNE_BOOL, CNNE_FLOAT16
        CNNE_FLOAT64, CNNE_UINT32, CNNE_UINT64
        CNNE_ALLOW_PYTHON, CNNE_NO_WINOGRAD
    ctypedef uint64_t cnne_model
    ctypedef uint64_t cnne_workspace
    ctypedef struct cnne_options:
        uint32_t size
        uint32_t flags
        int32_t threads
    ctypedef struct cnne_info:
        const char *name
        int32_t dtype
        int32_t rank
        int64_t dims[8]
    ctypedef struct cnne_tensor:
        void *data
        int32_t dtype
        int32_t rank
        const int64_t *dims
        const int64_t *strides

cdef int cnne_load(const char *path, const cnne_options *options, cnne_model *model) noexcept nogil
cdef int cnne_load_memory(const void *data, size_t size, const cnne_options *options, cnne_model *model) noexcept nogil
cdef int cnne_model_free(cnne_model model) noexcept nogil
cdef int cnne_input_count(cnne_model model, int32_t *count) noexcept nogil
cdef int cnne_output_count(cnne_model model, int32_t *count) noexcept nogil
cdef int cnne_input_info(cnne_model model, int32_t index, cnne_info *info) noexcept nogil
cdef int cnne_output_info(cnne_model model, int32_t index, cnne_info *info) noexcept nogil
cdef int cnne_workspace_new(cnne_model model, const cnne_tensor *inputs, int32_t count, uint32_t flags,
                            cnne_workspace *workspace) noexcept nogil
cdef int cnne_workspace_free(cnne_workspace workspace) noexcept nogil
cdef int cnne_workspace_output(cnne_workspace workspace, int32_t index, cnne_info *info) noexcept nogil
cdef int cnne_run(cnne_workspace workspace, const cnne_tensor *inputs, int32_t n_inputs, const cnne_tensor *outputs,
                  int32_t n_outputs) noexcept nogil
cdef int cnne_stop(cnne_workspace workspace) noexcept nogil
cdef const char *cnne_last_error() noexcept nogil
cdef const char *cnne_status_name(int status) noexcept nogil
