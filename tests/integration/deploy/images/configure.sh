#!/bin/sh
# KAFKA_… variables become the broker's properties, as in the usual images.
set -eu
mkdir -p /etc/kafka
env | sed -n 's/^KAFKA_\([A-Z0-9_]*\)=\(.*\)$/\1 \2/p' | while read -r name value; do
    case "$name" in HEAP_OPTS) continue ;; esac
    printf '%s=%s\n' "$(printf '%s' "$name" | tr 'A-Z_' 'a-z.')" "$value"
done >/etc/kafka/kafka.properties
