"""The agent's bundle: its wheel, and those of all that it needs, for every Python and machine that it promises to run on.

A folder of files named by their SHA-256, and ``bundle.json``, which says which of them a target takes. It is what the
gateway serves (``[gateway] files``) and what the offline archive is made of. Wheels that several targets share are there once.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from email.parser import Parser
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

FORMAT = 1
MANIFEST = "bundle.json"
OWN = ("ezadmin-wire", "ezadmin-agent")
PYTHONS = {"3.9": "3.9.2", "3.10": "3.10.0", "3.11": "3.11.0", "3.12": "3.12.0", "3.13": "3.13.0"}
"""The oldest release of each that is served: Debian 11 has 3.9.2, and cryptography takes none before."""
MACHINES = ("x86_64", "aarch64")
PLATFORMS = {
    # oldest first: of equal versions the wheel that the most systems take is chosen
    "glibc": (
        "manylinux2014",
        "manylinux_2_17",
        "manylinux_2_24",
        "manylinux_2_26",
        "manylinux_2_27",
        "manylinux_2_28",
    ),
    "musl": ("musllinux_1_1", "musllinux_1_2"),
}
_EPOCH = (1980, 1, 1, 0, 0, 0)
_AT_ONCE = 4


class BundleError(Exception):
    """A bundle that cannot be made or read; the text says why and what to do."""


@dataclass(frozen=True, order=True)
class Target:
    """A kind of host. ``python``: such as "3.9"; ``libc``: "glibc" or "musl"."""

    python: str
    machine: str
    libc: str

    @property
    def name(self) -> str:
        """As in ``bundle.json``; the installer makes the same text on the host."""
        return f"cp{self.python.replace('.', '')}-{self.machine}-{self.libc}"

    @property
    def platforms(self) -> list[str]:
        """The platform tags that such a host takes."""
        return [f"{one}_{self.machine}" for one in PLATFORMS[self.libc]]

    def environment(self) -> dict[str, str]:
        """What the markers of requirements are evaluated with."""
        return {
            **{name: str(value) for name, value in default_environment().items()},
            "python_version": self.python,
            "python_full_version": PYTHONS[self.python],
            "implementation_version": PYTHONS[self.python],
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "platform_machine": self.machine,
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
            "extra": "",
        }


TARGETS = tuple(Target(python, machine, libc) for libc in PLATFORMS for machine in MACHINES for python in PYTHONS)


@dataclass(frozen=True)
class Wheel:
    """A file of a bundle; ``name`` as a wheel is named."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class TargetFiles:
    """What a target takes. ``libc``: the oldest version of its C library that all the wheels run on, such as "2.17"."""

    libc: str
    wheels: list[Wheel]


