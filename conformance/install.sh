#!/usr/bin/env bash
# Installs from apt what tests need and is missing: install.sh GROUP...
#   build    a C compiler for the race detector, make, git, the certificates that downloads need
#   clients  mosquitto_pub, mosquitto_sub, mosquitto, kcat, ip, curl, openssl
#   packages what installs the .deb and looks at its unit
#   promtool what reads the rules of alerts
#   qemu     what runs binaries of other machines
#   paho-c   Eclipse Paho's C client
#   java     a JDK and Maven
#   balancers  HAProxy, nginx with its module stream
#   node     Node.js and npm
#   chromium a browser without a window
#   python   Python with venv
#   bench    what the laboratory needs: mosquitto and its clients, a JDK, Maven, matplotlib
# It asks nothing, and needs root or sudo only if something is missing.
set -euo pipefail

missing=()
need() { # need COMMAND PACKAGE...
	local command=$1
	shift
	command -v "$command" >/dev/null || missing+=("$@")
}

[[ " $* " != *" bench "* ]] || set -- "$@" clients java
for group in "$@"; do
	case $group in
	build)
		need gcc gcc libc6-dev
		need make make
		need git git
		[ -s /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
		;;
	clients)
		need mosquitto_pub mosquitto-clients
		need mosquitto mosquitto
		need kcat kcat
		need ip iproute2
		need curl curl
		need openssl openssl
		;;
	balancers)
		PATH=$PATH:/usr/sbin need haproxy haproxy
		[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing+=(nginx libnginx-mod-stream)
		;;
	packages)
		need ip iproute2
		need systemd-analyze systemd
		need dpkg dpkg
		;;
	promtool)
		need promtool prometheus
		;;
	qemu)
		need qemu-arm-static qemu-user-static
		;;
	paho-c)
		[ -e /usr/include/MQTTAsync.h ] || missing+=(libpaho-mqtt-dev)
		;;
	java)
		need javac default-jdk-headless
		need mvn maven
		;;
	node)
		need node nodejs
		need npm npm
		;;
	chromium)
		need chromium chromium fonts-dejavu-core
		;;
	python)
		need python3 python3
		python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
		;;
	bench)
		/usr/bin/python3 -c 'import matplotlib' 2>/dev/null || missing+=(python3-matplotlib)
		;;
	*)
		echo "install.sh: unknown group $group" >&2
		exit 2
		;;
	esac
done
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
		echo "these packages are missing and only root can install them: ${missing[*]}" >&2
		echo "run: sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
		exit 1
	fi
	root=(sudo -n)
fi
if ! command -v apt-get >/dev/null; then
	echo "there is no apt here; install by hand what is missing: ${missing[*]}" >&2
	exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A broker that a package brings must not start and take our port.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
	"${root[@]}" chmod 755 "$policy"
	trap '"${root[@]}" rm -f "$policy"' EXIT
fi
# Somebody else's apt may hold the lock for a while; a mirror that does not answer is asked again.
again=$(dirname "$0")/../.ci/again
apt=("${root[@]}" apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Acquire::http::Timeout=60
	-o Acquire::https::Timeout=60)
"$again" "${apt[@]}" update -o APT::Update::Error-Mode=any ||
	echo "install.sh: not every package list could be read; those that could may do" >&2
"$again" "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
