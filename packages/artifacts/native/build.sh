#!/bin/sh
# Builds files-x64.node and files-arm64.node beside this file; needed only when files.c changes.
# Debian: apt-get install gcc-12 gcc-12-aarch64-linux-gnu
set -eu
cd "$(dirname "$0")"
flags="-O2 -shared -fPIC -nostdlib -ffreestanding -fno-builtin -fno-strict-aliasing -fno-stack-protector -fvisibility=hidden
  -fno-asynchronous-unwind-tables -Wall -Wextra -Werror
  -Wl,--build-id=none -Wl,--hash-style=both -Wl,-z,noexecstack -Wl,-z,norelro -Wl,-z,noseparate-code -s"
# shellcheck disable=SC2086
x86_64-linux-gnu-gcc-12 $flags -o files-x64.node files.c
# shellcheck disable=SC2086
aarch64-linux-gnu-gcc-12 $flags -mno-outline-atomics -Wl,-z,max-page-size=65536 -o files-arm64.node files.c
