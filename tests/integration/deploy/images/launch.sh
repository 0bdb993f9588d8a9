#!/bin/sh
# The broker, in place of this shell.
exec java ${KAFKA_HEAP_OPTS:--Xmx384m} -Dlog4j2.configurationFile=/opt/kafka/log4j2.xml -cp '/opt/kafka/libs/*' \
    kafka.Kafka /etc/kafka/kafka.properties
