"""Build the Cython modules: every ``kektordb/*.pyx`` is one extension; the kernel modules get flags of their own.

Environment
-----------
KEKTORDB_BUILT=1      the modules are there already, built in place: an editable install leaves them as they are, a
                      wheel takes them.
KEKTORDB_OPENMP=0|1   leave OpenMP out, or insist on it; without it a compile test decides.
KEKTORDB_DEBUG=1      bounds checks, assertions, no optimisation beyond -O1.
KEKTORDB_SANITIZE=…   sanitizers to build with, as for ``-fsanitize=`` (implies KEKTORDB_DEBUG=1).
"""

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

SANITIZE = os.environ.get("KEKTORDB_SANITIZE", "")
BUILT = os.environ.get("KEKTORDB_BUILT", "0") == "1"
DEBUG = bool(SANITIZE) or os.environ.get("KEKTORDB_DEBUG", "0") == "1"
X86 = platform.machine().lower() in ("x86_64", "amd64")

# Reductions vectorise only when the compiler may reorder sums. -ffast-math would also drop NaN checks and, with gcc,
# switch denormals off for the whole importing process; these flags do neither.
REORDER_SUMS = [
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-ffp-contract=fast",
]
# One file of loops, compiled once per instruction set and chosen at import. Other machines build their baseline only.
KERNEL_FLAGS = {
    "_kern_v2": ["-march=x86-64-v2"],
    "_kern_v3": ["-march=x86-64-v3"],
    "_kern_v4": ["-march=x86-64-v4", "-mavx512vnni", "-mprefer-vector-width=512"],
}


def extensions() -> list[Extension]:
    """List one extension per module; on machines other than x86-64 a single kernel module, without flags."""
    found: list[Extension] = []
    for source in sorted(Path("kektordb").glob("*.pyx")):
        if source.stem in KERNEL_FLAGS and not X86 and source.stem != "_kern_v2":
            continue
        found.append(Extension(f"kektordb.{source.stem}", [source.as_posix()]))
    return found


class BuildExt(build_ext):
    """Set the flags once the compiler is known."""

    def build_extension(self, ext: Extension) -> None:
        if not BUILT:
            super().build_extension(ext)
            return
        target = Path(self.get_ext_fullpath(ext.name))
        source = Path("kektordb", target.name)
        if target.resolve() != source.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)

    def build_extensions(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        openmp = self.openmp_flags(msvc)
        for extension in self.extensions:
            stem = extension.name.rpartition(".")[2]
            if msvc:
                extension.extra_compile_args = ["/O2", *(["/fp:fast"] if stem in KERNEL_FLAGS else []), *openmp]
                continue
            flags = ["-O1", "-g"] if DEBUG else ["-O3"]
            flags += ["-fno-strict-aliasing", "-Wall"]
            if stem in KERNEL_FLAGS:
                flags += REORDER_SUMS + (KERNEL_FLAGS[stem] if X86 else [])
            if SANITIZE:
                flags += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
                extension.extra_link_args.append(f"-fsanitize={SANITIZE}")
            if stem in ("_hnsw", "_heal", "_team"):
                flags += openmp
                extension.extra_link_args += openmp
            extension.extra_compile_args = flags
        super().build_extensions()

    def openmp_flags(self, msvc: bool) -> list[str]:
        """Compile and link a small program to see whether OpenMP is there."""
        wish = os.environ.get("KEKTORDB_OPENMP", "")
        if wish == "0":
            return []
        flags = ["/openmp"] if msvc else ["-fopenmp"]
        program = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "openmp.c")
            source.write_text(program)
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(objects, "openmp", output_dir=folder, extra_postargs=flags)
            except (CCompilerError, ExecError, PlatformError):
                if wish == "1":
                    raise
                print("kektordb: no OpenMP here, batches run on one thread", file=sys.stderr)
                return []
        return flags


setup(
    ext_modules=extensions()
    if BUILT
    else cythonize(
        extensions(),
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": False,
            "auto_pickle": False,
            "autotestdict": False,
        },
        build_dir="build/cython",
        annotate=DEBUG,
    ),
    cmdclass={"build_ext": BuildExt},
)
