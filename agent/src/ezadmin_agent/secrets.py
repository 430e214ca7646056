"""Secrets in command lines and configuration texts are replaced by ``***`` before anything leaves the host."""

from __future__ import annotations

import re
from collections.abc import Sequence

MASK = "***"
_WORD = (
    r"(?:passw(?:or)?d|passphrase|(?<![a-z])pass(?![a-z])|pwd|secret|token|credential"
    r"|api[_-]?key|access[_-]?key|private[_-]?key)"
)
_NAME = rf"[\w.\-]*{_WORD}[\w.\-]*"
_OPTION = re.compile(rf"--?{_NAME}", re.IGNORECASE)
_VALUE = r"\\\".*?\\\"|\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?|[^\s&;,\"']+"  # JSON within a text has escaped quotes
_ASSIGNED = re.compile(rf"({_NAME}\\?[\"']?\s*[=:]\s*)({_VALUE})", re.IGNORECASE)
_WHOLE = re.compile(rf"(-{{0,2}}{_NAME}=).+", re.IGNORECASE | re.DOTALL)
_SPACED = re.compile(rf"((?:^|\s)--?{_NAME}\s+)(\S+)", re.IGNORECASE)
_URL = re.compile(r"(\w://[^\s/:@]*:)[^\s@/]+@")
_SCHEME = re.compile(r"\b(bearer|basic)\s+[\w+/=.~\-]+", re.IGNORECASE)
# programs whose short option carries a secret, and whether it may also stand in the next argument
_SHORT = {
    "mysql": ("-p", False),
    "mysqldump": ("-p", False),
    "mysqladmin": ("-p", False),
    "mariadb": ("-p", False),
    "mariadb-dump": ("-p", False),
    "sshpass": ("-p", True),
    "curl": ("-u", True),
    "redis-cli": ("-a", True),
    "ldapsearch": ("-w", True),
    "smbclient": ("-U", True),
}


def mask_text(text: str) -> str:
    """``text`` without the values that names such as password or token are given, in URLs and in sign-in headers."""
    text = _ASSIGNED.sub(rf"\1{MASK}", text)
    text = _SPACED.sub(rf"\1{MASK}", text)
    text = _URL.sub(rf"\1{MASK}@", text)
    return _SCHEME.sub(rf"\1 {MASK}", text)


def mask_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line's arguments with the secrets masked; an option such as ``--password`` masks the next argument."""
    if not arguments:
        return []
    short, next_too = _SHORT.get(arguments[0].rpartition("/")[2], ("", False))
    masked = []
    hide = False
    for number, argument in enumerate(arguments):
        if hide:
            masked.append(MASK)
            hide = False
            continue
        if number and short and argument.startswith(short) and len(argument) > len(short):
            masked.append(short + MASK)
            continue
        hide = number > 0 and (_OPTION.fullmatch(argument) is not None or (next_too and argument == short))
        whole = _WHOLE.fullmatch(argument)  # an argument ends where the shell says, whatever stands in it
        masked.append(whole[1] + MASK if whole else argument if len(argument) < 4 else mask_text(argument))
    return masked
