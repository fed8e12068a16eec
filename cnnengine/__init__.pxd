# `cimport cnnengine` gives the C interface; needs cnnengine.get_include() among the include folders.
from cnnengine.capi cimport *
