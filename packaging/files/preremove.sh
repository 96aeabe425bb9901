#!/bin/sh
# Before the files go. $1 is "remove" or "upgrade" of dpkg, or how many versions rpm will have.
set -e
case $1 in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now firth.service || true
	elif command -v systemctl >/dev/null; then
		systemctl disable firth.service >/dev/null 2>&1 || true
	fi
	;;
esac
