# shellcheck shell=bash
# What the tests need besides the workspace: packages, a Python with the peers, cargo-deny. Sourced, not run.
#
# What takes long is kept outside the clone, in a folder named after what is in it: a changed pin makes a new folder,
# and an old one is never half right.

setup=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cargo_deny_version=0.20.2
cache=${MUSTER_CACHE:-$HOME/.cache/muster}
cargo_deny="$cache/tools/cargo-deny-$cargo_deny_version/bin/cargo-deny"
requirements="$setup/requirements.txt"
venv="$cache/venv-$(sha256sum "$requirements" | cut -c1-16)"

install_test_packages() {
    local -a packages
    mapfile -t packages < <(sed 's/#.*//' "$setup/apt.txt" | awk 'NF { print $1 }')
    install_packages "${packages[@]}"
    echo "Debian packages: ${packages[*]}"
}

# `complete` is written last, so an interrupted installation is not taken for a whole one.
install_python() {
    if [ ! -x "$venv/bin/python" ] || [ ! -e "$venv/complete" ]; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --requirement "$requirements"
        "$venv/bin/python" -m pip check
        touch "$venv/complete"
    fi
    "$venv/bin/python" -c 'import cloudevents, datasketches, numpy, onnx, onnxruntime, sklearn, standardwebhooks, tritonclient.http, tuf, securesystemslib'
    echo "Python peers: $venv"
}

# A target directory that the caller chose is for the workspace, not for a tool. Optimising it would take longer than it
# ever runs.
install_cargo_deny() {
    [ -x "$cargo_deny" ] || env -u CARGO_TARGET_DIR cargo install --locked --quiet --debug cargo-deny \
        --version "=$cargo_deny_version" --root "${cargo_deny%/bin/*}"
    "$cargo_deny" --version
}
