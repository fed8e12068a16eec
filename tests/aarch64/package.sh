#!/usr/bin/env bash
# Cross-compiles the whole package for aarch64 Linux and runs it under qemu-user, with an arm64 Python made of Debian's packages.
#
#   tests/aarch64/package.sh                builds, then: every model, the C examples, a core of the tests on two processors
#   tests/aarch64/package.sh build          the wheel alone: build/aarch64/wheel/*.whl
#   tests/aarch64/package.sh python ...     that Python, with the package in it; QEMU_CPU chooses the processor (qemu-aarch64 -cpu help)
#   tests/aarch64/package.sh test ...       pytest with these arguments
#
# Needs Debian or Ubuntu with gcc-aarch64-linux-gnu, qemu-user-static (or qemu-user) and mmdebstrap, a package index, and a $PYTHON of
# the minor version that the chosen release of Debian has (SUITE). ccache is used where it is installed. Nothing outside of
# build/aarch64 is changed, and no root is needed.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
HERE=$PWD/build/aarch64
ROOT=$HERE/root
mkdir -p "$HERE"

fail() {
    echo "$1" >&2
    exit 2
}
VERSION=$("$PYTHON" -c "import sysconfig; print(sysconfig.get_python_version())")
case $VERSION in
    3.11) SUITE=${SUITE:-bookworm} ;;
    3.13) SUITE=${SUITE:-trixie} ;;
    *) SUITE=${SUITE:-} ;;
esac
[ -n "$SUITE" ] || fail "no release of Debian is known here that has Python $VERSION: set PYTHON to a python3.11 or python3.13, or SUITE"
QEMU=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
for tool in aarch64-linux-gnu-gcc mmdebstrap "${QEMU:-qemu-aarch64}"; do
    command -v "$tool" >/dev/null || fail "$tool is missing; on Debian: apt-get install gcc-aarch64-linux-gnu qemu-user-static mmdebstrap"
done

# An arm64 Python and what it and programs that embed it are linked with: unpacked, never installed. In the place of the program
# stands a script of this machine, so that processes which tests start by sys.executable are emulated, too.
make_root() {
    [ -e "$ROOT/usr/bin/python$VERSION.real" ] && return
    rm -rf "$ROOT"
    mmdebstrap --quiet --architectures=arm64 --variant=extract --include="python$VERSION,libpython$VERSION-dev,libgomp1,libstdc++6" \
        "$SUITE" "$ROOT"
    mv "$ROOT/usr/bin/python$VERSION" "$ROOT/usr/bin/python$VERSION.real"
    cat >"$ROOT/usr/bin/python$VERSION" <<SCRIPT
#!/bin/sh
export QEMU_LD_PREFIX="$ROOT" QEMU_CPU="\${QEMU_CPU-max,sve=off}" PYTHONPATH="\${PYTHONPATH-$HERE/package:$HERE/site}"
exec "$QEMU" -0 "\$0" "\$0.real" "\$@"
SCRIPT
    chmod +x "$ROOT/usr/bin/python$VERSION"
}
ARM_PYTHON=$ROOT/usr/bin/python$VERSION

# NumPy and what the tests use, from their wheels for aarch64.
make_site() {
    [ -d "$HERE/site/numpy" ] && return
    rm -rf "$HERE/site"
    local platforms=()
    for glibc in 17 24 26 27 28 31 34; do
        platforms+=(--platform "manylinux_2_${glibc}_aarch64")
    done
    "$PYTHON" -m pip install --quiet --target "$HERE/site" "${platforms[@]}" --platform manylinux2014_aarch64 --python-version "$VERSION" \
        --implementation cp --only-binary=:all: numpy onnx pytest hypothesis pillow 'setuptools>=77' 'cython>=3.3,<3.4'
}

# What tells Python's build tools of another machine: its configuration, as CPython's own cross builds have it.
cross() {
    mkdir -p "$HERE/config" "$HERE/include"
    cp "$ROOT/usr/lib/python$VERSION/_sysconfigdata__aarch64-linux-gnu.py" "$HERE/config/"
    ln -sfn "$ROOT/usr/include/aarch64-linux-gnu" "$HERE/include/aarch64-linux-gnu"
    local compiler=aarch64-linux-gnu-gcc
    if command -v ccache >/dev/null; then
        compiler="ccache $compiler"
    fi
    env _PYTHON_HOST_PLATFORM=linux-aarch64 _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__aarch64-linux-gnu PYTHONPATH="$HERE/config" \
        CC="$compiler" CPPFLAGS="-I$ROOT/usr/include/python$VERSION -I$HERE/include" "$@"
}

