"""python setup.py build_ext --inplace"""

from setuptools import Extension, setup

import cnnengine

setup(name="digits", ext_modules=[Extension("digits", ["digits.c"], include_dirs=[cnnengine.get_include()])])
