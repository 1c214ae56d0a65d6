#!/usr/bin/env bash
# Everything one does with this repository. `./build.sh help` lists the verbs; build.ps1 has the same ones for Windows.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
caller=$PWD
cd "$root"
export LC_ALL=C.UTF-8 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_CLI_UI_LANGUAGE=en
# No build server outlives the build: in CI nothing may keep running.
export MSBUILDDISABLENODEREUSE=1 UseSharedCompilation=false

verbs=(build test bench verify pack format gpu deps clean help)

usage() {
    cat <<'HELP'
usage: ./build.sh VERB [ARGUMENTS]

  build [PART]       native libraries and managed code, in Release; PART: native, managed,
                     tests (native with tests and the emulated backend), mutations (the same with deliberate faults)
  test [SUITE...]    builds and runs every suite, or the ones named (test --list); ends with "N passed, N failed"
  bench [ARGUMENTS]  builds and runs the kernel benchmarks on the best device present
                     (--filter NAME, --device cpu|cuda, --json FILE, --compare OLD.json, --peers, --sweep, --full)
  verify PATH...     builds and runs every conformance case below PATH
                     (--device cpu|cuda|emulated, --operation NAME, --dtype float32|float64, --json FILE)
  pack               packages for every CUDA architecture, into artifacts/packages
  format [--check]   formats C++, CUDA and C#, or says what is not formatted
  gpu [--prepare]    on a CUDA machine: compiles the kernels and runs tests, cases and benchmarks on the device;
                     --prepare, beforehand: builds the rest into artifacts/gpu-kit, which goes along
  deps [--cuda]      installs all packages that building and testing need; --cuda: the CUDA toolkit too
  clean              deletes artifacts/
  help               this text

build, test and bench install the packages they miss where they may (root, or sudo without a password).
SSM_CUDA=OFF in the environment leaves the CUDA backend out although nvcc is there.
HELP
}

fail() {
    printf 'build.sh: %s\n' "$*" >&2
    exit 1
}

# What one checkout has compiled serves another.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
# As its manual asks for precompiled headers.
export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime

# ---- Packages ----------------------------------------------------------------------------------------------------------

build_packages="g++ cmake ninja-build ccache libhwy-dev libeigen3-dev python3"
test_packages="libgtest-dev libboost-context-dev libkissfft-dev clang-14 clang-format-14 python3-numpy nodejs npm"
cuda_packages="nvidia-cuda-toolkit g++-11"

installed() {
    case $1 in
    # These two often come from elsewhere than Debian.
    nodejs) command -v node >/dev/null ;;
    npm) command -v npm >/dev/null ;;
    nvidia-cuda-toolkit) command -v nvcc >/dev/null ;;
    *) [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
    esac
}

# Installs what is missing of the packages named.
need() {
    local package missing="" sudo=""
    command -v dpkg-query >/dev/null || return 0 # another system: CMake says what it does not find
    for package in "$@"; do
        installed "$package" || missing+=" $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null ||
            fail "packages are missing; run:  sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing"
        sudo="sudo -n"
    fi
    case $missing in *nvidia-cuda-toolkit*) add_components "$sudo" ;; esac
    echo "installing$missing"
    $sudo apt-get -q update || { sleep 5 && $sudo apt-get -q update; } || fail "apt-get update failed"
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $missing </dev/null
}

# The CUDA toolkit is in Debian's contrib and non-free: a second sources file beside debian.sources, from the same place.
add_components() {
    local sudo=$1 debian=/etc/apt/sources.list.d/debian.sources
    local added=/etc/apt/sources.list.d/debian-contrib-non-free.sources
    [ -f "$debian" ] && [ ! -f "$added" ] || return 0
    grep -Eq '^Components:.*\bcontrib\b.*\bnon-free\b' "$debian" && return 0
    sed 's/^Components:.*/Components: contrib non-free/' "$debian" | $sudo tee "$added" >/dev/null
}

verb_deps() {
    case ${1-} in
    "") need $build_packages $test_packages ;;
    --cuda) need $build_packages $test_packages $cuda_packages ;;
    *) fail "deps takes --cuda or nothing" ;;
    esac
}

