#!/bin/sh
# After the files are there. $1 is "configure" of dpkg, or how many versions rpm will have.
set -e
if ! getent passwd firth >/dev/null; then
	if command -v systemd-sysusers >/dev/null; then
		systemd-sysusers firth.conf
	else
		useradd --system --user-group --home-dir /var/lib/firth --no-create-home --shell /usr/sbin/nologin firth
	fi
fi
# As the unit would: also for those who start it without systemd.
if [ ! -d /var/lib/firth ]; then
	mkdir -m 0700 /var/lib/firth
	chown firth:firth /var/lib/firth
fi
case $1 in
configure)
	first=no
	if [ -z "$2" ]; then first=yes; fi
	;;
1) first=yes ;;
*) first=no ;;
esac
if command -v systemctl >/dev/null; then
	if [ $first = yes ]; then systemctl preset firth.service >/dev/null 2>&1 || true; fi
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload || true
		start=systemctl
		if command -v deb-systemd-invoke >/dev/null; then start=deb-systemd-invoke; fi # heeds policy-rc.d
		if [ $first = no ]; then
			$start try-restart firth.service || true
		elif systemctl is-enabled --quiet firth.service; then
			$start start firth.service || true
		fi
	fi
fi
