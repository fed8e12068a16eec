# Pooling tiles of one instruction set: pointers only.

cdef struct PoolTiles:
    int lanes
