#!/bin/sh
### BEGIN INIT INFO
# Provides:          ezadmin-agent
# Required-Start:    $remote_fs $syslog $network
# Required-Stop:     $remote_fs $syslog $network
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: ezadmin agent
### END INIT INFO
# chkconfig: 2345 90 10
# description: ezadmin agent: metrics, events and inventory of this host
exec @SCRIPT@ "$@"
