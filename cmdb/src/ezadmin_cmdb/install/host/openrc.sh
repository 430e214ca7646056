#!/sbin/openrc-run
description="ezadmin agent: metrics, events and inventory of this host"

depend() {
    need localmount
    after net clock
}

start() {
    ebegin "Starting ezadmin-agent"
    @SCRIPT@ start
    eend $?
}

stop() {
    ebegin "Stopping ezadmin-agent"
    @SCRIPT@ stop
    eend $?
}
