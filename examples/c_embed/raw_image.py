"""raw_image.py MODEL IMAGE OUT: an image as the raw float32 array that the model reads."""

import sys

import cnnengine

if len(sys.argv) != 4:
    sys.exit(__doc__)
with cnnengine.load(sys.argv[1]) as model:
    model.preprocess(sys.argv[2]).tofile(sys.argv[3])
