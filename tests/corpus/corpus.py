"""The crash programs of the corpus: how they are built, what their chains are,
and whether a chain that somebody found is right.

A source says in comments what its scenarios' chains are, innermost call first:

    chain NAME: CALL CALL ... END

CALL is a function's name; `a|b` either; `*` in it stands for anything; `[a]` may
be missing; `a+` is one or more, `a{24}` that many. `?` is a pc that lies in no
file, `...` any number of calls that are not the source's own, `<signal>` what a
handler returns to, `<lost>` at most one call whose return address was
overwritten. Behind `<gone>` calls may be without names and the walk may end early,
and say so: the file went with the process, and what could not be proven is not
there. At `<or_cut>` a walk may end and say so. END is `<start>` (the C library's start up to the process's first
frame), `<thread>` (the same of a thread or coroutine), `<depth>` (deeper than
was asked for), `<cut>` (the walk knows of no more, and says so) or `<end>` (nothing
more).

Why it crashes stands there too, where it is no null pointer that is followed; `a|b`
either:

    cause NAME: TOKEN

What is known to be wrong yet says so beside it, with the reason:

    gap NAME BUILD: REASON      BUILD may be *
"""

import bisect
import fnmatch
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "tests/unwind", ROOT / "tests/corpus"]
# The programs' name, so that a monitor can leave out whatever else crashes.
NAME = "corpus_case"
DEPTH = 64

