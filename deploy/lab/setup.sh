# shellcheck shell=bash
# Sourced by deploy/lab/run, tests/run and .ci/run: puts in place what a build, the lab and the
# checks need, only what is missing, and says nothing when nothing is missing.
# Sets: postern_root (the checkout), postern_target (cargo's target folder).

postern_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Where the tools of the lab are for everyone, not only for root.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:$HOME/.cargo/bin
export PATH

# One line to the user, then the end: 2 means "could not run".
postern_give_up() {
    echo "postern: $*" >&2
    exit 2
}

postern_as_root() {
    if ((EUID == 0)); then
        "$@"
    elif [[ -t 0 ]]; then
        sudo "$@"
    else
        sudo -n "$@" # nobody is there to type a password
    fi
}

# Installs the Debian packages named, or says which they are.
postern_install() {
    local log
    log=$(mktemp)
    echo "postern: installing $*" >&2
    if ! {
        command -v apt-get &&
            postern_as_root apt-get -qq -o DPkg::Lock::Timeout=300 update &&
            postern_as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
                -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
    } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        rm -f "$log"
        postern_give_up "cannot install what is missing; as root: apt-get install $*"
    fi
    rm -f "$log"
}

# postern_need COMMAND PACKAGE ...: each command that is not there is installed with its package.
postern_need() {
    local missing=()
    while (($# > 1)); do
        command -v "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    if ((${#missing[@]})); then
        postern_install "${missing[@]}"
    fi
}

# The compiler's side: cargo, and C and C++ for the few crates that bring C sources.
postern_setup_build() {
    command -v cargo >/dev/null ||
        postern_give_up "no cargo found; install a Rust toolchain (edition 2024) first"
    postern_need cc gcc c++ g++ make make cmake cmake
    postern_target=$(cd "$postern_root" && cargo metadata --no-deps --format-version 1 |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    [[ -n $postern_target ]] || postern_give_up "cargo metadata names no target folder"
}

# The lab's side: namespaces, steering, and the clients a person uses from a SIM's shell.
postern_setup_lab() {
    postern_need ip iproute2 nft nftables unshare util-linux nsenter util-linux sysctl procps \
        conntrack conntrack curl curl openssl openssl kdig knot-dnsutils
}

# The checkers of shipped files, tcpdump to record a journey, and dnspython and tshark, which judge the
# resolver's answers. promtool comes out of its package
# alone: installing the package would start a Prometheus server.
postern_setup_checks() {
    postern_need systemd-analyze systemd tcpdump tcpdump radclient freeradius-utils \
        redis-server redis-server tshark tshark freeradius freeradius faketime faketime
    # The system's Python, for which it is packaged; another one may come first in the path.
    /usr/bin/python3 -c 'import dns.message' 2>/dev/null || postern_install python3-dnspython
    local tools=$postern_target/tools
    PATH=$tools:$PATH
    command -v promtool >/dev/null && return
    echo "postern: fetching promtool" >&2
    local work
    work=$(mktemp -d)
    chmod 755 "$work" # apt's own user writes here
    if ! (
        cd "$work" &&
            { apt-get -qq download prometheus ||
                { postern_as_root apt-get -qq update && apt-get -qq download prometheus; }; } &&
            dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool &&
            mkdir -p "$tools" &&
            mv usr/bin/promtool "$tools/promtool"
    ) >"$work/log" 2>&1; then
        tail -n 5 "$work/log" >&2
        rm -rf "$work"
        postern_give_up "cannot fetch promtool; as root: apt-get install prometheus"
    fi
    rm -rf "$work"
}
