# What `make test-arm` does in a tree of another processor: `inside.sh install`, then `inside.sh update`.
cd /root

wait_for() { # wait_for SECONDS COMMAND...
	left=$1
	shift
	until "$@"; do
		left=$((left - 1))
		[ "$left" -gt 0 ] || {
			echo "waited in vain for: $*" >&2
			cat gatewayd.log >&2
			exit 1
		}
		sleep 1
	done
}
says() { grep -q "$1" gatewayd.log; }

case $1 in
install)
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y install /root/*.deb >apt.log 2>&1 || {
		cat apt.log >&2
		exit 1
	}
	gatewayctl check-config >&2
	gatewayd-web --version >&2
	echo "$(dpkg --print-architecture), $(uname -m): $(gatewayd --version), $(python3 --version)"
	;;
update)
	export GATEWAYD_SOCKET=/root/control.sock
	mosquitto -p 1883 >mosquitto.log 2>&1 &
	gatewayctl keygen -o ota.key
	cat >config.yaml <<-'END_OF_CONFIG'
		gateway: {id: barn-pi, state_dir: /root/state, control_socket: /root/control.sock}
		mqtt: {host: 127.0.0.1}
		keys:
		  pump: {decrypt_key_file: decrypt.key.bin, verify_key_file: verify.key.bin}
		devices:
		  - name: pump-1
		    app_id: pump
		    version: "4.3.1"
		    payload: advanced
		    keys: pump
		    link: {uart: /root/pump-1}
	END_OF_CONFIG
	gatewayd --config config.yaml >gatewayd.log 2>&1 &
	gateway=$!
	wait_for 120 test -e control.sock
	head -c 100000 /dev/urandom >rom.bin
	gatewayctl pack --key ota.key -o pump.ota 0x2000=rom.bin
	gatewayctl publish --config config.yaml --app pump --version 4.3.2 pump.ota
	wait_for 300 says '"event": *"succeeded"'
	gatewayctl devices pump-1 >devices
	grep -q '4\.3\.2 *4\.3\.2' devices || { cat devices >&2; exit 1; }
	kill $gateway
	wait $gateway
	sed -n 2p devices
	;;
esac
