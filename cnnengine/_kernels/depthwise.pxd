from cnnengine._kernels.table cimport KernelTable
from cnnengine._kernels.tiles.conv cimport depthwise_rows_fn

cdef depthwise_rows_fn depthwise_tile_of(const KernelTable *table, object taps, Py_ssize_t stride) except *
