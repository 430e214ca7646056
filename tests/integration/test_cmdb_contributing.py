"""The worked example of CONTRIBUTING.md: its pieces are put into a copy of the cmdb, and the inherited tests run on it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)
COMPARE = """
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ezadmin_cmdb import migrate
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.database import Base, db
from ezadmin_cmdb.datacenter.vendors import Vendor
from ezadmin_cmdb.settings import KafkaConnection, Settings

app = create_core(Settings(database=sys.argv[1], kafka=KafkaConnection("127.0.0.1:1"), config_signing_key=Path("none")))
with app.app_context():
    migrate.upgrade(db.engine)
    migrate.downgrade(db.engine, "-1")
    assert migrate.current(db.engine) == sys.argv[2]
    migrate.upgrade(db.engine)
    with db.engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)
    wrong = [one for one in found if "vendors" in str(one)]
    assert wrong == [], wrong
    assert db.session.query(Vendor).count() == 0
    db.session.remove()
    migrate.downgrade(db.engine, "base")
    db.engine.dispose()
"""


def test_the_example_of_a_model_works(stack: Any, database: str, tmp_path: Path) -> None:
    document = (ROOT / "CONTRIBUTING.md").read_text()
    blocks, (korean,) = dict(BLOCK.findall(document)), re.findall(r"```po\n(.*?)```", document, re.DOTALL)
    assert len(blocks) == 4, sorted(blocks)
    copy_of_the_package(tmp_path)
    newest = put_in(tmp_path, blocks)
    with (tmp_path / "cmdb/src/ezadmin_cmdb/translations/ko/LC_MESSAGES/messages.po").open("a") as catalogue:
        catalogue.write(f"\n{korean}")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "cmdb/src"), os.environ.get("PYTHONPATH", "")]),
        "EZADMIN_TEST_STACK": str(stack.state / "stack.json"),
    }

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
        return done.stdout

    assert str(tmp_path) in run("-c", "import ezadmin_cmdb.datacenter.vendors as made; print(made.__file__)")
    said = subprocess.run([sys.executable, "cmdb/tools/translations.py"], cwd=tmp_path, capture_output=True, text=True)
    assert not [
        word for word in ("Vendor", "Grade", "Discount", "First", "Traceback") if word in said.stdout + said.stderr
    ]
    run("-c", COMPARE, database, newest)
    tried = run(
        "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/integration/test_cmdb_described.py",
        "-k", "vendor",
    )  # fmt: skip
    passed = set(re.findall(r"::(test_\w+)\S* PASSED", tried))
    assert passed >= {
        "test_pages", "test_every_filter_finds_what_it_says", "test_every_sort", "test_forms",
        "test_api", "test_csv",
    }, tried  # fmt: skip
    for tool in ("check", "format"):
        words = [
            "-m",
            "ruff",
            tool,
            *(["--check"] if tool == "format" else []),
            *(name for name in blocks if "vendors" in name),
        ]
        run(*[word.replace("NEXT", "9999") for word in words])


def copy_of_the_package(folder: Path) -> None:
    """What the inherited tests need, and nothing else."""
    for name in ("cmdb/src", "cmdb/tools", "tests/support"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / "tests/integration").mkdir()
    for name in ("pyproject.toml", "tests/conftest.py", "tests/integration/test_cmdb_described.py"):
        shutil.copy(ROOT / name, folder / name)


def put_in(folder: Path, blocks: dict[str, str]) -> str:
    """Put the pieces where they belong; returns the newest revision before."""
    versions = folder / "cmdb/src/ezadmin_cmdb/migrations/versions"
    newest = max(one.name.partition("_")[0] for one in versions.glob("[0-9]*.py"))
    for name, text in blocks.items():
        if "vendors" in name:
            (folder / name.replace("NEXT", "9999")).write_text(text.replace("NEXT", "9999").replace("NEWEST", newest))
    app = folder / "cmdb/src/ezadmin_cmdb/app.py"
    text = put_before(app.read_text(), "from ezadmin_cmdb.describe import ", blocks["cmdb/src/ezadmin_cmdb/app.py"])
    app.write_text(put_before(text, "    _users,\n", "    _vendors,\n"))
    described = folder / "tests/support/ezadmin_testing/described.py"
    sample = blocks["tests/support/ezadmin_testing/described.py"]
    described.write_text(put_before(described.read_text(), '    "user": Sample(', sample))
    return newest


def put_before(text: str, place: str, piece: str) -> str:
    assert place in text, place
    return text.replace(place, piece + place, 1)
