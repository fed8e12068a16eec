#!/usr/bin/env bash
# Compiles the tiles for another instruction set and runs each of them against naive C (driver.c).
#
#   tests/aarch64/run.sh            aarch64 NEON: cross-compiled, run under qemu-user
#   tests/aarch64/run.sh native     every instruction set of this CPU, as a check of the driver itself
#
# Needs Python 3.11 or newer with its headers, and for aarch64 a cross compiler and an emulator (Debian: gcc-aarch64-linux-gnu
# qemu-user or qemu-user-static). CC and RUN replace them; FAMILIES="qconv qdense" is a part of the tiles. Without Cython in $PYTHON a virtual environment is made under build/.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
BUILD=build/aarch64
mkdir -p "$BUILD"

if [ "${1:-}" = native ]; then
    CC=${CC:-gcc}
    RUN=${RUN:-}
    names=$("$PYTHON" -c "import platform; print('neon neondot neonbf16' if platform.machine() in ('aarch64', 'arm64') else 'sse2 avx2 avx512')")
else
    CC=${CC:-aarch64-linux-gnu-gcc}
    RUN=${RUN-$(command -v qemu-aarch64-static || echo qemu-aarch64)}
    names="neon neondot neonbf16"
fi
for tool in $CC ${RUN:-true}; do
    if [[ $tool != -* ]] && ! command -v "$tool" >/dev/null; then
        echo "$tool is missing; on Debian: apt-get install gcc-aarch64-linux-gnu qemu-user" >&2
        exit 2
    fi
done

if ! "$PYTHON" -c "import Cython, setuptools" 2>/dev/null; then
    "$PYTHON" -m venv "$BUILD/venv"
    "$BUILD/venv/bin/pip" install --quiet 'cython>=3.1' setuptools
    PYTHON=$BUILD/venv/bin/python
fi

# C of the tile modules, and flags, as setup.py has them. pyconfig.h of this machine serves aarch64 Linux: both are LP64.
"$PYTHON" - "$BUILD" "$CC" <<'PY'
import pathlib, shutil, subprocess, sys, sysconfig

from Cython.Build import cythonize
from setuptools import Extension

sys.path.insert(0, ".")
import setup

build, compiler = pathlib.Path(sys.argv[1]), sys.argv[2].split()
modules = [Extension(f"cnnengine._kernels.tiles.{t}", [f"cnnengine/_kernels/tiles/{t}.pyx"]) for t in setup.TILES]
cythonize(modules, compiler_directives=setup.DIRECTIVES, build_dir=str(build / "cython"), quiet=True)


def taken(flag):
    command = [*compiler, "-Werror", flag, "-x", "c", "-c", "/dev/null", "-o", "/dev/null"]
    return subprocess.run(command, capture_output=True).returncode == 0


common = [f for f in (*setup.COMMON, *setup.TILE_FLAGS) if taken(f)]
(build / "quantised.flags").write_text("\n".join([*setup.EXACT_FLAGS, ""]))
dots = {name: [*{**setup.X86, **setup.ARM}[base], *flags] for name, (base, flags) in {**setup.DOT, **setup.PAIRED}.items()}
# the families that an instruction set has tiles of
for name in (*setup.X86, *setup.ARM, *dots):
    own = setup.PAIRS if name in setup.PAIRED else setup.DOTTED if name in setup.DOT else sorted({*setup.TILES} - {*setup.PAIRS})
    (build / f"{name}.families").write_text("\n".join([*own, ""]))
for name, flags in {**setup.X86, **setup.ARM, **dots}.items():
    (build / f"{name}.flags").write_text("\n".join([*common, *flags, ""]))
# Debian's pyconfig.h looks for one of the target architecture
config = pathlib.Path(sysconfig.get_config_h_filename())
if "multiarch" in config.read_text()[:2000].lower():
    config = pathlib.Path("/usr/include", sysconfig.get_config_var("MULTIARCH") or "", f"python{sysconfig.get_python_version()}", "pyconfig.h")
shim = build / "include" / "aarch64-linux-gnu" / f"python{sysconfig.get_python_version()}"
shim.mkdir(parents=True, exist_ok=True)
shutil.copy(config, shim / "pyconfig.h")
(build / "python.flags").write_text("\n".join(["-I" + sysconfig.get_path("include"), f"-I{build}/include", "-Icnnengine/_kernels", ""]))
PY

status=0
for name in $names; do
    case $name in
        avx512) needed=avx512f ;;
        neondot) needed=asimddp ;;
        neonbf16) needed=bf16 ;;
        *) needed=$name ;;
    esac
    if [ "$name" != neon ] && [ -z "$RUN" ] && ! grep -qw "$needed" /proc/cpuinfo; then
        echo "$name: this CPU lacks it"
        continue
    fi
    for source in "$BUILD"/cython/cnnengine/_kernels/tiles/*.c; do
        family=$(basename "$source" .c)
        if [ -n "${FAMILIES:-}" ] && [[ " $FAMILIES " != *" $family "* ]]; then
            continue
        fi
        if ! grep -qx "$family" "$BUILD/$name.families"; then
            continue
        fi
        if ! grep -q "FAMILY_$family" tests/aarch64/driver.c; then
            echo "$family: driver.c has no section for this family" >&2
            status=1
            continue
        fi
        exact=$([[ $family == q* ]] && echo "$BUILD/quantised.flags" || true)
        # shellcheck disable=SC2046,SC2086
        $CC $(cat "$BUILD/$name.flags" "$BUILD/python.flags" $exact) -w "-DCYTHON_INLINE=inline __attribute__((always_inline))" \
            "-DFAMILY_$family" "-DSOURCE=\"$PWD/$source\"" -ffunction-sections -fdata-sections -static -Wl,--gc-sections \
            tests/aarch64/driver.c -o "$BUILD/driver_${family}_$name" -lm
        printf '%s %s: ' "$name" "$family"
        $RUN "$BUILD/driver_${family}_$name" || status=1
    done
done
exit $status
