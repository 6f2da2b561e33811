#!/bin/sh
# Builds the addons for both processors beside this file; needed only when their sources change.
# Debian: apt-get install gcc-12 gcc-12-aarch64-linux-gnu
set -eu
cd "$(dirname "$0")"
flags="-Os -shared -fPIC -nostdlib -ffreestanding -fvisibility=hidden -fno-asynchronous-unwind-tables -Wall -Wextra -Werror
  -fno-stack-protector -fno-tree-loop-distribute-patterns
  -Wl,--build-id=none -Wl,--hash-style=both -Wl,-z,noexecstack -Wl,-z,norelro -Wl,-z,noseparate-code -s"
for name in reseed spawn; do
  # shellcheck disable=SC2086
  x86_64-linux-gnu-gcc-12 $flags -o "$name-x64.node" "$name.c"
  # shellcheck disable=SC2086
  aarch64-linux-gnu-gcc-12 $flags -Wl,-z,max-page-size=65536 -o "$name-arm64.node" "$name.c"
done
