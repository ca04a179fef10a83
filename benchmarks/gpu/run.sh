#!/usr/bin/env bash
# Build, test and measure everything on a machine with a GPU, in under ten minutes, without a
# network; write one JSON. Needs Python >= 3.10 with numpy, torch and CuPy for CUDA (jax and
# pytest where they are), a C compiler, and either scikit-build-core or cmake. The clone is
# left as it is: all happens in a copy.
#
# usage: benchmarks/gpu/run.sh [RESULT.json] [options of python -m benchmarks.gpu]
#        PYTHON=...    the interpreter (python3)
#        BUILD=cmake   do without the packaged build backend
set -euo pipefail

case ${1:-} in -*) # options come after the file
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

python=$(command -v "${PYTHON:-python3}")
clone=$(cd "$(dirname "$0")/../.." && pwd)
result=$(realpath -m "${1:-gpu.json}")
[ $# -gt 0 ] && shift
folder=$(mktemp -d "${TMPDIR:-/tmp}/dlexchange-gpu.XXXXXX")
trap 'rm -rf "$folder"' EXIT
start=$SECONDS

has() { "$python" -c "import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, sys.argv[1:])))" "$@"; }

# The built files and the package's metadata, laid over the copy.
with_backend() {
    has scikit_build_core pip && [ "${BUILD:-}" != cmake ] || return 1
    "$python" -m pip install -q --no-index --no-build-isolation --no-deps --no-warn-script-location \
        --target "$folder/site" "$folder/clone" >"$folder/build.log" 2>&1 || return 1
    cp -r "$folder"/site/. "$folder/clone/"
}

with_cmake() {
    local cmake
    cmake=$(command -v cmake || "$python" -c 'import cmake; print(cmake.CMAKE_BIN_DIR + "/cmake")') || return 1
    "$cmake" -S "$folder/clone/csrc" -B "$folder/build" -DCMAKE_BUILD_TYPE=Release \
        -DPython_EXECUTABLE="$python" >"$folder/build.log" 2>&1 &&
        "$cmake" --build "$folder/build" --parallel >>"$folder/build.log" 2>&1 &&
        "$cmake" --install "$folder/build" --prefix "$folder/clone" >>"$folder/build.log" 2>&1 ||
        return 1
    local version
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$folder/clone/pyproject.toml")
    mkdir "$folder/clone/dlexchange-$version.dist-info"
    printf 'Metadata-Version: 2.1\nName: dlexchange\nVersion: %s\n' "$version" \
        >"$folder/clone/dlexchange-$version.dist-info/METADATA"
}

mkdir "$folder/clone"
tar -C "$clone" --exclude='./.*' --exclude=./build --exclude=./dist --exclude='*.so' --exclude=__pycache__ -cf - . |
    tar -C "$folder/clone" -xf -
if with_backend; then
    built="scikit-build-core"
elif with_cmake; then
    built="cmake"
else
    tail -n 40 "$folder/build.log" >&2
    echo "the build failed" >&2
    exit 1
fi
echo "built with $built in $((SECONDS - start)) s" >&2

export DLEXCHANGE_BENCHMARKS_COMMIT=$(git -C "$clone" rev-parse HEAD 2>/dev/null || echo unknown)
export DLEXCHANGE_BENCHMARKS_BUILD=$built
export XDG_CACHE_HOME=$folder/cache XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONDONTWRITEBYTECODE=1
cd "$folder/clone"
status=0
"$python" -m benchmarks.gpu --json "$result" "$@" || status=$?
echo "$((SECONDS - start)) s in all" >&2
exit "$status"
