# Data-movement tiles of one instruction set: pointers only.

cdef struct MoveTiles:
    int lanes
