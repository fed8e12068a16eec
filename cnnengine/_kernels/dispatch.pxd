from cnnengine._kernels.table cimport KernelTable

cdef const KernelTable *current_table() noexcept
