# cython: language_level=3
"""A loop in Cython that classifies images without the GIL: the model is run from typed code, with no Python object in between."""

from libc.stdint cimport int64_t

from cnnengine.capi cimport (
    CNNE_FLOAT32, CNNE_OK, cnne_info, cnne_input_info, cnne_last_error, cnne_load, cnne_model, cnne_model_free, cnne_options, cnne_run,
    cnne_tensor, cnne_workspace, cnne_workspace_free, cnne_workspace_new, cnne_workspace_output
)


cdef int classify_all(cnne_workspace workspace, const float[:, ::1] images, const cnne_info *input, const cnne_info *output,
                      float[:, ::1] scores, int64_t[::1] classes) noexcept nogil:
    cdef cnne_tensor x, y
    cdef Py_ssize_t i, k
    cdef int status
    x.dtype, x.rank, x.strides = input.dtype, input.rank, NULL
    x.dims = input.dims                 # on lines of their own: a tuple would go through a pointer that is not const
    y.dtype, y.rank, y.strides = output.dtype, output.rank, NULL
    y.dims = output.dims
    for i in range(images.shape[0]):
        x.data = <void *>&images[i, 0]
        y.data = &scores[i, 0]
        status = cnne_run(workspace, &x, 1, &y, 1)
        if status != CNNE_OK:
            return status
        classes[i] = 0
        for k in range(1, scores.shape[1]):
            if scores[i, k] > scores[i, classes[i]]:
                classes[i] = k
    return CNNE_OK


def classify(str path, images):
    """(scores, classes) of images (n, ...) of float32, one at a time."""
    import numpy as np

    cdef cnne_options options
    cdef cnne_model model
    cdef cnne_workspace workspace
    cdef cnne_info input, output
    cdef int status
    options.size, options.flags, options.threads = sizeof(cnne_options), 0, 1
    if cnne_load(path.encode(), &options, &model) != CNNE_OK:
        raise RuntimeError(cnne_last_error().decode())
    try:
        if cnne_workspace_new(model, NULL, 0, 0, &workspace) != CNNE_OK:
            raise RuntimeError(cnne_last_error().decode())
        cnne_input_info(model, 0, &input)
        cnne_workspace_output(workspace, 0, &output)
        input.dims[0] = 1
        flat = np.ascontiguousarray(images, np.float32).reshape(len(images), -1)
        size = int(np.prod([input.dims[i] for i in range(input.rank)]))
        if input.dtype != CNNE_FLOAT32 or output.rank != 2 or flat.shape[1] != size:
            raise ValueError(f"images of {size} float32 numbers are wanted")
        scores = np.empty((len(flat), output.dims[1]), np.float32)
        classes = np.empty(len(flat), np.int64)
        status = run(workspace, flat, &input, &output, scores, classes)
        if status != CNNE_OK:
            raise RuntimeError(cnne_last_error().decode())
        cnne_workspace_free(workspace)
        return scores, classes
    finally:
        cnne_model_free(model)


cdef int run(cnne_workspace workspace, const float[:, ::1] images, const cnne_info *input, const cnne_info *output, float[:, ::1] scores,
             int64_t[::1] classes) noexcept:
    with nogil:
        return classify_all(workspace, images, input, output, scores, classes)
