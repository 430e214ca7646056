#!/bin/sh
# Installs ezadmin's agent on this host, or brings it up to date: sh install.sh --help
# Needs nothing but this script and Python 3.9 or newer. Everything that it downloads is checked against a SHA-256 that
# stands here before anything of it is used. The whole is one function, called on the last line: half a script does nothing.
# shellcheck shell=sh
set -u

ezadmin_python() {
    for candidate in ${EZADMIN_PYTHON:+"$EZADMIN_PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 python3.9 \
        /usr/bin/python3 /usr/local/bin/python3; do
        if "$candidate" -I -c 'import sys, ssl, zipfile, json, ctypes
sys.exit(not ((3, 9, 2) <= sys.version_info[:3] < (3, 14)))' </dev/null >/dev/null 2>&1; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

ezadmin_no_python() {
    {
        echo "install.sh: the agent needs Python 3.9 to 3.13, whole (with ssl); found: $(python3 --version 2>&1 || echo none)"
        if command -v apt-get >/dev/null 2>&1; then
            echo "install.sh: what to do: apt-get install python3   (Ubuntu 20.04: apt-get install python3.9)"
        elif command -v dnf >/dev/null 2>&1; then
            echo "install.sh: what to do: dnf install python3.11   (where there is none: dnf install python39)"
        elif command -v zypper >/dev/null 2>&1; then
            echo "install.sh: what to do: zypper install python311"
        elif command -v apk >/dev/null 2>&1; then
            echo "install.sh: what to do: apk add python3"
        elif command -v yum >/dev/null 2>&1; then
            echo "install.sh: what to do: yum install python3.11, from a repository that has one"
        else
            echo "install.sh: what to do: install Python 3.9 or newer"
        fi
        echo "install.sh: or name one that is elsewhere: EZADMIN_PYTHON=/path/to/python3"
    } >&2
}

ezadmin_install() {
    if [ -n "${EZADMIN_PYTHON:-}" ] && ! [ -x "$(command -v "$EZADMIN_PYTHON" 2>/dev/null)" ]; then
        echo "install.sh: EZADMIN_PYTHON=$EZADMIN_PYTHON is no program; what to do: mend the path, or leave it away" >&2
        exit 1
    fi
    python=$(ezadmin_python) || {
        ezadmin_no_python
        exit 1
    }
    here=
    case $0 in
    */install.sh) here=$(CDPATH='' cd -- "$(dirname -- "$0")" 2>/dev/null && pwd -P) || here= ;;
    install.sh) here=$(pwd -P) ;;
    esac
    "$python" -I - "$here" "$@" <<'EZADMIN_INSTALLER'
@INSTALLER@
EZADMIN_INSTALLER
}

ezadmin_install "$@"
