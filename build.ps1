#Requires -Version 7
# The verbs of build.sh for Windows, in the same order. Run it in a Visual Studio developer shell, which has the C++ compiler,
# CMake and Ninja on the PATH; `.\build.ps1 deps` says how the rest is installed. `.\build.ps1 help` lists the verbs.
param(
    [Parameter(Position = 0)] [string] $Verb = 'help',
    [Parameter(Position = 1, ValueFromRemainingArguments)] [string[]] $Arguments = @()
)
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $true
$Root = $PSScriptRoot
$Release = Join-Path $Root 'artifacts/native/release'
$env:DOTNET_CLI_TELEMETRY_OPTOUT = '1'
$env:DOTNET_NOLOGO = '1'

$Verbs = @('build', 'test', 'bench', 'verify', 'pack', 'format', 'gpu', 'deps', 'clean', 'help')

function Assert-Command([string[]] $Names) {
    foreach ($Name in $Names) {
        if (-not (Get-Command $Name -ErrorAction SilentlyContinue)) {
            throw "$Name is missing; .\build.ps1 deps says how to install it"
        }
    }
}

# Libraries come from vcpkg where VCPKG_ROOT says it is; CUDA is built where nvcc is.
function Invoke-Native([string] $Preset, [string[]] $Options) {
    Assert-Command @('cmake', 'ninja')
    $Cuda = 'OFF'
    if (Get-Command nvcc -ErrorAction SilentlyContinue) {
        $Cuda = 'ON'
    }
    $All = @("-DSSM_CUDA=$Cuda") + $Options
    if ($env:VCPKG_ROOT) {
        $All += "-DCMAKE_TOOLCHAIN_FILE=$env:VCPKG_ROOT/scripts/buildsystems/vcpkg.cmake"
    }
    Push-Location $Root
    try {
        cmake --preset $Preset @All
        cmake --build --preset $Preset
    }
    finally {
        Pop-Location
    }
}

function Invoke-Managed {
    Assert-Command @('dotnet')
    dotnet build (Join-Path $Root 'SsmCuda.sln') -c Release -v minimal "-p:SsmNativeDirectory=$Release/bin"
}

# The `ssm` command, as built, run in the folder of the caller.
function Invoke-Tool([string[]] $Words) {
    dotnet (Join-Path $Root 'artifacts/bin/SsmCuda.Tool/release/ssm.dll') @Words
}

function Invoke-Build {
    Invoke-Native release @('-DSSM_TESTS=OFF', '-DSSM_EMULATED=OFF')
    Invoke-Managed
}

function Invoke-Test {
    Invoke-Native release @('-DSSM_TESTS=ON', '-DSSM_EMULATED=OFF')
    Invoke-Managed
    $env:SSM_TEST_DEVICES = 'cpu'
    ctest --test-dir $Release '--no-tests=error' --output-on-failure
    Push-Location $Root
    try {
        dotnet test --solution SsmCuda.sln -c Release --no-build
    }
    finally {
        Pop-Location
    }
}

function Invoke-Bench {
    Invoke-Build
    Invoke-Tool (@('bench') + $Arguments)
}

function Invoke-Verify {
    Invoke-Build
    Invoke-Tool (@('verify') + $Arguments)
}

function Invoke-Pack {
    Invoke-Native pack @()
    $Libraries = Join-Path $Root 'artifacts/native/pack/bin'
    dotnet pack (Join-Path $Root 'SsmCuda.sln') -c Release -o (Join-Path $Root 'artifacts/packages') "-p:SsmNativeDirectory=$Libraries"
}

function Invoke-Format {
    Assert-Command @('git', 'clang-format', 'dotnet')
    $Sources = git -C $Root ls-files -- '*.h' '*.cpp' '*.c' '*.cu' '*.cuh' | ForEach-Object { Join-Path $Root $_ }
    $NativeOptions = @('-i')
    $ManagedOptions = @()
    if ($Arguments -contains '--check') {
        $NativeOptions = @('--dry-run', '--Werror')
        $ManagedOptions = @('--verify-no-changes')
    }
    clang-format @NativeOptions @Sources
    dotnet format (Join-Path $Root 'SsmCuda.sln') @ManagedOptions
}

function Invoke-Gpu {
    throw 'the GPU proof runs on Linux: ./build.sh gpu'
}

function Invoke-Deps {
    Write-Output 'Visual Studio 2022 with "Desktop development with C++": compiler, CMake, Ninja'
    Write-Output '.NET 10 SDK, Python 3 with NumPy, LLVM (clang, clang-format)'
    Write-Output 'vcpkg install highway gtest    (and VCPKG_ROOT set to the folder of vcpkg)'
    Write-Output 'with --cuda: the CUDA toolkit 11.8 or later'
}

function Invoke-Clean {
    Remove-Item -Recurse -Force (Join-Path $Root 'artifacts') -ErrorAction SilentlyContinue
}

function Invoke-Help {
    Write-Output 'usage: .\build.ps1 VERB [ARGUMENTS]'
    Write-Output ''
    Write-Output '  build              native libraries and managed code, in Release'
    Write-Output '  test               builds and runs the native and managed suites'
    Write-Output '  bench [ARGUMENTS]  builds and runs the kernel benchmarks on the best device present'
    Write-Output '  verify PATH...     builds and runs every conformance case below PATH'
    Write-Output '  pack               packages for every CUDA architecture, into artifacts/packages'
    Write-Output '  format [--check]   formats C++, CUDA and C#, or says what is not formatted'
    Write-Output '  gpu                on Linux only'
    Write-Output '  deps [--cuda]      says what to install'
    Write-Output '  clean              deletes artifacts/'
    Write-Output '  help               this text'
}

if ($Verb -notin $Verbs) {
    Invoke-Help
    throw "unknown verb $Verb"
}
& "Invoke-$Verb"
