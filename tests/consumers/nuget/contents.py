"""What the packed packages hold: contents.py FEED VERSION RID"""
import re
import sys
import zipfile
from pathlib import Path

feed, version, rid = Path(sys.argv[1]), sys.argv[2], sys.argv[3]


def holds(name, native, exact=None):
    with zipfile.ZipFile(feed / f"{name}.{version}.nupkg") as package:
        files = package.namelist()
        nuspec = package.read(next(file for file in files if file.endswith(".nuspec"))).decode()
    found = sorted(file for file in files if file.startswith("runtimes/"))
    assert found == [f"runtimes/{rid}/native/{native}"], f"{name}: native files {found}"
    # The emulated backend is for tests alone.
    assert not [file for file in files if "emulated" in file], files
    if exact:
        assert f'<dependency id="{exact}" version="[{version}]"' in nuspec, nuspec
    return files, nuspec


files, nuspec = holds("SsmCuda", "libssmcuda.so")
for file in ("lib/net10.0/SsmCuda.dll", "lib/net10.0/SsmCuda.xml"):
    assert file in files, f"{file} is missing: {files}"
assert "MIT" in re.search(r"<license.*?</license>", nuspec).group(), nuspec
names = ["SsmCuda"]
if (feed / f"SsmCuda.Cuda.{rid}.{version}.nupkg").exists():
    files, _ = holds(f"SsmCuda.Cuda.{rid}", "libssmcuda_cuda.so", exact="SsmCuda")
    assert not [file for file in files if file.endswith(".dll")], files
    names.append(f"SsmCuda.Cuda.{rid}")
print(" and ".join(names), version)
