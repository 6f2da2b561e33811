#!/bin/sh
# Writes secrets.env beside this file, once: random keys, readable by you alone. Keep a copy apart from the backups.
set -eu
cd "$(dirname "$0")"
[ ! -e secrets.env ] || { echo "secrets.env is there already; it is not written again: its keys are in use" >&2; exit 1; }
umask 077
base64_key() { openssl rand -base64 32; }
hex_key() { openssl rand -hex "$1"; }
database=$(hex_key 24)
s3=$(hex_key 24)
cat > secrets.env.new <<SECRETS
POSTGRES_PASSWORD=$database
HELMR_DATABASE_URL=postgres://helmr:$database@postgres:5432/helmr
HELMR_SECRET_ENCRYPTION_KEY=$(base64_key)
HELMR_AUTH_SECRET=$(base64_key)
HELMR_ARTIFACT_ENCRYPTION_KEY=$(base64_key)
HELMR_CHECKPOINT_ENCRYPTION_KEY=$(base64_key)
HELMR_WORKER_BOOTSTRAP_TOKEN=$(hex_key 32)
HELMR_SETUP_TOKEN=$(hex_key 16)
ROOT_ACCESS_KEY=helmr
ROOT_SECRET_KEY=$s3
AWS_ACCESS_KEY_ID=helmr
AWS_SECRET_ACCESS_KEY=$s3
SECRETS
mv secrets.env.new secrets.env
echo "wrote $(pwd)/secrets.env"
