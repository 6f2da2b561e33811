#!/bin/sh
# Puts the binaries of node-pty (MIT licence, see LICENSE-node-pty) beside this file as pty-x64.node and pty-arm64.node. They
# are checked in, because npm installs only the one of the machine it runs on, and a guest may have another architecture.
# Needed only to change the version: put the new integrity here first (npm view PACKAGE@VERSION dist.integrity).
set -eu
cd "$(dirname "$0")"
version=1.1.0
fetch() {
  folder=$(mktemp -d)
  npm pack --silent --pack-destination "$folder" "@lydell/node-pty-linux-$1@$version" > /dev/null
  archive="$folder/lydell-node-pty-linux-$1-$version.tgz"
  found=$(openssl dgst -sha512 -binary "$archive" | base64 -w 0)
  if [ "$found" != "$2" ]; then
    echo "$archive has the integrity sha512-$found, not sha512-$2" >&2
    exit 1
  fi
  tar -xzOf "$archive" package/pty.node > "pty-$1.node"
  rm -r "$folder"
}
fetch x64 NcNqRTD14QT+vXcEuqSSvmWY+0+WUBn2uRE8EN0zKtDpIEr9d+YiFj16Uqds6QfcLCHfZmC+Ls7YzwTaqDnanA==
fetch arm64 yyDBmalCfHpLiQMT2zyLcqL2Fay4Xy7rIs8GH4dqKLnEviMvPGOK7LADVkKAsbsyXBSISL3Lt1m1MtxhPH6ckg==
