# Tiles of quantised numbers, but for products: pointers only.

cdef struct QVectorTiles:
    int lanes
