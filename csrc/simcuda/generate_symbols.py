"""Write symbols.inc: which exported symbol serves which name at which CUDA version.

Reads two public headers of a CUDA toolkit, cuda.h and cudaTypedefs.h, for facts only: the names
of the driver's entry points and the version each signature appeared in. The result is committed,
so that building needs no toolkit. Run by hand when a newer toolkit is out:

    python generate_symbols.py /usr/local/cuda/include > symbols.inc
"""

# SPDX-License-Identifier: Apache-2.0
import re
import sys
from collections import defaultdict
from pathlib import Path

TYPEDEF = re.compile(r"\bPFN_(cu\w+?)_v(\d+)(_ptds|_ptsz)?\)")
RENAME = re.compile(r"#\s*define\s+(cu\w+)\s+(?:__CUDA_API_PT[DS][SZ]\()?(cu\w+)\)?", re.ASCII)

# What the typedefs do not say: a name that a macro of cuda.h moved to another function's
# signature, and signatures newer than the headers read. Without them "the newest version not
# above the one asked for" would hand out the older signature under the newer name.
MORE = {
    "cuGraphInstantiate": [(12000, "cuGraphInstantiateWithFlags", 0, "")],
    "cuLaunchHostFunc": [(13020, "cuLaunchHostFunc_v2", 13020, "cuLaunchHostFunc_v2_ptsz")],
}


def symbol_of(name: str, index: int, last: bool, renames: dict[str, str]) -> str:
    """Name the exported symbol of a function's index-th signature (0 is the oldest)."""
    if last and name in renames:
        return renames[name]
    return name if index == 0 else f"{name}_v{index + 1}"


def rows(include: Path) -> dict[str, list[tuple[int, str, int, str]]]:
    """Map each name to its (version, symbol, per-thread version, per-thread symbol)."""
    plain: dict[str, set[int]] = defaultdict(set)
    per_thread: dict[str, dict[int, str]] = defaultdict(dict)
    for name, version, suffix in TYPEDEF.findall((include / "cudaTypedefs.h").read_text()):
        if suffix:
            per_thread[name][int(version)] = suffix
        else:
            plain[name].add(int(version))
    header = (include / "cuda.h").read_text()
    public = header.split("#if defined(__CUDA_API_VERSION_INTERNAL)")[0]
    renames = dict(RENAME.findall(public))
    table: dict[str, list[tuple[int, str, int, str]]] = {}
    for name in sorted(plain):
        versions = sorted(plain[name])
        table[name] = []
        for index, version in enumerate(versions):
            symbol = symbol_of(name, index, index == len(versions) - 1, renames)
            following = versions[index + 1] if index + 1 < len(versions) else sys.maxsize
            threaded = [v for v in per_thread[name] if version <= v < following]
            suffix = per_thread[name][threaded[0]] if threaded else ""
            table[name].append(
                (version, symbol, threaded[0], symbol + suffix)
                if threaded
                else (version, symbol, 0, "")
            )
        table[name] += MORE.get(name, [])
    return table


def main() -> None:
    """Print the table as an X-macro file."""
    table = rows(Path(sys.argv[1]))
    if len(table) < 300:
        raise SystemExit(f"only {len(table)} names found: these are not CUDA's headers")
    print("/* Written by generate_symbols.py from the public CUDA headers: names and versions.")
    print(" * SIM_NAME(name) opens a name; SIM_ENTRY(name, version, symbol) and SIM_ENTRY_PT(name,")
    print(" * version, symbol, version, per-thread symbol) follow, oldest first;")
    print(" * SIM_ALIAS(name, version, symbol): the symbol is another name's.")
    print(" * SPDX-License-Identifier: Apache-2.0 */")
    for name, entries in table.items():
        print(f"SIM_NAME({name})")
        for version, symbol, threaded, threaded_symbol in entries:
            if symbol in table and symbol != name:
                print(f"SIM_ALIAS({name}, {version}, {symbol})")
            elif threaded:
                print(f"SIM_ENTRY_PT({name}, {version}, {symbol}, {threaded}, {threaded_symbol})")
            else:
                print(f"SIM_ENTRY({name}, {version}, {symbol})")


if __name__ == "__main__":
    main()
