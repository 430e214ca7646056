"""The agent's bundle: what each kind of host takes, the same bytes each time; and the scripts made for it."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from ezadmin_cmdb import install
from ezadmin_cmdb.install import BundleError, Downloads, bundle, one_liner, scripts
from ezadmin_cmdb.install.bundle import Target

OLD, NEW = Target("3.9", "x86_64", "glibc"), Target("3.13", "aarch64", "musl")


class Index:
    """A package index: name -> [(file name, what it requires)]; remembers what it was asked for."""

    def __init__(self, **packages: tuple[str, list[str]]) -> None:
        self.packages = packages
        self.asked: list[tuple[str, list[str]]] = []

    def __call__(self, target: Target, wanted: Sequence[str], folder: Path) -> None:
        self.asked.append((target.name, list(wanted)))
        folder.mkdir(parents=True)
        for text in wanted:
            name = text.split(">")[0].split("<")[0].split("=")[0].split("!")[0]
            if name not in self.packages:
                raise BundleError(f"no wheel of {name}")
            file, requires = self.packages[name]
            with zipfile.ZipFile(folder / file, "w") as wheel:
                lines = "".join(f"Requires-Dist: {one}\n" for one in requires)
                wheel.writestr(f"{name}-1.dist-info/METADATA", f"Name: {name}\n{lines}\n")


PACKAGES = {
    "psutil": ("psutil-7.2-cp36-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", []),
    "crc32c": ("crc32c-2.9-cp39-cp39-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl", []),
    "cryptography": (
        "cryptography-50.0-cp39-abi3-manylinux_2_17_x86_64.whl",
        ["cffi>=2; platform_python_implementation != 'PyPy'", "typing-extensions>=4; python_full_version < '3.11'",
         "nox; extra == 'nox'"],
    ),
    "cffi": ("cffi-2.0-py3-none-any.whl", ["pycparser; implementation_name != 'PyPy'"]),
    "pycparser": ("pycparser-2.23-py3-none-any.whl", []),
    "typing-extensions": ("typing_extensions-4.16-py3-none-any.whl", []),
    "kafka-python": ("kafka_python-3.0.12-py3-none-any.whl", []),
    "tomli": ("tomli-2.5-py3-none-any.whl", []),
}  # fmt: skip


def test_markers_are_those_of_the_host_not_of_this_python(tmp_path: Path) -> None:
    wanted = ["cryptography>=41", 'tomli>=2; python_version < "3.11"']
    old = [path.name.partition("-")[0] for path in bundle.resolve(OLD, wanted, tmp_path, Index(**PACKAGES))]
    new = [path.name.partition("-")[0] for path in bundle.resolve(NEW, wanted, tmp_path, Index(**PACKAGES))]
    assert old == ["cffi", "cryptography", "pycparser", "tomli", "typing_extensions"]
    assert new == ["cffi", "cryptography", "pycparser"]


def test_what_a_wheel_asks_for_holds_for_what_is_there_already(tmp_path: Path) -> None:
    packages = {**PACKAGES, "a": ("a-1-py3-none-any.whl", ["b>=2"]), "b": ("b-1-py3-none-any.whl", [])}
    index = Index(**packages)
    with pytest.raises(BundleError, match="do not come to an end"):
        bundle.resolve(OLD, ["a", "b"], tmp_path, index)
    assert ("cp39-x86_64-glibc", ["b>=2"]) in index.asked


@pytest.mark.parametrize(
    ("names", "libc", "needed"),
    [
        (["a-1-py3-none-any.whl"], "glibc", "2.0"),
        (["a-1-cp39-abi3-manylinux2014_x86_64.whl"], "glibc", "2.17"),
        (["a-1-cp39-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl"], "glibc", "2.17"),
        (["a-1-cp39-abi3-manylinux_2_28_x86_64.whl", "b-1-cp39-abi3-manylinux_2_17_x86_64.whl"], "glibc", "2.28"),
        (["a-1-cp39-abi3-musllinux_1_2_x86_64.whl"], "musl", "1.2"),
    ],
)
def test_the_c_library_that_all_wheels_run_on(names: list[str], libc: str, needed: str) -> None:
    assert bundle.libc_needed(names, libc) == needed


@pytest.mark.parametrize("name", bundle.OWN)
def test_our_own_wheels_are_wheels(tmp_path: Path, name: str) -> None:
    file, data = bundle.pack(name)
    assert (file, data) == bundle.pack(name)
    (tmp_path / file).write_bytes(data)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", "out", f"./{file}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    package = name.replace("-", "_")
    assert (tmp_path / "out" / package / "py.typed").exists()
    assert not [
        path for path in zipfile.ZipFile(io.BytesIO(data)).namelist() if path.endswith(".pyc") or "/tests/" in path
    ]


def test_a_bundle_is_the_same_each_time_and_keeps_what_it_has(tmp_path: Path) -> None:
    index = Index(**PACKAGES)
    first = bundle.build(tmp_path / "a", [OLD, NEW], download=index)
    asked = len(index.asked)
    assert bundle.build(tmp_path / "a", [OLD, NEW], download=index) == first
    assert len(index.asked) == asked, "an update of the agent asks the index for nothing"
    assert bundle.read(tmp_path / "a") == first
    assert bundle.build(tmp_path / "b", [OLD, NEW], download=Index(**PACKAGES)).targets.keys() == first.targets.keys()
    bundle.build(tmp_path / "a", [OLD, NEW], refresh=True, download=index)
    assert len(index.asked) > asked
    for sha256, wheel in first.files.items():
        data = (tmp_path / "a" / sha256).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, wheel.size)
    assert hashlib.sha256((tmp_path / "a" / first.sha256).read_bytes()).hexdigest() == first.sha256
    assert first.targets[OLD.name].libc == "2.24"


def test_a_musl_without_wheels_is_left_out_and_a_glibc_is_not(tmp_path: Path) -> None:
    said: list[str] = []

    def download(target: Target, wanted: Sequence[str], folder: Path) -> None:
        if target.libc == "musl":
            raise BundleError("no wheels")
        Index(**PACKAGES)(target, wanted, folder)

    made = bundle.build(tmp_path, [OLD, NEW], download=download, tell=said.append)
    assert set(made.targets) == {OLD.name}
    assert f"{NEW.name} is left out: no wheels" in said
    with pytest.raises(BundleError, match="no wheel of"):
        bundle.build(tmp_path / "new", [OLD], download=Index())
    assert not (tmp_path / "new" / bundle.MANIFEST).exists()


def test_downloads_follow_the_bundle(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path, "https://gw:8443/", None)
    assert downloads.public() == frozenset()
    with pytest.raises(BundleError, match="agent bundle"):
        downloads.document("install.sh")
    made = bundle.build(tmp_path, [OLD], download=Index(**PACKAGES))
    assert downloads.public() == {made.sha256, *made.files}
    script = downloads.document("install.sh")
    assert made.sha256.encode() in script
    assert b"'https://gw:8443'" in script
    assert script == scripts(tmp_path, "https://gw:8443", None).install
    (tmp_path / bundle.MANIFEST).write_text("{}")
    with pytest.raises(BundleError, match="cannot be read"):
        downloads.document("bundle.json")


def test_the_line_checks_before_it_runs(tmp_path: Path) -> None:
    bundle.build(tmp_path, [OLD], download=Index(**PACKAGES))
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    found = scripts(tmp_path, "https://gw:8443", tmp_path / "ca.pem")
    line = one_liner(found, "ezt1.abc")
    assert line.index(found.sha256) < line.index("sha256sum -c") < line.index(' sh "$f"')
    assert "curl -fsSk " in line
    assert "--no-check-certificate" in one_liner(found, "ezt1.abc", tool="wget")
    assert "-fsSk" not in one_liner(scripts(tmp_path, "https://gw:8443", None), "ezt1.abc"), (
        "a public authority is checked"
    )
    assert "EZADMIN_TOKEN='a b' sh " in one_liner(found, "a b")


def test_every_script_is_a_posix_shells(tmp_path: Path) -> None:
    bundle.build(tmp_path, [OLD], download=Index(**PACKAGES))
    made = scripts(tmp_path, "https://gw:8443", None)
    folder = Path(install.__file__).parent / "host"
    for name, text in {
        "install.sh": made.install,
        **{one.name: one.read_bytes() for one in folder.glob("*.sh")},
    }.items():
        done = subprocess.run(["sh", "-n"], input=text, capture_output=True)
        assert done.returncode == 0, (name, done.stderr)
        if shutil.which("shellcheck") and name != "openrc.sh":  # which is for a shell of its own
            judged = subprocess.run(["shellcheck", "-s", "sh", "-"], input=text, capture_output=True)
            assert judged.returncode == 0, (name, judged.stdout.decode())
