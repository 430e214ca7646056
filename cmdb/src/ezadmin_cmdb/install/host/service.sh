#!/bin/sh
# Starts, stops and keeps ezadmin's agent where there is no systemd: ezadmin-agent-service start|stop|restart|status
# Written by install.sh.
# shellcheck shell=sh
agent='@AGENT@'
config='@CONFIG@'
state='@STATE@'
pidfile=$state/service.pid
log=$state/agent.log

keeper() {
    # the process that keeps the agent, if it is there and ours: a number alone may be another's by now
    pid=$(cat "$pidfile" 2>/dev/null) || return 1
    [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q 'ezadmin-agent-service keep'
}

start() {
    if keeper; then
        echo "ezadmin-agent runs already (kept by $pid)"
        return 0
    fi
    # a session of its own, so that it does not end with the terminal
    if command -v setsid >/dev/null 2>&1; then
        setsid "$0" keep </dev/null >/dev/null 2>&1 &
    else
        nohup "$0" keep </dev/null >/dev/null 2>&1 &
    fi
    tries=50
    while ! keeper && [ $tries -gt 0 ]; do
        tries=$((tries - 1))
        sleep 0.1 2>/dev/null || sleep 1
    done
    keeper || { echo "ezadmin-agent: does not start; see $log" >&2; return 1; }
}

stop() {
    keeper || return 0
    kill "$pid" 2>/dev/null
    tries=200
    while keeper && [ $tries -gt 0 ]; do
        tries=$((tries - 1))
        sleep 0.1 2>/dev/null || sleep 1
    done
    keeper || return 0
    echo "ezadmin-agent: process $pid does not end" >&2
    return 1
}

keep() {
    umask 077
    echo $$ >"$pidfile"
    child=
    trap 'trap "" TERM; [ -z "$child" ] || { kill "$child"; wait "$child"; } 2>/dev/null; rm -f "$pidfile"; exit 0' TERM INT
    while :; do
        "$agent" run --config "$config" >>"$log" 2>&1 &
        child=$!
        while kill -0 "$child" 2>/dev/null; do
            sleep 5 &
            wait $!
            if [ "$(wc -c <"$log")" -gt 10000000 ]; then
                cp "$log" "$log.1"
                : >"$log"
            fi
        done
    done
}

case ${1:-} in
start) start ;;
stop) stop ;;
restart) stop && start ;;
status) if keeper; then echo "runs (kept by $pid)"; else echo "does not run"; exit 3; fi ;;
keep) keep ;;
*) echo "usage: $0 start|stop|restart|status" >&2; exit 2 ;;
esac