@dataclass(frozen=True)
class Bundle:
    """What ``bundle.json`` says. ``version`` names the content: the agent's, and a hash; ``requires``: what was asked for."""

    agent: str
    version: str
    requires: list[str]
    targets: dict[str, TargetFiles] = field(default_factory=dict)
    format: int = FORMAT

    def text(self) -> bytes:
        """The file, always the same for the same content."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.text()).hexdigest()

    @property
    def files(self) -> dict[str, Wheel]:
        """All wheels by SHA-256."""
        return {wheel.sha256: wheel for target in self.targets.values() for wheel in target.wheels}


def read(folder: Path) -> Bundle | None:
    """The bundle in ``folder``, None if there is none. Raises BundleError for a damaged one."""
    path = folder / MANIFEST
    try:
        table = json.loads(path.read_bytes())
        if table["format"] != FORMAT:
            raise BundleError(f"{path} is of format {table['format']}; this version knows {FORMAT}: make it anew")
        targets = {
            name: TargetFiles(one["libc"], [Wheel(**wheel) for wheel in one["wheels"]])
            for name, one in table["targets"].items()
        }
        return Bundle(table["agent"], table["version"], table["requires"], targets)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} cannot be read ({error}); remove it and run: ezadmin-cmdb agent bundle") from error


# -- our own wheels ---


def pack(name: str) -> tuple[str, bytes]:
    """The wheel of an installed distribution of ours: file name and bytes, the same each time.

    Made of the package as it is imported here, so from a checkout (editable) as from a deployment, without a build.
    Raises BundleError if it is not installed.
    """
    package = name.replace("-", "_")
    try:
        distribution = importlib.metadata.distribution(name)
        spec = importlib.util.find_spec(package)
    except importlib.metadata.PackageNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise BundleError(f"{name} is not installed in {sys.prefix}; run there: python -m pip install {name}")
    root = Path(next(iter(spec.submodule_search_locations)))
    contents = {
        f"{package}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
    }
    info = f"{package}-{distribution.version}.dist-info"
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: ezadmin\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    for file in ("METADATA", "entry_points.txt"):
        text = distribution.read_text(file)
        if text is not None:
            contents[f"{info}/{file}"] = text.encode()
    lines = [f"{path},sha256={_record_hash(data)},{len(data)}" for path, data in sorted(contents.items())]
    contents[f"{info}/RECORD"] = ("\n".join([*lines, f"{info}/RECORD,,"]) + "\n").encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, data in sorted(contents.items()):
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
    return f"{package}-{distribution.version}-py3-none-any.whl", out.getvalue()


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def requirements() -> list[str]:
    """What agent and wire ask for, as their own wheels say; without each other and without extras."""
    found = set()
    for name in OWN:
        for text in importlib.metadata.requires(name) or []:
            one = Requirement(text)
            if canonicalize_name(one.name) not in OWN and not (one.marker and "extra" in str(one.marker)):
                found.add(text)
    return sorted(found)


# -- the wheels of others ---


Download = Callable[[Target, Sequence[str], Path], None]
"""Fetches the wheels of requirements, without what they depend on, for a target into a folder."""


def pip_download(target: Target, wanted: Sequence[str], folder: Path) -> None:
    """By pip, from the index that it is set up for. Raises BundleError with pip's own words."""
    python = target.python.replace(".", "")
    tags = [f"--platform={one}" for one in target.platforms] + [
        f"--abi={one}" for one in (f"cp{python}", "abi3", "none")
    ]
    command = [
        sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHONS[target.python]}", *tags,
        "-d", str(folder), *wanted,
    ]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.strip().splitlines() if "ERROR" in line] or done.stderr.splitlines()
        raise BundleError(f"{target.name}: pip has no wheels for {', '.join(wanted)}:\n" + "\n".join(said[-5:]))


def resolve(target: Target, wanted: Iterable[str], folder: Path, download: Download = pip_download) -> list[Path]:
    """The wheels that ``wanted`` and all that they depend on come to on ``target``.

    pip itself evaluates markers for the Python that runs it, not for the target's; so each round takes what the wheels of the
    round before ask for. Raises BundleError.
    """
    specifiers: dict[str, SpecifierSet] = {}
    have: dict[str, Path] = {}

    def ask(texts: Iterable[str]) -> None:
        for text in texts:
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate(target.environment()):
                name = canonicalize_name(one.name)
                specifiers[name] = specifiers.get(name, SpecifierSet()) & one.specifier

    ask(wanted)
    for _round in range(10):
        missing = {
            name: specifier
            for name, specifier in specifiers.items()
            if name not in have or parse_wheel_filename(have[name].name)[1] not in specifier
        }
        if not missing:
            return [have[name] for name in sorted(have)]
        for name in missing:
            have.pop(name, None)
        into = folder / f"{target.name}-{_round}"
        download(target, [f"{name}{specifier}" for name, specifier in sorted(missing.items())], into)
        for path in into.glob("*.whl"):
            have[canonicalize_name(parse_wheel_filename(path.name)[0])] = path
        for name in missing:
            if name not in have:
                raise BundleError(f"{target.name}: pip brought no wheel of {name}")
            ask(_requires(have[name]))
    raise BundleError(f"{target.name}: the requirements do not come to an end: {', '.join(sorted(specifiers))}")


def _requires(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [one for one in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one)]
        return Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []


def libc_needed(names: Iterable[str], libc: str) -> str:
    """The version of the C library ("2.17") that all these wheels run on: each says the oldest that it takes."""
    pattern = r"musllinux_(\d+)_(\d+)" if libc == "musl" else r"manylinux_(\d+)_(\d+)"
    needed = (1, 0) if libc == "musl" else (2, 0)
    for name in names:
        versions = [(int(major), int(minor)) for major, minor in re.findall(pattern, name)]
        versions += [(2, 17)] if libc == "glibc" and "manylinux2014" in name else []
        if versions:
            needed = max(needed, min(versions))
    return f"{needed[0]}.{needed[1]}"


# -- the whole ---


