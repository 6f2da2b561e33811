#!/bin/sh
# Builds reseed-x64.node and reseed-arm64.node beside this file; needed only when reseed.c changes.
# Debian: apt-get install gcc-12 gcc-12-aarch64-linux-gnu
set -eu
cd "$(dirname "$0")"
flags="-Os -shared -fPIC -nostdlib -ffreestanding -fvisibility=hidden -fno-asynchronous-unwind-tables -Wall -Wextra -Werror
  -Wl,--build-id=none -Wl,--hash-style=both -Wl,-z,noexecstack -Wl,-z,norelro -Wl,-z,noseparate-code -s"
# shellcheck disable=SC2086
x86_64-linux-gnu-gcc-12 $flags -o reseed-x64.node reseed.c
# shellcheck disable=SC2086
aarch64-linux-gnu-gcc-12 $flags -Wl,-z,max-page-size=65536 -o reseed-arm64.node reseed.c