build() {
    make_root
    local python=$PYTHON
    if ! "$PYTHON" -c "import Cython, setuptools" 2>/dev/null; then
        "$PYTHON" -m venv "$HERE/venv"
        "$HERE/venv/bin/pip" install --quiet 'cython>=3.3,<3.4' 'setuptools>=77'
        python=$HERE/venv/bin/python
    fi
    rm -rf "$HERE/wheel" "$HERE/package"
    cross "$python" setup.py --quiet build bdist_wheel --dist-dir "$HERE/wheel" >"$HERE/build.log" 2>&1 || {
        tail -40 "$HERE/build.log" >&2
        fail "the package does not build for aarch64: $HERE/build.log"
    }
    "$PYTHON" -m zipfile -e "$HERE"/wheel/*.whl "$HERE/package"
    ls -l "$HERE"/wheel/*.whl
}

# Modules that tests compile are compiled for aarch64, too.
run_tests() {
    CC=aarch64-linux-gnu-gcc CPPFLAGS="-I$ROOT/usr/include/python$VERSION -I$HERE/include" \
        "$ARM_PYTHON" -P -m pytest -p no:cacheprovider -q "$@"
}

# The programs of examples/c_embed, whose interpreter is the arm64 one: every sample must get its number.
embedding() {
    mkdir -p "$HERE/c_embed"
    local source flags=(-std=gnu11 -O2 -Wall -Wextra -Werror "-I$ROOT/usr/include/python$VERSION" "-I$HERE/include"
        "-I$HERE/package/cnnengine/include" -Wl,--allow-shlib-undefined)
    local library=$ROOT/usr/lib/aarch64-linux-gnu/libpython$VERSION.so
    for source in classify call_time; do
        aarch64-linux-gnu-gcc "${flags[@]}" "examples/c_embed/$source.c" -o "$HERE/c_embed/$source" "$library" -lm -lpthread
    done
    local found
    export QEMU_LD_PREFIX=$ROOT CNNENGINE_PYTHON=$ARM_PYTHON PYTHONPATH=$HERE/package:$HERE/site
    "$ARM_PYTHON" -P - "$HERE/c_embed" <<'PY'
import runpy, sys

folder = sys.argv[1]
for digit in range(10):
    sys.argv[1:] = ["models/digits_lenet.onnx", f"models/samples/{digit}.png", f"{folder}/{digit}.f32"]
    runpy.run_path("examples/c_embed/raw_image.py", run_name="__main__")
PY
    found=$("$QEMU" "$HERE/c_embed/classify" models/digits_lenet.onnx 2 "$HERE"/c_embed/[0-9].f32 | awk '{ printf "%s", $(NF - 1) }')
    [ "$found" = 0123456789 ] || fail "classify says $found of the samples of 0 to 9"
    "$QEMU" "$HERE/c_embed/call_time" models/digits_lenet.onnx 3
    unset QEMU_LD_PREFIX CNNENGINE_PYTHON PYTHONPATH
    echo "c_embed: every sample has its number"
}

# Kernels of quantised numbers, which choose their instructions most finely; products, convolutions, the team, the models.
TESTS=${AARCH64_TESTS:-tests/kernels/test_qconv.py tests/kernels/test_qdense.py tests/kernels/test_qpool.py tests/kernels/test_qvector.py
    tests/kernels/test_qdepthwise.py tests/kernels/test_half.py tests/kernels/test_pack.py tests/kernels/test_front.py tests/kernels/test_norm.py
    tests/runtime/test_runner.py tests/runtime/test_threads.py tests/networks/test_models.py}

case ${1:-} in
    build) build ;;
    python)
        shift
        exec "$ARM_PYTHON" -P "$@"
        ;;
    test)
        shift
        make_site
        run_tests "$@"
        ;;
    "")
        build
        make_site
        # what each processor says that it has
        for pair in cortex-a53:neon neoverse-n1:neondot max,sve=off:neonbf16; do
            found=$(QEMU_CPU=${pair%:*} "$ARM_PYTHON" -P -c 'import cnnengine; print(cnnengine.show_config()["isa"])')
            echo "${pair%:*}: $found"
            [ "$found" = "${pair#*:}" ] || fail "${pair%:*} has ${pair#*:}"
        done
        embedding
        # shellcheck disable=SC2086
        run_tests $TESTS ${PYTEST_ARGS:-}
        QEMU_CPU=cortex-a53 run_tests tests/networks/test_models.py ${PYTEST_ARGS:-}
        ;;
    *) fail "build, python, test, or nothing; not $1" ;;
esac
