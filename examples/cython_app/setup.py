"""python setup.py build_ext --inplace"""

from Cython.Build import cythonize
from setuptools import Extension, setup

import cnnengine

setup(name="app", ext_modules=cythonize([Extension("app", ["app.pyx"], include_dirs=[cnnengine.get_include()])]))