def build(
    folder: Path,
    targets: Sequence[Target] = TARGETS,
    *,
    refresh: bool = False,
    tell: Callable[[str], None] = lambda _text: None,
    download: Download = pip_download,
) -> Bundle:
    """Make the bundle in ``folder``, or bring the one there up to date; what it no longer needs is kept for those who ask.

    The wheels of others in the bundle before are kept as long as the same is required, unless ``refresh``: so a new agent
    brings no other changes with it. musl targets for which there are no wheels are left out, with a word. Raises BundleError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = None if refresh else read(folder)
    wanted = requirements()
    own = [_store(folder, *pack(name)) for name in OWN]
    kept: dict[str, list[Wheel]] = {}
    if before is not None and before.requires == wanted:
        kept = {
            name: [wheel for wheel in files.wheels if not wheel.name.startswith("ezadmin_")]
            for name, files in before.targets.items()
            if all((folder / wheel.sha256).exists() for wheel in files.wheels)
        }

    def wheels_of(target: Target, scratch: Path) -> list[Wheel] | None:
        if target.name in kept:
            return kept[target.name]
        try:
            found = resolve(target, wanted, scratch, download)
        except BundleError as error:
            if target.libc != "musl":
                raise
            tell(f"{target.name} is left out: {error}")
            return None
        wheels = [_store(folder, path.name, path.read_bytes()) for path in found]
        tell(f"{target.name}: {len(wheels)} wheels, {sum(wheel.size for wheel in wheels) / 1e6:.1f} MB")
        return wheels

    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(lambda target: wheels_of(target, Path(scratch)), targets))
    table = {
        target.name: TargetFiles(
            libc_needed([wheel.name for wheel in wheels], target.libc),
            sorted([*own, *wheels], key=lambda wheel: wheel.name),
        )
        for target, wheels in zip(targets, found, strict=True)
        if wheels is not None
    }
    agent = importlib.metadata.version("ezadmin-agent")
    content = json.dumps({name: asdict(one) for name, one in table.items()}, sort_keys=True)
    version = f"{agent}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    bundle = Bundle(agent, version, wanted, table)
    _store(folder, MANIFEST, bundle.text())
    _write(folder / MANIFEST, bundle.text())
    return bundle


def _store(folder: Path, name: str, data: bytes) -> Wheel:
    wheel = Wheel(name, hashlib.sha256(data).hexdigest(), len(data))
    if not (folder / wheel.sha256).exists():
        _write(folder / wheel.sha256, data)
    return wheel


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    os.chmod(name, 0o644)  # the gateway may run as another user
    os.replace(name, path)


def archive(folder: Path, bundle: Bundle, scripts: dict[str, bytes], target: str | None = None) -> bytes:
    """The offline archive (.tar.gz, the same bytes each time): ``scripts`` by name, the manifest and the files beside them.

    ``target``: with the wheels of that one only. Raises BundleError for one that the bundle does not have.
    """
    if target is not None and target not in bundle.targets:
        raise BundleError(f"the bundle has no target {target}; it has {', '.join(sorted(bundle.targets))}")
    wheels = bundle.targets[target].wheels if target else bundle.files.values()
    contents = {name: (data, 0o755) for name, data in scripts.items()}
    contents[MANIFEST] = (bundle.text(), 0o644)
    contents |= {f"files/{wheel.sha256}": ((folder / wheel.sha256).read_bytes(), 0o644) for wheel in wheels}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (data, mode) in sorted(contents.items()):
            entry = tarfile.TarInfo(f"ezadmin-agent-{bundle.version}/{name}")
            entry.size, entry.mode, entry.mtime = len(data), mode, 0
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), 6, mtime=0)


def here() -> Target:
    """The target of this machine and this Python. Raises BundleError if it is none."""
    libc = "glibc" if any(os.path.exists(f"/{one}/ld-linux-x86-64.so.2") for one in ("lib64", "lib")) else ""
    libc = libc or ("musl" if list(Path("/lib").glob("ld-musl-*")) else "glibc")
    found = Target(f"{sys.version_info[0]}.{sys.version_info[1]}", os.uname().machine, libc)
    if found not in TARGETS:
        raise BundleError(f"no bundle is made for {found.name}; there are {', '.join(one.name for one in TARGETS)}")
    return found


def shown(bundle: Bundle) -> dict[str, Any]:
    """What there is to say of a bundle: version, hash, megabytes of all files and of the largest target."""
    return {
        "version": bundle.version,
        "sha256": bundle.sha256,
        "targets": len(bundle.targets),
        "files": len(bundle.files),
        "mb": round(sum(wheel.size for wheel in bundle.files.values()) / 1e6, 1),
        "mb_of_a_host": round(max(sum(one.size for one in files.wheels) for files in bundle.targets.values()) / 1e6, 1),
    }
