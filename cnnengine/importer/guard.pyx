# cython: language_level=3
"""Guard and Watch: reads of mapped files that do not end the process when the file is cut short meanwhile (`guard.h` says how)."""

cdef extern from "guard.h" nogil:
    ctypedef struct watched:
        pass
    int guard_enter()
    void guard_leave(int blocked)
    watched *guard_watch(const void *data, size_t size)
    void guard_forget(watched *w)
    int guard_lost(const watched *w)
    void guard_begin()

guard_begin()


cdef class Guard:
    """Context in which pages of watched mappings that cannot be read are zeros; left by the thread that entered it."""

    cdef int blocked

    def __enter__(self):
        self.blocked = guard_enter()
        return self

    def __exit__(self, kind, value, trace):
        guard_leave(self.blocked)
        return False


cdef class Watch:
    """Tells whether zeros took the place of a mapping's pages; it must live until just before the mapping ends.

    Parameters
    ----------
    data : mmap
        Of at least one byte.
    """

    cdef watched *entry

    def __cinit__(self, const unsigned char[::1] data not None):
        self.entry = guard_watch(&data[0], data.shape[0])
        if self.entry is NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.entry is not NULL:
            guard_forget(self.entry)

    @property
    def lost(self):
        return guard_lost(self.entry) != 0
