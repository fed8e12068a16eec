/* What the compiled modules of one build have in common: setup.py defines these by the declarations that they share (.pxd), so
 * that modules of different builds are told apart before one reads another's structs. */
#ifndef CNNENGINE_BUILD_TAG_H
#define CNNENGINE_BUILD_TAG_H
#ifndef CNNENGINE_LAYOUT
#define CNNENGINE_LAYOUT "unknown"      /* of all declarations of _kernels */
#endif
#ifndef CNNENGINE_FAMILIES
#define CNNENGINE_FAMILIES ""           /* dispatch alone: the names that it expects of the tile modules' capsules */
#endif
#ifndef CNNENGINE_CAPSULE
#define CNNENGINE_CAPSULE "unknown"     /* tile modules alone: the name of the capsule */
#endif
#endif
