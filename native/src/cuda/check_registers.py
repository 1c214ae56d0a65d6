#!/usr/bin/env python3
"""Holds the built CUDA library to its budget of registers, stack and kernel instantiations.

usage: check_registers.py LIBRARY_OR_BUILD_DIR

Reads what ptxas gave each kernel for each architecture in the library (cuobjdump --dump-resource-usage) and compares it with
registers.txt beside this file. A kernel's stack is what its registers spill to, or a local array; one byte is as good as
ptxas's own count of spills for showing that there are none. Prints a table; exits 1 when a kernel is over its line, has no
line, a line has no kernel, or the product has too many kernels.
"""

import collections
import fnmatch
import pathlib
import re
import shutil
import subprocess
import sys

# Kernels in the whole product, a template counted once for each set of its arguments.
MOST_KERNELS = 200


def output_of(*command, text=None):
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True, text=True).stdout


def tool(name):
    found = shutil.which(name, path=None) or shutil.which(name, path="/usr/local/cuda/bin")
    if not found:
        sys.exit(f"check_registers: {name} is missing")
    return found


def short(name):
    """ssm::(anonymous namespace)::kernel<ssm::Half, float>(ssm::Arguments) as kernel<Half,float>."""
    name = re.sub(r"\(anonymous namespace\)::|\bssm::|^void ", "", name)
    return name.split("(")[0].replace("> >", ">>").replace(", ", ",")


def usage_of(library):
    """{kernel: {architecture: (registers, stack)}}"""
    text = output_of(tool("cuobjdump"), "--dump-resource-usage", str(library))
    found = []
    architecture = None
    mangled = None
    for line in text.splitlines():
        if match := re.search(r"arch = (sm_\w+)", line):
            architecture = match[1]
        elif match := re.search(r"Function (\S+):$", line.strip()):
            mangled = match[1]
        elif match := re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", line):
            if mangled:
                found.append((mangled, architecture, int(match[1]), max(int(match[2]), int(match[3]))))
            mangled = None
    names = output_of(tool("c++filt"), text="\n".join(row[0] for row in found) + "\n").splitlines()
    usage = collections.defaultdict(dict)
    for (_, architecture, registers, stack), name in zip(found, names):
        usage[short(name)][architecture] = (registers, stack)
    return usage


def budget_of(path):
    """[(pattern, most registers, most bytes of stack)] in the file's order."""
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 3:
            sys.exit(f"{path.name}:{number}: pattern, registers, stack expected")
        lines.append((words[0], int(words[1]), int(words[2])))
    return lines


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    library = pathlib.Path(sys.argv[1])
    if library.is_dir():
        library = library / "lib" / "libssmcuda_cuda.so"
    if not library.is_file():
        sys.exit(f"check_registers: no {library}")
    usage = usage_of(library)
    budget = budget_of(pathlib.Path(__file__).with_name("registers.txt"))
    if not usage:
        sys.exit(f"check_registers: {library} holds no kernel")

    architectures = sorted({a for rows in usage.values() for a in rows})
    width = max(len(name) for name in usage)
    print(f"{'kernel':{width}}  " + "  ".join(f"{a + ' reg/stack':>16}" for a in architectures) + "   most")
    faults = []
    used = set()
    for name in sorted(usage):
        line = next((entry for entry in budget if fnmatch.fnmatchcase(name, entry[0])), None)
        if line is None:
            faults.append(f"{name}: no line in registers.txt")
        else:
            used.add(line[0])
        cells = []
        for architecture in architectures:
            registers, stack = usage[name].get(architecture, (0, 0))
            cells.append(f"{f'{registers}/{stack}':>16}")
            if architecture not in usage[name]:
                faults.append(f"{name}: not compiled for {architecture}")
            elif line and (registers > line[1] or stack > line[2]):
                faults.append(f"{name}: {registers} registers and {stack} bytes of stack for {architecture}, "
                              f"at most {line[1]} and {line[2]}")
        print(f"{name:{width}}  " + "  ".join(cells) + (f"   {line[1]}/{line[2]}" if line else "   none"))
    faults += [f"registers.txt: nothing is called {entry[0]}" for entry in budget if entry[0] not in used]
    print(f"{len(usage)} kernels, at most {MOST_KERNELS}; architectures: {' '.join(architectures)}")
    if len(usage) > MOST_KERNELS:
        faults.append(f"{len(usage)} kernels, at most {MOST_KERNELS}")
    for fault in faults:
        print(f"over budget: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
