"""The build step of a wheel or an editable install: compiles the C kernels into one extension of the stable ABI.

It is optional: without a C compiler, or where the code does not compile, installation goes on without the extension,
and everything runs on torch; `liptt doctor` says so. By hand, into the source tree: python hatch_build.py
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

_PACKAGE = Path("src") / "liptt_cli" / "kernels"
_STABLE_ABI = "0x030B0000"  # Python 3.11
_FLAGS = ("-std=c11", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden", f"-DPy_LIMITED_API={_STABLE_ABI}")


def compile_kernels(root: Path, target: Path) -> str | None:
    """Compile the kernels of a source tree to `target`; return what went wrong, or None."""
    if os.name != "posix" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "no extension for this platform"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    sources = sorted(str(file) for file in (root / _PACKAGE / "c").glob("*.c"))
    partial = target.with_suffix(f".{os.getpid()}")
    command = [*compiler, *_FLAGS, *shared, f"-I{sysconfig.get_path('include')}", *sources, "-o", str(partial)]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # never another version's
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    if ended.returncode:
        partial.unlink(missing_ok=True)
        return f"{compiler[0]} ended with {ended.returncode}\n{ended.stderr}".strip()
    partial.replace(target)
    return None


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, without hatchling
    pass
else:

    class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
        """Puts the extension into the wheel, or beside its sources for an editable install."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile before the files are collected."""
            if self.target_name != "wheel":
                return
            root, name = Path(self.root), "_native.abi3.so"
            editable = version == "editable"
            target = root / _PACKAGE / name if editable else Path(self.directory) / "native" / name
            if problem := compile_kernels(root, target):
                self.app.display_warning(f"liptt: installed without compiled kernels: {problem}")
                return
            if not editable:
                build_data["force_include"][str(target)] = f"liptt_cli/kernels/{name}"
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


if __name__ == "__main__":
    here = Path(__file__).parent
    sys.exit(compile_kernels(here, here / _PACKAGE / "_native.abi3.so"))
