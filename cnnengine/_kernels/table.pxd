# KernelTable: what one instruction set offers. Each tile family has a struct of function pointers in its own .pxd; the
# dispatcher fills a table per instruction set from the capsules of its tile modules. Geometry structs hold the table
# that they were built for, so that a plan keeps working on the instruction set that it was made for.

from cnnengine._kernels.tiles.bconv cimport BConvTiles
from cnnengine._kernels.tiles.conv cimport ConvTiles
from cnnengine._kernels.tiles.half cimport HalfTiles
from cnnengine._kernels.tiles.image cimport ImageTiles
from cnnengine._kernels.tiles.move cimport MoveTiles
from cnnengine._kernels.tiles.norm cimport NormTiles
from cnnengine._kernels.tiles.pool cimport PoolTiles
from cnnengine._kernels.tiles.qconv cimport QConvTiles
from cnnengine._kernels.tiles.qdense cimport QDenseTiles
from cnnengine._kernels.tiles.qpool cimport QPoolTiles
from cnnengine._kernels.tiles.qvector cimport QVectorTiles
from cnnengine._kernels.tiles.recurrent cimport RecurrentTiles
from cnnengine._kernels.tiles.vector cimport VectorTiles
from cnnengine._kernels.tiles.winograd cimport WinogradTiles

# Activations that kernels name, at hand here too.
from cnnengine._kernels.tiles.vector cimport ACT_AFFINE, ACT_CLIP, ACT_NONE, ACT_SIGMOID, ACT_TANH

cdef struct KernelTable:
    int lanes
    char name[16]
    ConvTiles conv
    WinogradTiles winograd
    PoolTiles pool
    VectorTiles vector
    MoveTiles move
    NormTiles norm
    RecurrentTiles recurrent
    ImageTiles image
    HalfTiles half
    QVectorTiles qvector
    QConvTiles qconv
    BConvTiles bconv                    # of zeros where the instruction set has no such products
    QPoolTiles qpool
    QDenseTiles qdense
