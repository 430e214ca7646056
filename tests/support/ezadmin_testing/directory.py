"""Debian's slapd with a few people in it, on a free port."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SUFFIX = "dc=example,dc=com"
ADMIN, SECRET = f"cn=admin,{SUFFIX}", "directory secret"


class Slapd:
    """A running directory; stopped by :meth:`stop`. ``certificate``, ``key``: for TLS."""

    def __init__(self, folder: Path, certificate: Path | None = None, key: Path | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"ldap://127.0.0.1:{self.port}"
        data = folder / "data"
        data.mkdir()
        tls = f"TLSCertificateFile {certificate}\nTLSCertificateKeyFile {key}\n" if certificate else ""
        config = folder / "slapd.conf"
        config.write_text(
            "".join(f"include /etc/ldap/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson"))
            + f"modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload memberof\npidfile {folder}/slapd.pid\n{tls}"
            + f'database mdb\nmaxsize 10485760\nsuffix "{SUFFIX}"\nrootdn "{ADMIN}"\nrootpw "{SECRET}"\ndirectory {data}\n'
            + "overlay memberof\naccess to attrs=userPassword by anonymous auth by * none\naccess to * by users read by * none\n"
        )
        self._log = (folder / "slapd.log").open("wb")
        command = ["/usr/sbin/slapd", "-f", str(config), "-h", self.url, "-d", "0"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                break
            except OSError:
                assert self._process.poll() is None, (folder / "slapd.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def fill(self, people: dict[str, str], groups: dict[str, list[str]]) -> None:
        """Add people (uid: password) and groups (cn: uids)."""
        with self._admin() as connection:
            connection.add(SUFFIX, ["dcObject", "organization"], {"o": "Example"})
            for part in ("people", "groups"):
                connection.add(f"ou={part},{SUFFIX}", ["organizationalUnit"])
            for uid, password in people.items():
                given = {"cn": uid, "sn": uid, "uid": uid, "userPassword": password}
                connection.add(f"cn={uid},ou=people,{SUFFIX}", ["inetOrgPerson"], given)
            for cn, uids in groups.items():
                members = [f"cn={uid},ou=people,{SUFFIX}" for uid in uids]
                connection.add(f"cn={cn},ou=groups,{SUFFIX}", ["groupOfNames"], {"member": members})

    def remove_member(self, group: str, uid: str) -> None:
        """Take somebody out of a group."""
        from ldap3 import MODIFY_DELETE

        with self._admin() as connection:
            change = {"member": [(MODIFY_DELETE, [f"cn={uid},ou=people,{SUFFIX}"])]}
            assert connection.modify(f"cn={group},ou=groups,{SUFFIX}", change), connection.result

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        from ldap3 import Connection, Server

        connection = Connection(Server(self.url), ADMIN, SECRET, auto_bind=True)
        try:
            yield connection
        finally:
            connection.unbind()

    def stop(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(10)
        self._log.close()
