"""PyInstaller's hook: modules that are found by their names while a program runs, and those that compiled modules import.

The command line and `bench` are left out unless the program imports them: `bench` names other engines, which would be frozen too.
"""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

LEFT_OUT = ("cnnengine.__pyinstaller", "cnnengine.__main__", "cnnengine.backend", "cnnengine.bench", "cnnengine.cli")

hiddenimports = collect_submodules("cnnengine", filter=lambda name: not name.startswith(LEFT_OUT))
try:
    datas = copy_metadata("cnnengine")  # cnnengine.__version__
except Exception:  # run from a source tree
    datas = []
datas += collect_data_files("cnnengine.view")  # the files of its page