C_FLAGS = ["-w", "-fno-optimize-sibling-calls", "-I", str(ROOT / "tests/unwind")]
CXX_FLAGS = {"cc": ["-std=c++20"]}
NO_TABLES = ["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]


class Build:
    """One way to build the programs of a language."""

    def __init__(self, name, language, compiler, flags, strip=False, libc="glibc", link=(), compared=True):
        # Whether others are asked for its chains, too, which takes longer.
        self.compared = compared
        self.name, self.language, self.compiler = name, language, compiler
        self.flags, self.strip, self.libc, self.link = flags, strip, libc, list(link)

    @property
    def static(self):
        return "-static" in self.link


def builds():
    cc = os.environ.get("CC", "cc")
    cxx = os.environ.get("CXX", "c++")
    return [
        Build("O0", "c", cc, ["-O0"]),
        Build("O2", "c", cc, ["-O2"]),
        Build("O3", "c", cc, ["-O3"]),
        Build("no_pie", "c", cc, ["-O2", "-fno-pie"], link=["-no-pie"]),
        Build("static", "c", cc, ["-O2"], link=["-static"]),
        Build("stripped", "c", cc, ["-O2"], strip=True),
        Build("no_tables", "c", cc, ["-O2", *NO_TABLES]),
        Build("clang", "c", "clang-19", ["-O2", "-fPIE"], link=["-pie"]),
        Build("musl", "c", "musl-gcc", ["-O2"], libc="musl"),
        Build("musl_static", "c", "musl-gcc", ["-O2"], libc="musl", link=["-static"]),
        Build("musl_strip", "c", "musl-gcc", ["-O2"], strip=True, libc="musl", link=["-static"]),
        Build("static_pie", "c", cc, ["-O2", "-fPIE"], link=["-static-pie"], compared=False),
        Build("static_none", "c", cc, ["-O2", *NO_TABLES], link=["-static"], compared=False),
        Build("O0_none", "c", cc, ["-O0", *NO_TABLES], compared=False),
        Build("fp_none", "c", cc, ["-O2", "-fno-omit-frame-pointer", *NO_TABLES], compared=False),
        Build("musl_none", "c", "musl-gcc", ["-O2", *NO_TABLES], libc="musl", compared=False),
        Build("exec_stack", "c", cc, ["-O2"], link=["-Wl,-z,execstack"], compared=False),
        Build("retpoline", "c", cc, ["-O2", "-mindirect-branch=thunk", "-mfunction-return=thunk",
                                     "-fcf-protection=none"], compared=False),
        Build("no_header", "c", cc, ["-O2"], link=["-static", "-Wl,--no-eh-frame-hdr"], compared=False),
        Build("O0", "cc", cxx, ["-O0"]),
        Build("O2", "cc", cxx, ["-O2"]),
        Build("O3", "cc", cxx, ["-O3"]),
        Build("static", "cc", cxx, ["-O2"], link=["-static"]),
        Build("stripped", "cc", cxx, ["-O2"], strip=True),
        Build("debug", "rs", "rustc", ["-Copt-level=0"]),
        Build("release", "rs", "rustc", ["-Copt-level=3"]),
        Build("musl", "rs", "rustc", ["-Copt-level=3", "--target", "x86_64-unknown-linux-musl"],
              libc="musl"),
        Build("stripped", "rs", "rustc", ["-Copt-level=3"], strip=True),
        Build("plain", "go", "go", []),
        Build("stripped", "go", "go", [], strip=True),
        Build("i386", "i386", cc, ["-m32", "-O2", "-ffreestanding", "-fno-pie", "-fno-stack-protector"],
              link=["-nostdlib", "-static"]),
        Build("bare", "bare", cc, NO_TABLES, link=["-nostdlib", "-static"], compared=False),
        Build("split", "split", cc, ["-O2", "-fsplit-stack"], compared=False),
        Build("bare_pie", "bare", cc, [*NO_TABLES, "-fPIE"], link=["-nostdlib", "-static-pie"], compared=False),
    ]


# glibc alone has makecontext.
ABSENT = {("musl", "switches"), ("musl", "many_arguments")}
# gcc alone has functions in functions.
ABSENT_BUILDS = {("clang", "nested")}


class Program:
    """An executable, and the twin that has its symbols."""

    def __init__(self, source, build, path, twin, own):
        self.source, self.build, self.path, self.twin, self.own = source, build, path, twin, own
        self._symbols = None

    def functions(self):
        if self._symbols is None:
            self._symbols = symbols(self.twin)
        return self._symbols

    def symbol(self, address):
        """The function that holds a file address."""
        starts, names = self.functions()
        at = bisect.bisect_right(starts, address) - 1
        return names[at] if at >= 0 else None

    def extent(self):
        """File addresses of its code."""
        starts, _ = self.functions()
        return starts[0], starts[-1] + 0x1000


class Case:
    """A scenario of a program, with its chain and the causes that are right."""

    def __init__(self, program, scenario, chain, causes):
        self.program, self.scenario, self.chain, self.causes = program, scenario, chain, causes

    @property
    def gap(self):
        """Why the chain is known to be wrong, if it is."""
        found = re.search(rf"^\s*//!? gap {self.scenario} (?:{self.program.build.name}|\*): (.+)$",
                          self.program.source.read_text(), re.M)
        return found and found[1]

    def __str__(self):
        build = self.program.build
        return f"{self.program.source.name}:{self.scenario} {build.name}"


def said(source, what):
    """What comments say of scenarios, by their names."""
    return dict(re.findall(rf"^\s*//!? {what} (\w+): (.+)$", source.read_text(), re.M))


def chains(source):
    return {name: chain.split() for name, chain in said(source, "chain").items()}


def causes(source, scenario):
    return said(source, "cause").get(scenario, "null_dereference").split("|")


def language(source):
    if source.name == "narrow.c":
        return "i386"
    if source.name in ("bare.c", "split.c"):
        return source.stem
    return source.suffix[1:]


def run(command, **options):
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, **options)
    if done.returncode:
        raise SystemExit(f"corpus: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def demangle(names):
    """Names as C++ and Rust write them, without parameters and hashes."""
    text = subprocess.run(["c++filt", "-p"], input="\n".join(names), capture_output=True,
                          text=True).stdout.split("\n")
    return [plain(name) for name in text]


def plain(name):
    name = re.sub(r"::h[0-9a-f]{16}$", "", name)
    name = re.sub(r" \[clone .*", "", name)
    # What a compiler adds to a part of a function. Go's names have dots of their own.
    return re.sub(r"\.(cold|part|constprop|isra|lto_priv|llvm)\b.*", "", name)


def symbols(path):
    lines = [line.split() for line in run(["nm", "-n", "--defined-only", path]).splitlines()]
    lines = [line for line in lines if len(line) == 3 and line[1] in "TtWwi"]
    names = demangle([line[2] for line in lines])
    return [int(line[0], 16) for line in lines], names


# Templates and generic functions of a library are compiled into the program.
LIBRARY = re.compile(r"(\w+ )?<?(std|core|alloc|__gnu_cxx)::|void std::|<.* as (core|alloc|std)::(?!ops::drop)")


def own_functions(objects):
    names = set()
    for path in objects:
        names.update(symbols(path)[1])
    return {name for name in names if name and not LIBRARY.match(name)}


def compile_program(source, build, directory):
    directory = directory / f"{build.language}-{build.name}" / source.stem
    directory.mkdir(parents=True, exist_ok=True)
    path, twin, stamp = directory / NAME, directory / "twin", directory / "own"
    newest = max(f.stat().st_mtime for f in [source, ROOT / "tests/unwind/chain.h", Path(__file__),
                                             ROOT / "tests/corpus/plugin.c"])
    if not (stamp.exists() and stamp.stat().st_mtime > newest):
        objects = [directory / "part.o"]
        if build.language in ("c", "cc", "i386", "bare", "split"):
            run([build.compiler, *C_FLAGS, *CXX_FLAGS.get(build.language, []), *build.flags, "-c", source, "-o", objects[0]])
            run([build.compiler, *build.flags, *build.link, objects[0], "-o", twin, "-lpthread"]
                [:-1 if build.language in ("i386", "bare") else None])
        elif build.language == "rs":
            run(["rustc", "--edition=2021", "--crate-name", source.stem, *build.flags, source, "-o", twin])
            objects = []
        else:
            run(["go", "build", "-o", twin, source], env={**os.environ, "GO111MODULE": "off", "CGO_ENABLED": str(int('import "C"' in source.read_text())),
                 "GOCACHE": str(directory.parent.parent / "go-cache"), "GOFLAGS": ""})
            objects = []
        if source.name == "files.c" and not build.static:
            library = directory / "plugin.so"
            run([build.compiler, *C_FLAGS, *build.flags, "-fPIC", "-shared", source.parent / "plugin.c",
                 "-o", library])
            objects.append(library)
        if build.language == "rs":
            names = {n for n in symbols(twin)[1] if re.match(rf"<?{source.stem}::", n)}
        elif build.language == "go":
            names = {n for n in symbols(twin)[1] if re.match("main\\.|writes_null$|call(s|ed)_?|calledBack$", n)}
        else:
            names = own_functions(objects)
            names -= {n for n in names if n.startswith("_") and not n.startswith("_start")} - {"_start"}
            if build.language not in ("i386", "bare"):
                names.discard("_start")
        shutil.copy(twin, path)
        if build.strip:
            run(["strip", path])
        stamp.write_text("\n".join(sorted(names)))
    return Program(source, build, path, twin, set(stamp.read_text().split("\n")))


def cases(directory, pattern=""):
    """Every case that can be built here; names of what cannot be."""
    jobs, missing = [], set()
    for build in builds():
        if not shutil.which(build.compiler):
            missing.add(build.compiler)
            continue
        for folder in SOURCES:
            for source in sorted(folder.iterdir()):
                if source.suffix in (".c", ".cc", ".rs", ".go") and language(source) == build.language:
                    known = chains(source)
                    if any(matches_pattern(pattern, source, name, build) for name in known):
                        jobs.append((source, build, known))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        programs = list(pool.map(lambda job: compile_program(job[0], job[1], directory), jobs))
    found = []
    for (source, build, known), program in zip(jobs, programs):
        for scenario, chain in known.items():
            absent = (build.libc, scenario) in ABSENT or (build.name, scenario) in ABSENT_BUILDS
            if absent or not matches_pattern(pattern, source, scenario, build):
                continue
            # A static program loads no library.
            if build.static and any("plugin" in call for call in chain):
                continue
            found.append(Case(program, scenario, chain, causes(source, scenario)))
    return found, missing


def matches_pattern(pattern, source, scenario, build):
    return pattern in f"{source.name}:{scenario} {build.name}"


class Frame:
    """A call that somebody found. `name` is None where no file is behind it."""

    def __init__(self, name, address=None, trust=None):
        self.name, self.address, self.trust = name, address, trust

    def __str__(self):
        return (self.name or "?") + (f"[{self.trust}]" if self.trust else "")


def named(token, name):
    if name is None or name == "??" and "?" in token.split("|"):
        return "?" in token.split("|")
    return any(fnmatch.fnmatchcase(name, choice) or name.endswith("::" + choice)
               for choice in token.split("|") if choice != "?")


# How a frame is found that nothing proves: a report may then have all of them and
# not say so. Where call-frame information led all the way it has to.
UNPROVEN = {"scan", "scan_cfi", "scan_direct", "leaf", "frame_pointer"}


def claims_wrongly(chain, frames, own, ended):
    """Whether somebody says that these are all calls, and they are not: some of the
    chain are missing, or others are there."""
    if not ended:
        return False
    lost = any(token in ("<lost>", "<cut>", "<depth>") for token in chain)
    # Behind a file that is gone nothing can be said of calls without names.
    return lost or "<gone>" not in chain and not agrees(chain, frames, own, True, True)


def agrees(chain, frames, own, strict, ended):
    """Whether frames are those of a chain. `strict` also asks for the chain's end;
    `ended` says that the walk believes to have reached the outermost frame."""
    unproven = any(frame.trust in UNPROVEN for frame in frames)
    library = [frame.name is None or frame.name not in own for frame in frames]
    gone = "<gone>" in chain
    seen = {}

    def is_call(token, frame):
        return named(token, frame.name) or gone and frame.name in (None, "??")

    def match(i, j):
        key = i, j
        if key not in seen:
            seen[key] = step(i, j)
        return seen[key]

    def step(i, j):
        if i == len(chain):
            return j == len(frames)
        token, rest = chain[i], frames[j:]
        if gone and j and not rest and not ended:
            return True
        if token == "<depth>":
            return not rest or not strict
        if token == "<end>":
            return not rest and (ended or unproven or not strict)
        if token == "<cut>":
            return not rest and not ended
        if token in ("<start>", "<thread>"):
            if not all(library[j:]):
                return False
            return not strict or len(rest) <= 12 and (ended or unproven)
        if token == "<or_cut>":
            return match(i + 1, j) or not rest and not ended
        if token == "<gone>":
            return match(i + 1, j)
        if token == "<lost>":
            return match(i + 1, j) or bool(rest) and match(i + 1, j + 1)
        if token == "...":
            return match(i + 1, j) or bool(rest) and library[j] and frames[j].name != "main" and match(i, j + 1)
        if token.startswith("["):
            here = bool(rest) and any(named(t, rest[0].name) for t in token[1:-1].split("|"))
            return here and match(i + 1, j + 1) or match(i + 1, j)
        if not rest:
            return False
        if token == "<signal>":
            return library[j] and match(i + 1, j + 1)
        repeated = re.fullmatch(r"(.+)\{(\d+)\}", token)
        if repeated:
            count = int(repeated[2])
            return len(rest) >= count and all(named(repeated[1], f.name) for f in rest[:count]) \
                and match(i + 1, j + count)
        if token.endswith("+"):
            return named(token[:-1], rest[0].name) and (match(i + 1, j + 1) or match(i, j + 1))
        return is_call(token, rest[0]) and match(i + 1, j + 1)

    # -O0 leaves this one as a call.
    if "outer" in chain and "main" in chain:
        at = chain.index("main")
        chain = chain[:at] + ["[start]"] + chain[at:]
    return match(0, 0)


def table(failures):
    """Failures with both chains."""
    lines = []
    for case, what, frames in failures:
        lines.append(f"{case}: {what}")
        lines.append(f"    expected {' '.join(case.chain)}")
        lines.append(f"    got      {' '.join(map(str, frames))}")
    return "\n".join(lines)
