from cnnengine._kernels.table cimport KernelTable

cdef extern from "build_tag.h" nogil:
    const char *CNNENGINE_LAYOUT

# The table in use; raises ImportError where the module that asks was compiled with other declarations than the dispatcher.
cdef const KernelTable *table_for(const char *layout) except NULL

cdef inline const KernelTable *current_table() except NULL:
    return table_for(CNNENGINE_LAYOUT)
