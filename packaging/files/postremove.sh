#!/bin/sh
# After the files are gone. The data in /var/lib/firth stays, and so does the user that it belongs to: also when dpkg
# purges the configuration.
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
