"""List the GPUs that Paddle has kernels for: python tests/benchmarks/gpu_kernels.py PADDLE/libs/libphi.so ...

Counts the entries of NVIDIA's fat binaries in shared libraries: machine code (sm) and PTX (compute) by capability.
"""

import mmap
import struct
import sys
from collections import Counter

MAGIC = b"\x50\xed\x55\xba"
PTX, MACHINE_CODE = 1, 2


def kernels(path):
    found = Counter()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(MAGIC)
        while start >= 0:
            version, header, size = struct.unpack_from("<HHQ", data, start + 4)
            position, end = start + header, start + header + size
            if (version, header) != (1, 16) or end > len(data):
                position = end  # the same four bytes by chance
            while position < end:
                kind, _, head, length = struct.unpack_from("<HHIQ", data, position)
                (capability,) = struct.unpack_from("<I", data, position + 28)
                found[{PTX: "compute", MACHINE_CODE: "sm"}.get(kind, str(kind)), capability] += 1
                position += head + length
            start = data.find(MAGIC, start + 4)
    return found


for name in sys.argv[1:]:
    print(name, ", ".join(f"{kind}_{number}: {count}" for (kind, number), count in sorted(kernels(name).items())))