# A Python with NumPy where there is one: another python3 may stand before Debian's on the PATH.
python() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        "$candidate" -c 'import numpy' 2>/dev/null && break
        candidate=python3
    done
    exec "$candidate" "$@" </dev/null
}

need_dotnet() {
    command -v dotnet >/dev/null || fail "the .NET 10 SDK is missing (no dotnet on the PATH)"
}

# ---- Building ----------------------------------------------------------------------------------------------------------

# Configures a preset. The first time without tests, unless asked; later the folder stays as it is.
configure() {
    local preset=$1 options=()
    shift
    if [[ $preset == release && ! -f artifacts/native/release/CMakeCache.txt ]]; then
        options+=(-DSSM_TESTS=OFF -DSSM_EMULATED=OFF)
    fi
    if [ "${SSM_CUDA:-ON}" = ON ] && command -v nvcc >/dev/null; then
        options+=(-DSSM_CUDA=ON)
    else
        options+=(-DSSM_CUDA=OFF)
    fi
    cmake --preset "$preset" -Wno-dev "${options[@]}" "$@"
}

compile() {
    local preset=$1
    shift
    cmake --build "artifacts/native/$preset" --parallel "$(nproc)" "$@"
}

# Native in Release; for `test` with the tests and the emulated backend.
native() {
    if [ "${1-}" = tests ]; then
        configure release -DSSM_TESTS=ON -DSSM_EMULATED=ON
    else
        configure release
    fi
    compile release
}

managed() {
    dotnet build SsmCuda.sln -c Release -v minimal "$@"
}

verb_build() {
    case ${1-} in
    "")
        need_dotnet
        need $build_packages
        native
        managed
        ;;
    native | tests)
        need $build_packages
        [ "$1" = native ] || need $test_packages
        native "$@"
        ;;
    mutations)
        need $build_packages $test_packages
        SSM_CUDA=OFF configure mutations
        compile mutations
        ;;
    managed)
        need_dotnet
        managed
        ;;
    *) fail "build takes native, tests, mutations, managed or nothing" ;;
    esac
}

# The `ssm` command, as built, run in the folder of the caller.
tool() {
    cd "$caller"
    exec dotnet "$root/artifacts/bin/SsmCuda.Tool/release/ssm.dll" "$@"
}

verb_bench() {
    verb_build
    tool bench "$@"
}

verb_verify() {
    verb_build
    tool verify "$@"
}

verb_test() {
    need_dotnet
    need $build_packages $test_packages
    python scripts/suites.py "$@"
}

verb_pack() {
    need_dotnet
    need $build_packages
    configure pack
    compile pack
    dotnet pack SsmCuda.sln -c Release -o artifacts/packages -p:SsmNativeDirectory="$root/artifacts/native/pack/lib/"
    ls -l artifacts/packages
}

# ---- Formatting ----------------------------------------------------------------------------------------------------------

verb_format() {
    local check=${1-}
    [ -z "$check" ] || [ "$check" = --check ] || fail "format takes --check or nothing"
    need clang-format-14
    need_dotnet
    local failed=0 # both say what they find
    git ls-files -z -c -o --exclude-standard -- '*.h' '*.cpp' '*.c' '*.cu' '*.cuh' |
        xargs -0 -r clang-format-14 ${check:+--dry-run --Werror} -i || failed=1
    # Style is what the build checks anyway.
    dotnet format ${check:+whitespace} SsmCuda.sln ${check:+--verify-no-changes} || failed=1
    return $failed
}

# ---- The rest ------------------------------------------------------------------------------------------------------------

# No packages, no .NET: this machine has a GPU, nvcc, CMake and Python with NumPy.
verb_gpu() {
    case ${1-} in
    --prepare)
        need $build_packages libgtest-dev
        SSM_CUDA=OFF configure gpu-kit
        compile gpu-kit
        python scripts/gpu.py --prepare
        ;;
    *) python scripts/gpu.py "$@" ;;
    esac
}

verb_clean() {
    rm -rf artifacts
}

verb_help() {
    usage
}

verb=${1:-help}
[ $# = 0 ] || shift
case $verb in -h | --help) verb=help ;; esac
for known in "${verbs[@]}"; do
    if [ "$verb" = "$known" ]; then
        "verb_$verb" "$@"
        exit
    fi
done
usage >&2
fail "unknown verb $verb"
