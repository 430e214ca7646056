#!/bin/sh
# Removes ezadmin's agent from this host: sh uninstall.sh [--keep-state] [--prefix DIR] [--dry-run]
# Reads what install.sh noted in PREFIX/installed, and removes that and nothing else. In the web application the host stays,
# silent, until a person retires it: a host cannot say that it is gone, else whoever took it over could.
# shellcheck shell=sh
set -u

ezadmin_do() {
    echo "${dry:+would run: }$*"
    [ -n "$dry" ] || "$@" </dev/null
}

ezadmin_of() {
    sed -n "s/^$1=//p" "$prefix/installed" | head -n 1
}

ezadmin_uninstall() {
    dry='' keep='' prefix=''
    while [ $# -gt 0 ]; do
        case $1 in
        --dry-run) dry=yes ;;
        --keep-state) keep=yes ;;
        --prefix=*) prefix=${1#*=} ;;
        --prefix)
            [ $# -gt 1 ] || { echo "uninstall.sh: --prefix needs a folder" >&2; exit 2; }
            prefix=$2
            shift
            ;;
        -h | --help)
            echo "usage: uninstall.sh [--keep-state] [--prefix DIR] [--dry-run]"
            echo "  --keep-state  keep settings, identity and spool: a later install goes on as the same host"
            exit 0
            ;;
        *) echo "uninstall.sh: unknown option $1; see --help" >&2; exit 2 ;;
        esac
        shift
    done
    if [ -z "$prefix" ]; then
        here=$(CDPATH='' cd -- "$(dirname -- "$0")" 2>/dev/null && pwd -P) || here=
        if [ -f "$here/installed" ]; then
            prefix=$here
        elif [ "$(id -u)" = 0 ]; then
            prefix=/opt/ezadmin-agent
        else
            prefix=$HOME/.local/share/ezadmin-agent
        fi
    fi
    if [ ! -f "$prefix/installed" ]; then
        echo "uninstall.sh: no agent is installed in $prefix: there is no $prefix/installed" >&2
        echo "uninstall.sh: what to do: name its folder with --prefix DIR; if there is none, there is nothing to do" >&2
        exit 1
    fi
    user=$(ezadmin_of user)
    if [ "$(id -u)" != "$user" ]; then
        echo "uninstall.sh: $prefix was installed by the user with id $user, you are $(id -u)" >&2
        echo "uninstall.sh: what to do: run it as that user" >&2
        exit 1
    fi
    config=$(ezadmin_of config) state=$(ezadmin_of state) service=$(ezadmin_of service) link=$(ezadmin_of link)
    files=$(ezadmin_of files) made=$(ezadmin_of made)
    script=$prefix/current/bin/ezadmin-agent-service
    host=$(cat "$state/host.id" 2>/dev/null)

    system=
    [ "$user" = 0 ] || system=--user
    case $service in
    systemd) ezadmin_do systemctl $system disable --now ezadmin-agent.service ;;
    openrc) ezadmin_do rc-update del ezadmin-agent default ;;
    cron)
        if crontab -l 2>/dev/null | grep -qF "$script"; then
            echo "${dry:+would }take the line of $script out of the crontab"
            # read whole before it is written: a crontab of which one pipe lost a part would be the user's loss
            rest=$(crontab -l | grep -vF "$script")
            if [ -n "$dry" ]; then
                :
            elif [ -n "$rest" ]; then
                printf '%s\n' "$rest" | crontab -
            else
                crontab -r
            fi
        fi
        ;;
    esac
    # also beside a service: it may have been started by hand
    [ ! -x "$script" ] || ezadmin_do "$script" stop

    IFS=:
    # shellcheck disable=SC2086
    set -- $files
    unset IFS
    for file in "$@"; do
        [ ! -e "$file" ] || ezadmin_do rm -f -- "$file"
    done
    case $service in
    systemd) ezadmin_do systemctl $system daemon-reload ;;
    init)
        if command -v update-rc.d >/dev/null 2>&1; then
            ezadmin_do update-rc.d ezadmin-agent remove
        elif command -v chkconfig >/dev/null 2>&1; then
            ezadmin_do chkconfig --del ezadmin-agent
        fi
        ;;
    esac
    case $(readlink "$link" 2>/dev/null) in
    "$prefix"/*) ezadmin_do rm -f -- "$link" ;;
    esac
    if [ -z "$keep" ]; then
        ezadmin_do rm -f -- "$config"
        # only a folder that is an agent's, whatever stands in the file
        if [ -f "$state/host.key" ] || [ -f "$state/status.json" ]; then
            ezadmin_do rm -rf -- "$state"
        elif [ -d "$state" ]; then
            ezadmin_do rmdir -- "$state" 2>/dev/null || echo "$state stays: it holds other things"
        fi
    else
        echo "kept: $config, $state"
    fi
    ezadmin_do rm -rf -- "$prefix/versions" "$prefix/current"
    ezadmin_do rm -f -- "$prefix/installed" "$prefix/uninstall.sh"

    # the folders that install.sh made, innermost first, if they are empty now
    IFS=:
    # shellcheck disable=SC2086
    set -- $made
    unset IFS
    for folder in "$@"; do
        [ ! -d "$folder" ] || [ -n "$dry" ] || rmdir -- "$folder" 2>/dev/null || echo "$folder stays: it is not empty"
    done
    if [ -n "$dry" ]; then
        echo "nothing was changed (--dry-run)"
    else
        echo "removed${host:+; in the web application host $host is silent from now on: retire it there}"
    fi
}

ezadmin_uninstall "$@"
