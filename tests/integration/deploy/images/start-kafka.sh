#!/bin/sh
# What the image does when it is started without a command.
set -eu
/etc/confluent/docker/configure
kafka-storage format --ignore-formatted -t "$CLUSTER_ID" -c /etc/kafka/kafka.properties
exec /etc/confluent/docker/launch
